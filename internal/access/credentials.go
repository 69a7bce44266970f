package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// How long the outcome of a slow check is remembered, of how many credentials, and how many wrong ones a client may try for one user.
const (
	rememberRight = 5 * time.Minute
	rememberWrong = 30 * time.Second
	maxRemembered = 10_000
	wrongAtOnce   = 20 // and one a second after that
	maxChecks     = 64 // slow checks that run or wait for their turn
)

// A credential is what was verified: the user's name, the stored hash and the password, under a key that this process alone has
// and only for its own life. A new password makes a new hash, so that the old one is forgotten at once.
type credential [sha256.Size]byte

// An outcome is that of a slow check, until a time.
type outcome struct {
	right bool
	until time.Time
}

// credentials remembers outcomes and bounds the work of finding new ones.
type credentials struct {
	now    pulp.Clock
	secret [32]byte
	known  *otter.Cache[credential, outcome]
	flight singleflight.Group
	queue  chan struct{} // of slow checks that run or wait
	slots  chan struct{} // of those that run
	wrong  *otter.Cache[string, *bucket]
}

func newCredentials(now pulp.Clock, atOnce int) *credentials {
	c := &credentials{now: now, queue: make(chan struct{}, maxChecks), slots: make(chan struct{}, atOnce)}
	_, _ = rand.Read(c.secret[:]) // never fails
	inline := func(f func()) { f() }
	c.known = otter.Must(&otter.Options[credential, outcome]{MaximumSize: maxRemembered, Executor: inline})
	c.wrong = otter.Must(&otter.Options[string, *bucket]{MaximumSize: maxRemembered, Executor: inline})
	return c
}

func (c *credentials) key(name, hash, password string) credential {
	mac := hmac.New(sha256.New, c.secret[:])
	for _, s := range []string{name, hash, password} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		mac.Write(n[:])
		mac.Write([]byte(s))
	}
	return credential(mac.Sum(nil))
}

// recall returns what is known of a credential.
func (c *credentials) recall(k credential) (right, known bool) {
	o, ok := c.known.GetIfPresent(k)
	if !ok || !c.now().Before(o.until) {
		return false, false
	}
	return o.right, true
}

func (c *credentials) remember(k credential, right bool) {
	o := outcome{right, c.now().Add(rememberRight)}
	if !right {
		o.until = c.now().Add(rememberWrong)
	}
	c.known.Set(k, o)
}

// check runs a slow check, once for all who wait for the same one.
func (c *credentials) check(k credential, slow func() (bool, error)) (bool, error) {
	right, err, _ := c.flight.Do(string(k[:]), func() (any, error) {
		if right, known := c.recall(k); known {
			return right, nil
		}
		select {
		case c.queue <- struct{}{}:
			defer func() { <-c.queue }()
		default:
			return false, errs.E(errs.Unavailable, "Too many logins at once. Try again later.")
		}
		c.slots <- struct{}{}
		defer func() { <-c.slots }()
		right, err := slow()
		if err == nil {
			c.remember(k, right)
		}
		return right, err
	})
	ok, _ := right.(bool)
	return ok, err
}

// A bucket holds how many wrong credentials may still be tried; it fills up by one a second.
type bucket struct {
	mu     sync.Mutex
	tokens float64
	at     time.Time
}

// refill returns the tokens at a time. The caller holds the lock.
func (b *bucket) refill(now time.Time) float64 {
	b.tokens = min(wrongAtOnce, b.tokens+now.Sub(b.at).Seconds())
	b.at = now
	return b.tokens
}

// failures returns the bucket of a client and a user.
func (c *credentials) failures(name, addr string) *bucket {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	b, _ := c.wrong.SetIfAbsent(host+" "+name, &bucket{tokens: wrongAtOnce, at: c.now()})
	return b
}

func (b *bucket) empty(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refill(now) < 1
}

func (b *bucket) take(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now)
	b.tokens--
}

// Verify returns the user with this name and password. The error is of kind Unauthenticated where there is none or the user is not
// active, and Unavailable for a client (by its address) that has tried too many wrong passwords.
// It takes long, the first time, whether the user exists or not.
func (a *Access) Verify(ctx context.Context, name, password, addr string) (*pulp.User, error) {
	if len(password) > maxPassword || len(name) > maxPassword {
		return nil, errs.E(errs.Unauthenticated, msgWrong)
	}
	user, hash, err := a.load(ctx, name)
	if err != nil {
		return nil, err
	}
	if user == nil || len(hash) == 0 || hash[:1] == unusablePrefix {
		hash = a.decoy()
	}
	c := a.credentials
	k := c.key(name, hash, password)
	right, known := c.recall(k)
	if !known {
		failures := c.failures(name, addr)
		if failures.empty(c.now()) {
			return nil, errs.E(errs.Unavailable, "Too many failed logins. Try again later.")
		}
		right, err = c.check(k, func() (bool, error) { return a.slowCheck(ctx, user, hash, password) })
		if err != nil {
			return nil, err
		}
		if !right {
			failures.take(c.now())
		}
	}
	if !right || user == nil || !user.Active {
		return nil, errs.E(errs.Unauthenticated, msgWrong)
	}
	return user, nil
}

// slowCheck compares, and replaces the hash where it is weaker than new ones are.
func (a *Access) slowCheck(ctx context.Context, user *pulp.User, hash, password string) (bool, error) {
	ctx = context.WithoutCancel(ctx) // others may wait for the outcome
	check, err := parse(hash)
	if err != nil {
		a.Log.ErrorContext(ctx, "cannot check a password", slog.String("user", user.Name), slog.Any("error", err))
		return false, nil
	}
	if !check(password) {
		return false, nil
	}
	if user == nil || !a.outdated(hash) {
		return true, nil
	}
	fresh, err := a.Hash(password)
	if err == nil {
		err = a.DB.Update(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE auth_user SET password = ? WHERE id = ? AND password = ?", fresh, user.ID, hash)
			return err
		})
	}
	if err != nil {
		a.Log.ErrorContext(ctx, "cannot renew the hash of a password", slog.String("user", user.Name), slog.Any("error", err))
		return true, nil
	}
	a.credentials.remember(a.credentials.key(user.Name, fresh, password), true)
	return true, nil
}

// decoy returns a hash that no password has, and whose check takes as long as that of others.
func (a *Access) decoy() string {
	return fmt.Sprintf("pbkdf2_sha256$%d$%s$%s", a.Iterations, "nobody", "none")
}
