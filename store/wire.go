package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// wire is the appender's connection. It speaks PostgreSQL's protocol itself, to
// send everything of an append, a COPY in its midst, in one flight, the batch
// straight from its buffer; a driver waits for the server's answer twice more.
//
// It is for one goroutine at a time.
type wire struct {
	conn     net.Conn
	frontend *pgproto3.Frontend // reads only
	backend  backend
	tx       byte // transaction status as of the last ReadyForQuery
	broken   bool // an exchange failed half-way
	scratch  []byte
}

// backend identifies a server process: pids are used again.
type backend struct {
	pid   int32
	start time.Time
}

const backendSQL = `SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()`

// prepared are the statements of an append, by name.
var prepared = map[string]string{
	"begin":    `BEGIN`,
	"commit":   `COMMIT`,
	"rollback": `ROLLBACK`,
	"notify":   notifySQL,

	"lock_checkpoint": `SELECT ctid, commit_lsn, ordinal FROM rowcall.checkpoints WHERE source = $1 AND epoch = $2 FOR UPDATE`,
	"lock_head":       `SELECT ctid, next, partitioned_to FROM rowcall.log_head FOR UPDATE`,

	// Fails, as a cast of a text that says why, unless both rows are as they were
	// last seen; the values are compared beside ctid since a place is used again.
	"lock_lease": `SELECT '', 0, 0 FROM rowcall.leases WHERE instance = $1 AND epoch = $2`,

	"find_published":   `SELECT encode(id, 'hex'), "offset" FROM rowcall.published_ids WHERE id = ANY($1::bytea[])`,
	"insert_published": `INSERT INTO rowcall.published_ids (id, "offset") SELECT * FROM unnest($1::bytea[], $2::bigint[])`,

	"move": `
WITH c AS (
  UPDATE rowcall.checkpoints SET commit_lsn = $1, ordinal = $2, end_lsn = $3, commit_at = $4
  WHERE ctid = $5 AND source = $6 AND epoch = $7 AND commit_lsn = $8 AND ordinal = $9 RETURNING ctid),
h AS (
  UPDATE rowcall.log_head SET next = next + $10
  WHERE ctid = $11 AND next = $12 AND next + $10 <= partitioned_to AND EXISTS (SELECT FROM c) RETURNING ctid)
SELECT h.ctid, c.ctid,
  CASE WHEN n.n = 0 THEN ('rowcall: somebody else moved the head of the log; this append starts over ' || n.n)::integer END
FROM (SELECT count(*) AS n FROM h) n LEFT JOIN h ON true LEFT JOIN c ON true`,

	// The same without a checkpoint, for an instance that holds its lease.
	"move_head": `
WITH h AS (
  UPDATE rowcall.log_head SET next = next + $1
  WHERE ctid = $2 AND next = $3 AND next + $1 <= partitioned_to
    AND EXISTS (SELECT FROM rowcall.leases WHERE instance = $4 AND epoch = $5) RETURNING ctid)
SELECT h.ctid, '',
  CASE WHEN n.n = 0 THEN ('rowcall: somebody else moved the head of the log; this append starts over ' || n.n)::integer END
FROM (SELECT count(*) AS n FROM h) n LEFT JOIN h ON true`,
}

// movedCode is the SQLSTATE of that cast.
const movedCode = "22P02"

const copySQL = `COPY rowcall.events (` + eventColumns + `) FROM STDIN (FORMAT binary)`

// connectWire opens a connection. before runs on it as long as the driver has it.
func connectWire(ctx context.Context, url string, before func(context.Context, *pgconn.PgConn, backend) error) (_ *wire, err error) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse database url: %w", err)
	}
	harden(config)
	config.RuntimeParams["application_name"] = "rowcall append"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "10s"
	// These tables have one page when they are analysed and many when some
	// snapshot keeps their versions: a sequential scan is never the better plan.
	config.RuntimeParams["enable_seqscan"] = "off"
	config.RuntimeParams["enable_indexscan"] = "off"
	config.RuntimeParams["enable_bitmapscan"] = "off"
	// What has to scan a table all the same is thought to be expensive, and is not.
	config.RuntimeParams["jit"] = "off"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close(ctx)
		}
	}()
	for name, sql := range prepared {
		if _, err := conn.Prepare(ctx, name, sql, nil); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", name, err)
		}
	}
	var b backend
	said := conn.ExecParams(ctx, backendSQL, nil, nil, nil, []int16{pgproto3.BinaryFormat}).Read()
	if said.Err != nil {
		return nil, fmt.Errorf("read own backend: %w", said.Err)
	}
	if len(said.Rows) == 1 && len(said.Rows[0][0]) == 4 && len(said.Rows[0][1]) == 8 {
		b.pid = int32(binary.BigEndian.Uint32(said.Rows[0][0]))
		b.start = time.UnixMicro(int64(binary.BigEndian.Uint64(said.Rows[0][1])) + pgEpoch).UTC()
	}
	if err := before(ctx, conn, b); err != nil {
		return nil, err
	}
	hijacked, err := conn.Hijack()
	if err != nil {
		return nil, err
	}
	return &wire{conn: hijacked.Conn, frontend: hijacked.Frontend, backend: b, tx: hijacked.TxStatus}, nil
}

