package task

import (
	"context"
	"database/sql"
	"time"

	"granary/internal/db"
	"granary/internal/pulp"
)

// Stats says how far workers are behind.
type Stats struct {
	Unblocked int           // tasks that have been ready for more than 5 s and do not run
	Longest   time.Duration // for how long the first of these has been ready
}

const lateAfter = 5 * time.Second

// Statistics reads the queue's Stats.
func Statistics(ctx context.Context, q db.Querier, now pulp.Time) (s Stats, err error) {
	var first sql.NullInt64
	err = q.QueryRow(ctx, "SELECT count(*), min(unblocked_at) FROM core_task WHERE state = 'waiting' AND unblocked_at IS NOT NULL AND unblocked_at < ?",
		int64(now)-lateAfter.Microseconds()).Scan(&s.Unblocked, &first)
	if first.Valid {
		s.Longest = time.Duration(int64(now)-first.Int64) * time.Microsecond
	}
	return s, err
}
