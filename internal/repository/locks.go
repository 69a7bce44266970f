package repository

import (
	"slices"
	"strconv"
	"sync"
)

// locks guard files by the first byte of their sha256.
type locks [256]sync.Mutex

// lock takes the locks of the digests, in one order everywhere, and returns what gives them back.
func (l *locks) lock(shas ...string) (unlock func()) {
	var taken []int
	for _, s := range shas {
		n, _ := strconv.ParseUint(s[:2], 16, 8)
		taken = append(taken, int(n))
	}
	slices.Sort(taken)
	taken = slices.Compact(taken)
	for _, n := range taken {
		l[n].Lock()
	}
	return func() {
		for _, n := range taken {
			l[n].Unlock()
		}
	}
}
