package postgres

import (
	"math"
	"testing"

	"github.com/rowcall/rowcall/store"
)

func TestNoTwoSourcesOfALogHaveAGenerationInCommon(t *testing.T) {
	t.Parallel()
	if a, b := nextGeneration(1, 0), nextGeneration(1, 1); a != 1 || b != 2 {
		t.Errorf("the first source counts %d, %d", a, b)
	}
	seen := map[int32]store.SourceID{}
	for id := store.SourceID(1); id <= 300; id++ {
		generation := int32(0)
		for range 50 {
			next := nextGeneration(id, generation)
			if other, taken := seen[next]; taken || next <= generation {
				t.Fatalf("source %d has generation %d after %d, which source %d has too", id, next, generation, other)
			}
			seen[next], generation = id, next
		}
	}
	if g := nextGeneration(math.MaxInt32, 0); g < 1 {
		t.Errorf("the last id gives generation %d", g)
	}
}
