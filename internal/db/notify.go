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

// Notify tells all who [DB.Listen] on the channel, on every process, once the transaction is durable.
// The payload is at most 7,000 bytes.
func (t *Tx) Notify(ctx context.Context, channel, payload string) error {
	if t.db.engine == PostgreSQL {
		_, err := t.Exec(ctx, "SELECT pg_notify(?, ?)", channel, payload)
		return err
	}
	t.AfterCommit(func() { t.db.bus.send(channel, payload) })
	return nil
}

// Listen calls got for each notification on the channels until ctx ends. got must return quickly.
// After the connection was lost and is there again, got is called once with an empty channel: anything may
// have been missed.
func (d *DB) Listen(ctx context.Context, channels []string, got func(channel, payload string)) {
	if d.engine == SQLite {
		l := &listener{map[string]bool{}, got}
		for _, c := range channels {
			l.channels[c] = true
		}
		d.bus.add(l)
		<-ctx.Done()
		d.bus.remove(l)
		return
	}
	lost := false
	for ctx.Err() == nil {
		_ = postgres.Listen(ctx, d.dsn, channels, func() {
			if lost {
				got("", "")
			}
		}, got)
		lost = true
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (b *bus) add(l *listener) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listeners == nil {
		b.listeners = map[*listener]struct{}{}
	}
	b.listeners[l] = struct{}{}
}

func (b *bus) remove(l *listener) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.listeners, l)
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
