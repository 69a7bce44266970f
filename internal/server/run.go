package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"granary/internal/db"
	"granary/internal/task"
)

// Addresses are where a process listens; empty ones are not listened on.
type Addresses struct {
	Main  string // the API and content
	Debug string // profiles and metrics, for a local address
}

// Run runs the server's roles until ctx ends, then lets requests and tasks finish within their time. ready is called
// with the main address once it answers.
func (s *Server) Run(ctx context.Context, at Addresses, ready func(addr string)) error {
	main, err := listen(ctx, at.Main)
	if err != nil {
		return err
	}
	debug, err := listen(ctx, at.Debug)
	if err != nil {
		return err
	}
	// what serves ends first, what it stands on after that
	base, stopBase := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBase()
	below, belowCtx := errgroup.WithContext(base)
	if s.Roles.Content {
		below.Go(func() error { s.Content.Run(belowCtx); return nil })
		below.Go(func() error {
			return task.Heartbeat(belowCtx, s.DB, s.Now, task.App{Type: "content", Name: ProcessName(s.Settings.WorkerNameTemplate), Versions: s.versions(), TTL: s.Settings.ContentAppTTL})
		})
	}
	if s.Roles.API || s.Roles.Workers > 0 {
		if s.Roles.Workers > 0 {
			if err := s.Tasks.SetSchedules(ctx, Schedules(s.Settings)); err != nil {
				return err
			}
		}
		below.Go(func() error { return s.Tasks.Run(belowCtx) })
	}
	below.Go(func() error { return s.lines.Run(belowCtx) })
	below.Go(func() error { s.Blobs.Run(belowCtx); return nil })
	if s.DB.Engine() == db.SQLite {
		below.Go(func() error { return s.control(belowCtx) })
	}
	serving, servingCtx := errgroup.WithContext(ctx)
	if main != nil {
		serving.Go(func() error { return serve(servingCtx, main, s.handler(), s.Log) })
		if ready != nil {
			ready(main.Addr().String())
		}
	}
	if debug != nil {
		serving.Go(func() error { return serve(servingCtx, debug, s.HTTP.Debug(), s.Log) })
	}
	serving.Go(func() error { // a failure below ends the serving
		select {
		case <-servingCtx.Done():
			return nil
		case <-belowCtx.Done():
			return errors.New("a part of the server ended")
		}
	})
	err = serving.Wait()
	if s.Roles.Workers > 0 {
		s.Log.InfoContext(ctx, "stopping once the running tasks have ended; a second signal stops at once", slog.Duration("limit", s.Settings.TaskGraceInterval))
	}
	stopBase()
	if berr := below.Wait(); berr != nil && !errors.Is(berr, context.Canceled) {
		return berr
	}
	return err
}

func (s *Server) versions() map[string]string {
	m := map[string]string{}
	for _, c := range Versions(s.Plugins) {
		m[c.Name] = c.Version
	}
	return m
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// handler sends each request to the role that its path is of.
func (s *Server) handler() http.Handler {
	prefix := strings.TrimSuffix(s.Settings.ContentPathPrefix, "/")
	rest := s.HTTP.Handler()
	if !s.Roles.API {
		rest = http.NotFoundHandler()
	}
	files := s.HTTP.ObserveContent(s.Content)
	return s.unforged(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		after, ok := strings.CutPrefix(r.URL.Path, prefix)
		switch {
		case !ok || after != "" && after[0] != '/' || !s.Roles.Content:
			rest.ServeHTTP(w, r)
		case after == "":
			http.Redirect(w, r, prefix+"/", http.StatusMovedPermanently)
		default:
			files.ServeHTTP(w, r)
		}
	}))
}

// serve serves until ctx ends, then lets the running requests finish.
func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 128 << 10, // a certificate may be 64 KiB of it
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // a client that breaks off is nothing to act on
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	err := server.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-done
	return err
}

// socketPath is where the commands of the manager reach a running server that owns an SQLite file, until done is called.
func socketPath(data string) (path string, done func() error, err error) {
	const longest = 107 // that a socket's address can be
	dir := filepath.Join(data, "db")
	path = filepath.Join(dir, "control.sock")
	if len(path) <= longest {
		return path, func() error { return nil }, nil
	}
	f, err := os.Open(dir) //nolint:gosec // the data folder is the administrator's choice
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), filepath.Base(path)), f.Close, nil
}
