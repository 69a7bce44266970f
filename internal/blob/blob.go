// Package blob keeps files by key: artifacts under their sha256, upload chunks and task input under an id.
// A blob is written whole or not at all, is never changed, and is gone only when it is deleted.
// The implementations are in subpackages; each passes blob/blobtest.
package blob

import (
	"context"
	"io"
	"time"

	"granary/internal/pulp"
)

// A Store keeps blobs under slash-separated keys, as "artifact/ab/cdef…".
type Store interface {
	// Stage starts a new blob.
	Stage(ctx context.Context) (Stage, error)

	// Open returns the blob. A missing blob gives an error of kind errs.NotFound.
	Open(ctx context.Context, key string) (File, error)

	// Stat returns what is known of the blob without reading it, errs.NotFound if there is none.
	Stat(ctx context.Context, key string) (Info, error)

	// Delete removes the blob. Removing a missing blob is not an error.
	Delete(ctx context.Context, key string) error

	// List calls f for each blob whose key starts with prefix, in no order. Staged blobs are not listed.
	List(ctx context.Context, prefix string, f func(Info) error) error
}

// A File is an open blob. On a local disk it is also an *os.File, so that sendfile works; see [OSFile].
type File interface {
	io.ReadSeekCloser
	Info() Info
}

// Info describes a stored blob.
type Info struct {
	Key     string
	Size    int64 // bytes
	ModTime time.Time
}

// A Stage is a blob that is being written. All digests that the store was told of are computed on the way.
// The caller ends it with Commit or Close; Close after Commit does nothing.
type Stage interface {
	io.Writer

	// Size returns the number of bytes written so far.
	Size() int64

	// Digests returns the digests of the bytes written so far.
	Digests() pulp.Digests

	// Reader reads what was written, from its beginning. The caller closes it before Commit.
	Reader() (io.ReadSeekCloser, error)

	// Reset drops what was written, so that a failed download can start over.
	Reset() error

	// Commit makes the blob durable under the key, at once: a reader sees all of it or nothing. Where the key has
	// a blob of the same size already, that one stays.
	Commit(ctx context.Context, key string) error

	// Close drops the blob unless it was committed.
	Close() error
}

// ArtifactKey returns the key of an artifact: "artifact/ab/cdef…", with the domain's id in between in every
// domain but the default one. It is also what the API shows as an artifact's file.
func ArtifactKey(d pulp.Domain, sha256 string) string {
	if d.Name == pulp.DefaultDomain {
		return "artifact/" + sha256[:2] + "/" + sha256[2:]
	}
	return "artifact/" + d.ID.String() + "/" + sha256[:2] + "/" + sha256[2:]
}
