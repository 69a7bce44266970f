package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"granary/internal/blob"
	"granary/internal/content/mediatype"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// bufferSize is that of the pieces in which files are sent that sendfile is not used for.
const bufferSize = 64 << 10

// A file is a stored file and all that is said of it to clients. The slices are header values, made once.
type file struct {
	Entry
	domain   pulp.ID
	store    string // its key
	name     string // its path below the distribution
	modified time.Time
	etag     string

	mediaType, size, etags, lastModified []string
	more                                 http.Header // of the distribution's type

	sent atomic.Bool            // a page of it was sent before
	data atomic.Pointer[[]byte] // all of a small file that is asked for often, else nil
}

// inMemory is up to which size, in bytes, files that are asked for again are kept in memory. To open a file and to read
// it costs more than all the rest of such a request.
const inMemory = 16 << 10

// warm keeps a small file in memory, from the second time on that its page is sent.
func (s *Server) warm(ctx context.Context, key pageKey, p *page) {
	f := p.file
	if f.Size > inMemory || f.data.Load() != nil || !f.sent.Swap(true) {
		return
	}
	b, err := s.open(ctx, f)
	if err != nil {
		return // sendFile will meet that too
	}
	defer b.Close() //nolint:errcheck // it was only read
	data := make([]byte, f.Size)
	if _, err := io.ReadFull(b, data); err == nil {
		f.data.Store(&data)
		s.pages.Set(key, p) // which weighs more now
	}
}

func (s *Server) newFile(st *site, name string, e *Entry) *file {
	f := &file{
		Entry:     *e,
		domain:    st.domain.ID,
		store:     blob.ArtifactKey(st.domain.Domain, e.SHA256),
		name:      name,
		modified:  e.Created.Std().Truncate(time.Second),
		etag:      `"` + e.SHA256 + `"`,
		mediaType: []string{mediatype.Of(name)},
		size:      []string{strconv.FormatInt(e.Size, 10)},
	}
	f.etags = []string{f.etag}
	f.lastModified = []string{f.modified.Format(http.TimeFormat)}
	if st.serving.Headers != nil {
		f.more = st.serving.Headers(name)
	}
	return f
}

var acceptRanges = []string{"bytes"}

// describe sets the headers that every answer about the file has.
func (f *file) describe(h http.Header, cached []string) {
	h["Content-Type"] = f.mediaType
	h["X-PULP-ARTIFACT-SIZE"] = f.size
	if cached != nil {
		h["X-PULP-CACHE"] = cached
	}
	for name, values := range f.more {
		h[name] = values
	}
}

// sendFile sends a stored file, or the part of it that is asked for. One that is not in the store any more is fetched
// again from where it came, if repair is set.
func (s *Server) sendFile(w http.ResponseWriter, r *http.Request, st *site, key pageKey, f *file, cached []string, repair bool) error {
	h := w.Header()
	switch precondition(r.Header, f.etag, f.modified) {
	case http.StatusNotModified:
		f.describe(h, cached)
		h["Etag"], h["Last-Modified"] = f.etags, f.lastModified
		w.WriteHeader(http.StatusNotModified)
		return nil
	case http.StatusPreconditionFailed:
		f.describe(h, cached)
		h["Content-Length"] = []string{"0"}
		w.WriteHeader(http.StatusPreconditionFailed)
		return nil
	}
	from, to, status := int64(0), f.Size, http.StatusOK
	if want, ok := wantsRange(r.Header, f.etag, f.modified); ok {
		if from, to, ok = parseRange(want, f.Size); !ok {
			f.describe(h, cached)
			h["Content-Range"] = []string{"bytes */" + f.size[0]}
			h["Content-Length"] = []string{"0"}
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return nil
		}
		status = http.StatusPartialContent
	}
	data := f.data.Load()
	var b blob.File
	if data == nil {
		var err error
		b, err = s.open(r.Context(), f)
		switch {
		case errs.Is(err, errs.NotFound):
			s.Log.ErrorContext(r.Context(), "an artifact's file is missing or damaged", slog.String("artifact", f.Artifact.String()), slog.Any("error", err))
			if !repair {
				return errLost
			}
			return s.sendLost(w, r, st, key, f)
		case err != nil:
			return err
		}
		defer b.Close() //nolint:errcheck // it was only read
	}
	f.describe(h, cached)
	h["Etag"], h["Last-Modified"], h["Accept-Ranges"] = f.etags, f.lastModified, acceptRanges
	if status == http.StatusPartialContent {
		h["Content-Range"] = []string{contentRange(from, to, f.Size)}
		h["Content-Length"] = []string{strconv.FormatInt(to-from, 10)}
	} else {
		h["Content-Length"] = f.size
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	if data != nil {
		_, _ = w.Write((*data)[from:to]) // the client is gone, if that fails
		return nil
	}
	return s.copyBlob(w, r, b, from, to)
}

func contentRange(from, to, size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", from, to-1, size)
}

// open opens a stored file. The error is of kind NotFound if it is not there, or has another size.
func (s *Server) open(ctx context.Context, f *file) (blob.File, error) {
	b, err := s.Blobs.Of(f.domain).Open(ctx, f.store)
	if err != nil {
		return nil, err
	}
	if n := b.Info().Size; n != f.Size {
		b.Close() //nolint:errcheck // nothing was read
		return nil, &errs.Error{Kind: errs.NotFound, Err: fmt.Errorf("%s has %d bytes, not %d", f.store, n, f.Size)}
	}
	return b, nil
}

// small is up to which size, in bytes, a file is read to be sent: for so little, sendfile costs more calls than it saves.
const small = 32 << 10

// copyBlob sends a part of an open blob, after the header.
func (s *Server) copyBlob(w http.ResponseWriter, r *http.Request, b blob.File, from, to int64) error {
	var err error
	if from > 0 {
		_, err = b.Seek(from, io.SeekStart)
	}
	if err == nil && to-from <= small {
		buf := s.buffers.Get().(*[bufferSize]byte)
		defer s.buffers.Put(buf)
		if _, err = io.ReadFull(b, buf[:to-from]); err == nil {
			_, _ = w.Write(buf[:to-from]) // the client is gone, if that fails
			return nil
		}
	}
	if err == nil {
		var src io.Reader = b
		if o, ok := b.(blob.OSFile); ok {
			src = o.OSFile() // the type that net/http uses sendfile for
		}
		var n int64
		if n, err = io.Copy(w, io.LimitReader(src, to-from)); err == nil && n < to-from {
			err = io.ErrUnexpectedEOF
		}
	}
	if err == nil || r.Context().Err() != nil {
		return nil
	}
	level := slog.LevelDebug // most often the client is gone
	if errors.Is(err, io.ErrUnexpectedEOF) {
		level = slog.LevelError
	}
	s.Log.Log(r.Context(), level, "content request broke off", slog.String("path", r.URL.Path), slog.Any("error", err))
	panic(http.ErrAbortHandler) // the header promised more
}
