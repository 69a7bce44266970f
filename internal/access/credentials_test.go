package access

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"granary/internal/errs"
)

// TestFloods: of a flood of logins, few are checked at once, some wait for their turn, the others are refused; what is known already
// is none of these.
func TestFloods(t *testing.T) {
	c := newCredentials(time.Now, 2)
	known := c.key("u", "hash", "password")
	c.remember(known, true)
	var checks sync.WaitGroup
	var running, most, right atomic.Int32
	free, begun := make(chan struct{}), make(chan struct{}, maxChecks)
	for i := range maxChecks {
		checks.Go(func() {
			ok, err := c.check(c.key(fmt.Sprint(i), "hash", "password"), func() (bool, error) {
				most.Store(max(most.Load(), running.Add(1)))
				begun <- struct{}{}
				<-free
				running.Add(-1)
				return true, nil
			})
			if ok && err == nil {
				right.Add(1)
			}
		})
	}
	for range 2 {
		<-begun
	}
	for len(c.queue) < maxChecks {
		time.Sleep(time.Millisecond)
	}
	if _, err := c.check(c.key("late", "hash", "password"), func() (bool, error) { return true, nil }); !errs.Is(err, errs.Unavailable) {
		t.Errorf("one too many: %v", err)
	}
	if right, ok := c.recall(known); !right || !ok {
		t.Error("what was known is forgotten")
	}
	close(free)
	checks.Wait()
	if most.Load() != 2 || right.Load() != maxChecks {
		t.Errorf("%d checks ran at once, want 2; %d were right, want %d", most.Load(), right.Load(), maxChecks)
	}
	if ok, err := c.check(c.key("late", "hash", "password"), func() (bool, error) { return true, nil }); !ok || err != nil {
		t.Errorf("afterwards: %v, %v", ok, err)
	}
}
