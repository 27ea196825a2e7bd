package store

import (
	"strconv"
	"strings"
)

// Overflow is a key that has more events waiting than deliveries are written for.
// Of its events below From each has ended, or has a delivery; all others are owed,
// though no row names them. The log keeps them.
type Overflow struct {
	Key  string
	From Offset        // in a settlement 0: the key has overflowed no more
	Skip []OffsetRange // not owed: given up with what the lane held; not read in a settlement
}

const (
	// keyDigest finds the row of a key u.key: a key may be longer than an index takes.
	keyDigest = `sha256(convert_to(u.key, 'UTF8'))`

	dropOverflowsSQL = `
DELETE FROM rowcall.overflows o
USING unnest($3::integer[], $4::bigint[], $5::text[]) AS u (lane, epoch, key), rowcall.cursors c
WHERE o.lane = u.lane AND o.digest = ` + keyDigest + `
  AND c.lane = u.lane AND c.epoch = u.epoch AND c.owner = $1 AND ` + ourLease

	saveOverflowsSQL = `
INSERT INTO rowcall.overflows (lane, digest, key, "from")
SELECT u.lane, ` + keyDigest + `, u.key, u."from"
FROM unnest($3::integer[], $4::bigint[], $5::text[], $6::bigint[]) AS u (lane, epoch, key, "from")
JOIN rowcall.cursors c ON c.lane = u.lane AND c.epoch = u.epoch AND c.owner = $1
WHERE ` + ourLease + `
ON CONFLICT (lane, digest) DO UPDATE SET "from" = excluded."from"`

	// laneOverflows is of a lane c: keys, and beside it from where.
	laneOverflows = `ARRAY(SELECT o.key FROM rowcall.overflows o WHERE o.lane = c.lane ORDER BY o.key),
  ARRAY(SELECT o."from" FROM rowcall.overflows o WHERE o.lane = c.lane ORDER BY o.key),
  ARRAY(SELECT o.skip::text FROM rowcall.overflows o WHERE o.lane = c.lane ORDER BY o.key)`

	// What is given up next to each other is one range.
	skipOverflowsSQL = `
UPDATE rowcall.overflows SET skip = CASE WHEN skip[cardinality(skip)] = ($2::bigint[])[1]
  THEN skip[:cardinality(skip) - 1] || ($2::bigint[])[2:] ELSE skip || $2::bigint[] END
WHERE lane = $1`
)

// overflowRows are the overflows of a settlement, turned into columns.
type overflowRows struct {
	lanes  []int32
	epochs []int64
	keys   []string
	froms  []int64
}

func (r *overflowRows) add(l *LaneSettlement, o *Overflow) {
	r.lanes, r.epochs = append(r.lanes, int32(l.Lane)), append(r.epochs, l.Epoch)
	r.keys, r.froms = append(r.keys, cleanText(o.Key)), append(r.froms, int64(o.From))
}

// overflowsOf are the overflows of a lane, of its row's columns.
func overflowsOf(keys []string, froms []int64, skips []string) (all []Overflow) {
	for i, key := range keys {
		var flat []int64
		for text := range strings.SplitSeq(strings.Trim(skips[i], "{}"), ",") {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				flat = append(flat, n)
			}
		}
		all = append(all, Overflow{Key: key, From: Offset(froms[i]), Skip: pairs(flat)})
	}
	return all
}

// without is what of a range is in none of ranges, which rise.
func without(of OffsetRange, ranges []OffsetRange) (left []OffsetRange) {
	for _, r := range ranges {
		if r.From > of.From {
			left = append(left, OffsetRange{of.From, min(r.From, of.Past)})
		}
		of.From = max(of.From, r.Past)
	}
	if of.From < of.Past {
		left = append(left, of)
	}
	return left
}