// idle reports whether the connection is fit for another transaction.
func (w *wire) idle() bool { return !w.broken && w.tx == 'I' }

// close ends the session. It does not wait for the server.
func (w *wire) close() {
	if !w.broken {
		_ = w.conn.SetDeadline(time.Now().Add(time.Second))
		terminate, _ := (&pgproto3.Terminate{}).Encode(nil)
		_, _ = w.conn.Write(terminate)
	}
	_ = w.conn.Close()
}

// lock begins a transaction, locks the source's checkpoint and the log's head,
// and reads them. ErrFenced where the checkpoint, or the instance's lease, is not
// the claim's any more.
// When it fails, there is no transaction.
func (w *wire) lock(ctx context.Context, claim SourceClaim) (headRow, checkpointRow, error) {
	m := messages{buf: w.scratch[:0]}
	m.execute("begin")
	if claim.ofInstance() {
		// A claim that is not locked: whoever takes the lease ends this connection.
		m.execute("lock_lease", claim.instance, claim.Epoch)
	} else {
		m.execute("lock_checkpoint", int64(claim.ID), claim.Epoch)
	}
	m.execute("lock_head")
	m.sync()
	replies, err := w.exchange(ctx, &m, nil, nil, 1)
	if err == nil && replies[0].err != nil {
		err = errors.Join(replies[0].err, w.rollback(ctx))
	}
	if err != nil {
		return headRow{}, checkpointRow{}, err
	}
	rows := replies[0].rows
	if len(rows) < 2 {
		return headRow{}, checkpointRow{}, errors.Join(ErrFenced, w.rollback(ctx))
	}
	row := checkpointRow{ctid: rows[0][0], epoch: claim.Epoch, at: Checkpoint{Commit: LSN(number(rows[0][1])), Ordinal: number(rows[0][2])}}
	head := headRow{ctid: rows[1][0], next: Offset(number(rows[1][1])), partitionedTo: Offset(number(rows[1][2]))}
	return head, row, nil
}

// writeArgs is what an append writes beside its events.
type writeArgs struct {
	begun  bool // by lock
	claim  SourceClaim
	head   headRow
	from   checkpointRow
	to     Checkpoint
	more   []statement
	notify Offset // tell other instances of this head; 0: there are none
}

// write sends the whole append and commits. It returns where the two rows stand
// now. errMoved: they were not as args says. When the server answered with an
// error, the transaction is rolled back; when it did not answer, the COMMIT is
// in doubt and the connection is broken.
func (w *wire) write(ctx context.Context, b *Batch, args writeArgs) (head, checkpoint string, err error) {
	front := messages{buf: w.scratch[:0]}
	if !args.begun {
		front.execute("begin")
	}
	if args.claim.ofInstance() {
		front.execute("move_head", int64(b.Len()), args.head.ctid, int64(args.head.next), args.claim.instance, args.claim.Epoch)
	} else {
		front.execute("move",
			int64(args.to.Commit), args.to.Ordinal, int64(args.to.End), nullTime(args.to.CommitAt),
			args.from.ctid, int64(args.claim.ID), args.claim.Epoch, int64(args.from.at.Commit), args.from.at.Ordinal,
			int64(b.Len()), args.head.ctid, int64(args.head.next))
	}
	front.sync()
	front.query(copySQL)
	front.copyData(copyHeader)
	var back messages
	back.copyData(copyTrailer)
	back.copyDone()
	for _, more := range args.more {
		if more.prepared != "" {
			back.execute(more.prepared, more.args...)
		} else {
			back.parseExecute(more)
		}
	}
	if args.notify > 0 {
		back.execute("notify", int64(args.notify))
	}
	back.execute("commit")
	back.sync()
	replies, err := w.exchange(ctx, &front, b.buf, &back, 3)
	if err != nil {
		return "", "", err
	}
	if moved := replies[0].err; moved != nil && moved.Code == movedCode {
		return "", "", errors.Join(errMoved, w.rollback(ctx))
	}
	for _, reply := range replies {
		if reply.err != nil {
			return "", "", errors.Join(reply.err, w.rollback(ctx))
		}
	}
	if tag := replies[2].tag; tag != "COMMIT" {
		return "", "", errors.Join(fmt.Errorf("commit answered %q", tag), w.rollback(ctx))
	}
	if len(replies[0].rows) != 1 {
		return "", "", fmt.Errorf("move answered %d rows", len(replies[0].rows))
	}
	return replies[0].rows[0][0], replies[0].rows[0][1], nil
}

