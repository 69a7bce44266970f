package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// localPath returns the path of a file:// URL. As Pulp does: nothing in it is unescaped, and a host is part of the path.
func localPath(rawURL string) string {
	_, path, _ := strings.Cut(rawURL, ":")
	return strings.TrimPrefix(path, "//")
}

// A place is a local file below one of the import paths, with all symbolic links resolved.
type place struct{ root, path string }

// importRoot finds the import path that a local file lies in. The error's text is the one that clients know.
func importRoot(path string, importPaths []string) (place, error) {
	if !filepath.IsAbs(path) {
		return place{}, fmt.Errorf("The path '%s' needs to be an absolute pathname.", path) //nolint:revive // this is the text that clients see
	}
	if real, err := realPath(path); err == nil {
		for _, root := range importPaths {
			if !filepath.IsAbs(root) {
				continue
			}
			if root, err := realPath(root); err == nil && below(root, real) {
				return place{root, real}, nil
			}
		}
	}
	return place{}, fmt.Errorf("The path '%s' does not start with any of the allowed import paths", path)
}

func below(root, path string) bool {
	return path == root || strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/")
}

// realPath resolves all symbolic links of an absolute path. What does not exist is kept as it is.
func realPath(path string) (string, error) {
	const maxLinks, maxLength = 40, 1 << 14
	done := "/"
	for links := 0; path != ""; {
		if len(path) > maxLength || links > maxLinks {
			return "", syscall.ELOOP
		}
		var part string
		part, path, _ = strings.Cut(path, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			done = filepath.Dir(done)
			continue
		}
		next := filepath.Join(done, part)
		target, err := os.Readlink(next)
		if err != nil { // no link, or nothing at all
			done = next
			continue
		}
		links++
		if filepath.IsAbs(target) {
			done = "/"
		}
		path = target + "/" + path
	}
	return done, nil
}

// openLocal opens the file of a file:// URL. Links that were put there since its path was resolved cannot lead out of the
// import path, and a pipe does not block.
func (c *Client) openLocal(j *job) (*os.File, error) {
	at, err := importRoot(j.path, c.o.ImportPaths)
	if err != nil {
		return nil, j.fail(Forbidden, err.Error(), nil)
	}
	dir, name := at.root, strings.TrimPrefix(strings.TrimPrefix(at.path, at.root), "/")
	if name == "" { // the import path is a file
		dir, name = filepath.Split(at.path)
	}
	f, err := openIn(dir, name)
	if err == nil {
		var info os.FileInfo
		if info, err = f.Stat(); err == nil {
			switch {
			case info.Mode().IsRegular():
				return f, nil
			case info.IsDir():
				err = syscall.EISDIR
			default:
				err = errors.New("not a regular file")
			}
		}
		f.Close() //nolint:errcheck // nothing was written
	}
	return nil, j.localFailure(err)
}

func openIn(dir, name string) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // the file has its own descriptor
	return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func (j *job) localFailure(err error) *Error {
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		text := no.Error()
		return j.fail(Local, fmt.Sprintf("[Errno %d] %s: %s", int(no), strings.ToUpper(text[:1])+text[1:], repr(j.path)), nil)
	}
	return j.fail(Local, "Cannot read "+repr(j.path), err)
}

// copyLocal is Get for a local file: one attempt.
func (c *Client) copyLocal(ctx context.Context, j *job, into sink) (*Response, error) {
	resp, err := c.openLocalStream(ctx, j)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing was written
	v, err := c.copyBody(j, resp.Body.(*localStream).src, into)
	if err != nil {
		return nil, err
	}
	resp.Size, resp.Digests, resp.Body = v.size, into.Digests(), nil
	return resp, nil
}

func (c *Client) openLocalStream(ctx context.Context, j *job) (*Response, error) {
	f, err := c.openLocal(j)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close() //nolint:errcheck // nothing was written
		return nil, j.localFailure(err)
	}
	if j.MaxSize > 0 && info.Size() > j.MaxSize {
		f.Close() //nolint:errcheck // nothing was written
		return nil, j.tooLarge()
	}
	src := readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, j.canceled(err)
		}
		n, err := f.Read(p)
		if err != nil && err != io.EOF {
			err = j.localFailure(err)
		}
		return n, err
	})
	return &Response{
		URL:    j.shown,
		Status: http.StatusOK,
		Header: http.Header{},
		Size:   info.Size(),
		Body:   &localStream{src: src, v: newVerifier(j, nil), Closer: f},
	}, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A localStream is a local file whose digests and size are checked when it was read to its end.
type localStream struct {
	src io.Reader
	v   *verifier
	io.Closer
	end error
}

func (s *localStream) Read(p []byte) (int, error) {
	if s.end != nil || len(p) == 0 {
		return 0, s.end
	}
	n, err := s.src.Read(p)
	if n > 0 {
		if s.end = s.v.take(p[:n], 0); s.end != nil {
			return 0, s.end
		}
	}
	if err == io.EOF {
		if e := s.v.check(nil); e != nil {
			err = e
		}
	}
	s.end = err
	return n, err
}
