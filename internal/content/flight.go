package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
)

const (
	// heldBack is how many of the last bytes of a download clients get only when all of it was checked and stored, so
	// that a wrong file never looks complete.
	heldBack = 64 << 10
	// maxOrphans is how many downloads go on though no client waits for them any more.
	maxOrphans = 32
	// pieceSize is how much of a download is read at once; it is the size that is hashed fastest.
	pieceSize = 128 << 10
)

// A flightKey names what is downloaded: a content artifact, or a URL of a remote.
type flightKey struct {
	contentArtifact pulp.ID
	remote          pulp.ID
	url             string
}

// An order is what a flight has to do.
type order struct {
	domain pulp.Domain
	cid    string // correlation id of who ordered it, for the log
	// stored returns the file if it was stored meanwhile, else nil. It may be nil.
	stored func(ctx context.Context) (*Entry, error)
	// sources are where the file may be had, best first.
	sources []source
	// keep makes the stored artifact what it is to be in the database. If it is nil, nothing is stored.
	keep func(ctx context.Context, a *pulp.Artifact) (*Entry, error)
	// failed notes that a source gave a wrong file. It may be nil.
	failed func(ctx context.Context, src source) error
}

// A source is a place to download from.
type source struct {
	id      pulp.ID // of the remote artifact, if there is one
	remote  pulp.ID
	url     string
	size    int64 // -1 if it is not known
	digests pulp.Digests
}

// A flight is one download, however many clients wait for it. It goes on when they leave.
type flight struct {
	s      *Server
	key    flightKey
	order  order
	cancel context.CancelFunc

	// Guarded by flights.mu:
	clients int
	orphan  bool // it is counted as such
	done    bool
	idle    chan struct{} // closed when it is done and the last client has left

	reading sync.RWMutex // held shared while staged bytes are read, and alone while they change their place

	mu    sync.Mutex
	wake  chan struct{} // closed at the next change of state
	state state
}

// A state is how far a flight is.
type state struct {
	begun    bool        // the upstream's header is there
	size     int64       // bytes; -1 if it is not known
	header   http.Header // the upstream's
	keep     bool        // the file is to be stored
	data     staged      // what was downloaded; nil while it is elsewhere
	readable int64       // how much of it clients may have

	ended bool
	entry *Entry // what was stored; nil if nothing was
	err   error
}

// staged is what [blob.Stage.Reader] returns.
type staged interface {
	io.ReaderAt
	io.Closer
}

// errStopping ends what is under way when the server is told to stop.
var errStopping = errs.E(errs.Unavailable, "The server is stopping.")

// flights are all downloads of a server.
type flights struct {
	base context.Context //nolint:containedctx // of the downloads, which outlive requests
	end  context.CancelFunc

	mu      sync.Mutex
	all     map[flightKey]*flight // those that clients may join
	orphans int
	ended   bool
	running sync.WaitGroup
}

func (fs *flights) start() {
	fs.base, fs.end = context.WithCancel(context.Background())
	fs.all = map[flightKey]*flight{}
}

// stop ends all downloads and waits for that.
func (fs *flights) stop() {
	fs.mu.Lock()
	fs.ended = true
	fs.mu.Unlock()
	fs.end()
	fs.running.Wait()
}

// join returns the flight to a file; it starts one if there is none. The caller leaves it in the end.
func (s *Server) join(key flightKey, o order) (*flight, error) {
	fs := &s.flights
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.ended {
		return nil, errStopping
	}
	f := fs.all[key]
	if f == nil {
		ctx, cancel := context.WithCancel(pulp.WithCall(fs.base, &pulp.Call{Domain: o.domain, CID: o.cid}))
		f = &flight{s: s, key: key, order: o, cancel: cancel, idle: make(chan struct{}), wake: make(chan struct{})}
		fs.all[key] = f
		fs.running.Go(func() { f.run(ctx) })
	}
	f.clients++
	fs.adopt(f)
	return f, nil
}

