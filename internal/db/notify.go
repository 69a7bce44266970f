package db

import (
	"context"
	"sync"
	"time"

	"granary/internal/db/postgres"
)

// A bus carries notifications between the goroutines of one process.
type bus struct {
	mu        sync.Mutex
	listeners map[*listener]struct{}
}

type listener struct {
	channels map[string]bool
	got      func(channel, payload string)
}

// Notify tells all who [DB.Listen] or [DB.Follow] the channel, on every process, once the transaction is durable.
// The payload is at most 7,000 bytes.
func (t *Tx) Notify(ctx context.Context, channel, payload string) error {
	t.AfterCommit(func() { t.db.bus.send(channel, payload) })
	if t.db.engine == PostgreSQL {
		_, err := t.Exec(ctx, "SELECT pg_notify(?, ?)", channel, payload)
		return err
	}
	return nil
}

// Listen calls got for each notification on the channels until ctx ends. got must return quickly.
// After the connection was lost and is there again, got is called once with an empty channel: anything may
// have been missed.
func (d *DB) Listen(ctx context.Context, channels []string, got func(channel, payload string)) {
	if d.engine == SQLite {
		defer d.bus.listen(channels, got)()
		<-ctx.Done()
		return
	}
	d.listenPostgres(ctx, channels, func(lost bool) {
		if lost {
			got("", "")
		}
	}, got)
}

// Follow is Listen for those who keep copies of what the notifications are about. It calls got with an empty channel
// each time when it begins to listen, the first time too. What this process does itself it tells before [DB.Update]
// returns; on PostgreSQL it may tell it twice. got may be called from several goroutines at once.
func (d *DB) Follow(ctx context.Context, channels []string, got func(channel, payload string)) {
	defer d.bus.listen(channels, got)()
	if d.engine == SQLite {
		got("", "")
		<-ctx.Done()
		return
	}
	d.listenPostgres(ctx, channels, func(bool) { got("", "") }, got)
}

// listenPostgres tells what any process does. It calls ready each time when it begins to listen, and says whether
// something may have been missed before.
func (d *DB) listenPostgres(ctx context.Context, channels []string, ready func(lost bool), got func(channel, payload string)) {
	for lost := false; ctx.Err() == nil; lost = true {
		_ = postgres.Listen(ctx, d.dsn, channels, func() { ready(lost) }, got)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// listen tells got what this process does, until stop is called.
func (b *bus) listen(channels []string, got func(channel, payload string)) (stop func()) {
	l := &listener{map[string]bool{}, got}
	for _, c := range channels {
		l.channels[c] = true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listeners == nil {
		b.listeners = map[*listener]struct{}{}
	}
	b.listeners[l] = struct{}{}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners, l)
	}
}

func (b *bus) send(channel, payload string) {
	b.mu.Lock()
	list := make([]*listener, 0, len(b.listeners))
	for l := range b.listeners {
		if l.channels[channel] {
			list = append(list, l)
		}
	}
	b.mu.Unlock()
	for _, l := range list {
		l.got(channel, payload)
	}
}