// rollback ends the transaction where there is one.
func (w *wire) rollback(ctx context.Context) error {
	if w.broken || w.tx == 'I' {
		return nil
	}
	m := messages{buf: w.scratch[:0]}
	m.execute("rollback")
	m.sync()
	replies, err := w.exchange(ctx, &m, nil, nil, 1)
	if err == nil && replies[0].err != nil {
		err = replies[0].err
	}
	return err
}

// reply is what the server said up to one ReadyForQuery.
type reply struct {
	rows [][]string
	tag  string // of the last command
	err  *pgconn.PgError
}

// maxCopyData is the largest piece of a batch in one message: the server holds
// each in memory.
const maxCopyData = 1 << 20

// exchange sends front, the data of a COPY in pieces, and back, and reads until
// the server was ready n times. An error means that the connection is broken.
func (w *wire) exchange(ctx context.Context, front *messages, data []byte, back *messages, n int) (_ []reply, err error) {
	w.scratch = front.buf
	deadline, _ := ctx.Deadline() // zero: none
	if err := w.conn.SetDeadline(deadline); err != nil {
		w.broken = true
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		// Where the deadline was just moved by a cancelled context, the next
		// exchange could not undo it safely.
		if !stop() || err != nil {
			w.broken = true
		}
	}()
	if err := w.send(front, data, back); err != nil {
		// The server may have said why before it closed.
		if fatal := w.lastWords(); fatal != nil {
			return nil, fatal
		}
		return nil, fmt.Errorf("send: %w", err)
	}
	return w.receive(n)
}

func (w *wire) send(front *messages, data []byte, back *messages) error {
	buffers := net.Buffers{front.buf}
	for len(data) > 0 {
		n := min(len(data), maxCopyData)
		header := binary.BigEndian.AppendUint32([]byte{'d'}, uint32(4+n))
		buffers = append(buffers, header, data[:n])
		data = data[n:]
	}
	if back != nil {
		buffers = append(buffers, back.buf)
	}
	_, err := buffers.WriteTo(w.conn)
	return err
}

func (w *wire) receive(n int) ([]reply, error) {
	replies := make([]reply, 0, n)
	var current reply
	for {
		message, err := w.frontend.Receive()
		if err != nil {
			if current.err != nil { // FATAL
				return nil, current.err
			}
			return nil, fmt.Errorf("receive: %w", err)
		}
		switch message := message.(type) {
		case *pgproto3.DataRow:
			row := make([]string, len(message.Values))
			for i, value := range message.Values {
				row[i] = string(value)
			}
			current.rows = append(current.rows, row)
		case *pgproto3.CommandComplete:
			current.tag = string(message.CommandTag)
		case *pgproto3.ErrorResponse:
			if current.err == nil {
				current.err = pgconn.ErrorResponseToPgError(message)
			}
		case *pgproto3.ReadyForQuery:
			w.tx = message.TxStatus
			replies = append(replies, current)
			if len(replies) == n {
				return replies, nil
			}
			current = reply{}
		}
	}
}

// lastWords is the error that the server left in the connection before it
// closed it, if any.
func (w *wire) lastWords() *pgconn.PgError {
	for {
		message, err := w.frontend.Receive()
		if err != nil {
			return nil
		}
		if message, ok := message.(*pgproto3.ErrorResponse); ok {
			return pgconn.ErrorResponseToPgError(message)
		}
	}
}

// number reads a whole number that the server printed.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("the server printed %q for a whole number", text))
	}
	return n
}