// leave is called by each client when it has what it wants, or gives up.
func (f *flight) leave() {
	fs := &f.s.flights
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.clients--; f.clients > 0 {
		return
	}
	st := f.now()
	switch {
	case f.done:
		close(f.idle)
	case st.begun && !st.keep, fs.orphans >= maxOrphans:
		fs.abandon(f)
	default:
		f.orphan = true
		fs.orphans++
	}
}

// finish is called when the flight's work is done. Nobody joins it after that.
func (fs *flights) finish(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.remove(f)
	f.done = true
	if f.clients == 0 {
		close(f.idle)
	}
}

// abandon ends a flight that nobody waits for.
func (fs *flights) abandon(f *flight) {
	fs.remove(f)
	f.cancel()
}

func (fs *flights) remove(f *flight) {
	if fs.all[f.key] == f {
		delete(fs.all, f.key)
	}
	fs.adopt(f)
}

// adopt counts a flight as one that is not an orphan.
func (fs *flights) adopt(f *flight) {
	if f.orphan {
		f.orphan = false
		fs.orphans--
	}
}

// now returns the flight's state.
func (f *flight) now() state {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *flight) update(change func(st *state)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
	close(f.wake)
	f.wake = make(chan struct{})
}

// await waits for a state.
func (f *flight) await(ctx context.Context, until func(st *state) bool) (state, error) {
	for {
		f.mu.Lock()
		st, wake := f.state, f.wake
		f.mu.Unlock()
		if until(&st) {
			return st, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
}

// move changes where the downloaded bytes are read; nil means nowhere, for now.
func (f *flight) move(data staged, change func(st *state)) {
	f.reading.Lock()
	defer f.reading.Unlock()
	if old := f.now().data; old != nil {
		_ = old.Close() // it was only read
	}
	f.update(func(st *state) {
		st.data = data
		change(st)
	})
}

// readAt reads downloaded bytes. ok is false when they are being moved.
func (f *flight) readAt(p []byte, off int64) (n int, ok bool, err error) {
	f.reading.RLock()
	defer f.reading.RUnlock()
	data := f.now().data
	if data == nil {
		return 0, false, nil
	}
	n, err = data.ReadAt(p, off)
	if n == len(p) {
		err = nil
	}
	return n, true, err
}

// run does the flight's work.
func (f *flight) run(ctx context.Context) {
	defer f.cancel()
	rest, err := f.fly(ctx)
	if err != nil && ctx.Err() != nil {
		err = errStopping
	}
	f.update(func(st *state) { st.ended, st.err = true, err })
	f.s.flights.finish(f)
	if rest == nil {
		return
	}
	select { // clients still read what was not stored
	case <-f.idle:
	case <-ctx.Done():
	}
	f.drop(rest)
}

// drop ends a stage that clients may be reading.
func (f *flight) drop(stage blob.Stage) {
	f.move(nil, func(*state) {})
	if err := stage.Close(); err != nil {
		f.s.Log.Warn("a staged file was not removed", slog.Any("error", err))
	}
}

// fly downloads the file from the first source that has it. A file that was not stored in the end is returned as the
// stage that holds it; the caller drops that.
func (f *flight) fly(ctx context.Context) (blob.Stage, error) {
	if f.order.stored != nil {
		e, err := f.order.stored(ctx)
		if e != nil || err != nil {
			f.update(func(st *state) { st.entry = e })
			return nil, err
		}
	}
	var last error = errNotFound
	for _, src := range f.order.sources {
		rest, err := f.try(ctx, src)
		if db.IsForeignKey(err) { // what was stored had been there, and was dropped at that moment
			rest, err = f.try(ctx, src)
		}
		if err == nil || ctx.Err() != nil {
			return rest, err
		}
		last = err
		f.s.Log.WarnContext(ctx, "no file from a source", slog.String("remote", src.remote.String()), slog.Any("error", err))
		if isWrong(err) && f.order.failed != nil {
			if err := f.order.failed(ctx, src); err != nil {
				return nil, err
			}
		}
		// A wrong file is not made good by a right one: as in Pulp, the client's answer breaks off, and the next
		// request goes to another source.
		if isWrong(err) || !isSources(err) || f.now().readable > 0 {
			return nil, err
		}
	}
	return nil, last
}

// isWrong says whether a source gave another file than it should.
func isWrong(err error) bool {
	e, ok := errors.AsType[*download.Error](err)
	return ok && (e.Reason == download.Checksum || e.Reason == download.Size)
}

// isSources says whether an error is the source's, and not of our database or disk.
func isSources(err error) bool {
	_, ok := errors.AsType[*download.Error](err)
	return ok || errs.Is(err, errs.Invalid) || errs.Is(err, errs.NotFound)
}

// try downloads the file from one source.
func (f *flight) try(ctx context.Context, src source) (rest blob.Stage, err error) {
	s := f.s
	remote, err := s.Remote(ctx, s.DB, src.remote)
	if err != nil {
		return nil, fmt.Errorf("load the remote: %w", err)
	}
	client, err := s.clients.get(remote, s.Download)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	resp, err := client.Open(ctx, download.Request{URL: src.url, Size: src.size, Digests: src.digests})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	stage, err := s.Blobs.Of(f.order.domain.ID).Stage(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if rest == nil {
			f.drop(stage) // does nothing to one that was stored
		}
	}()
	keep := f.order.keep != nil && remote.Policy != pulp.Streamed
	size := src.size
	if size < 0 {
		size = resp.Size
	}
	f.update(func(st *state) { st.begun, st.size, st.header, st.keep = true, size, resp.Header, keep })
	if !keep {
		s.flights.checkWanted(f)
	}
	if err := f.copy(resp.Body, stage); err != nil {
		return nil, err
	}
	if keep {
		return f.store(ctx, stage)
	}
	return f.release(stage)
}

// checkWanted abandons a flight that came to be one of those that nobody waits for and that are not kept.
func (fs *flights) checkWanted(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.clients == 0 {
		fs.abandon(f)
	}
}

// copy downloads into the stage, and lets clients have what is there, but for its end.
func (f *flight) copy(body io.Reader, stage blob.Stage) error {
	buf := make([]byte, pieceSize)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, err := stage.Write(buf[:n]); err != nil {
				return err
			}
			if readable := stage.Size() - heldBack; readable > 0 {
				if err := f.show(stage, func(st *state) { st.readable = readable }); err != nil {
					return err
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// show lets clients read a stage as far as it is now.
func (f *flight) show(stage blob.Stage, change func(st *state)) error {
	r, err := stage.Reader()
	if err != nil {
		return err
	}
	data, ok := r.(staged)
	if !ok {
		return fmt.Errorf("%T is no io.ReaderAt", r)
	}
	f.move(data, change)
	return nil
}

// release lets clients have all of a file that is right and is not stored.
func (f *flight) release(stage blob.Stage) (blob.Stage, error) {
	n := stage.Size()
	return stage, f.show(stage, func(st *state) { st.size, st.readable = n, n })
}

// store stores a file that is right. If that fails, clients get it all the same.
func (f *flight) store(ctx context.Context, stage blob.Stage) (rest blob.Stage, _ error) {
	f.move(nil, func(*state) {}) // the bytes are about to change their place
	a, err := f.s.Save(ctx, stage)
	var e *Entry
	if err == nil {
		e, err = f.order.keep(ctx, a)
	}
	if err == nil {
		f.update(func(st *state) { st.entry = e })
		return nil, nil
	}
	if ctx.Err() != nil || db.IsForeignKey(err) { // the server stops, or the file is gone
		return nil, err
	}
	f.s.Log.ErrorContext(ctx, "a downloaded file was not stored", slog.Any("error", err))
	if rest, rerr := f.release(stage); rerr == nil {
		return rest, nil
	}
	// It is in the store, and what failed was the database.
	e = &Entry{SHA256: stage.Digests()[pulp.SHA256], Size: stage.Size(), Created: f.s.Now.Now()}
	f.update(func(st *state) { st.entry = e })
	return nil, nil
}
