// Package blob keeps files by key: artifacts under their sha256, upload chunks and task input under an id.
// A blob is written whole or not at all, is never changed, and is gone only when it is deleted.
// The implementations are in subpackages; each passes blob/blobtest.
package blob

import (
	"context"
	"io"
	"os"
	"time"

	"granary/internal/pulp"
)

// A Store keeps blobs under slash-separated keys, as "artifact/ab/cdef…". A key that [CheckKey] refuses gives an
// error of kind errs.Invalid. All methods may be called at the same time.
type Store interface {
	// Stage starts a new blob.
	Stage(ctx context.Context) (Stage, error)

	// Open returns the blob. A missing blob gives an error of kind errs.NotFound.
	Open(ctx context.Context, key string) (File, error)

	// Stat returns what is known of the blob without reading it, errs.NotFound if there is none.
	Stat(ctx context.Context, key string) (Info, error)

	// Delete removes the blob. Removing a missing blob is not an error.
	Delete(ctx context.Context, key string) error

	// List calls f for each blob whose key starts with prefix, in no order, and ends with the first error that f
	// returns. Staged blobs are not listed; one that is committed or deleted meanwhile may be or not. f may
	// delete the blob that it is told of.
	List(ctx context.Context, prefix string, f func(Info) error) error
}

// Stores are the stores of all domains.
type Stores interface {
	// Of returns the store of a domain. It is opened when it is used first, and it stays the domain's store when the domain
	// moves elsewhere: a blob that is committed then goes to the new place.
	Of(domain pulp.ID) Store

	// Stage starts a new blob of the call's domain.
	Stage(ctx context.Context) (Stage, error)
}

// MoveLock names the lock that keeps a domain's blobs where they are. Whoever stores one holds it shared until the row that
// names the blob is durable; whoever moves the domain to another store holds it alone.
func MoveLock(domain pulp.ID) string { return "store of " + domain.String() }

// Single are stores of which there is but one, whatever the domain.
type Single struct{ Store }

// Of returns the store.
func (s Single) Of(pulp.ID) Store { return s.Store }

// A File is an open blob. On a local disk it is also an [OSFile].
type File interface {
	io.ReadSeekCloser
	Info() Info
}

// An OSFile is a File on a local disk. Whoever sends it to a client asks for the *os.File, because the kernel's
// sendfile is used for that type only. It shares the File's offset, and is closed by closing the File.
type OSFile interface {
	OSFile() *os.File
}

// Info describes a stored blob.
type Info struct {
	Key     string
	Size    int64     // bytes
	ModTime time.Time // of the last Commit under the key, also one that found the blob there
}

// A Stage is a blob that is being written. All digests that the store was told of are computed on the way.
// The caller ends it with Commit or Close; Close after Commit does nothing. A Stage is used by one goroutine at a time.
//
// A full disk gives an error of kind errs.Unavailable that says so.
type Stage interface {
	io.Writer

	// Size returns the number of bytes written so far, also after Commit.
	Size() int64

	// Digests returns the digests of the bytes written so far, also after Commit.
	Digests() pulp.Digests

	// Reader reads what was written until now, from its beginning. It is an [io.ReaderAt] too, for the formats
	// whose index is at their end. The caller closes it before Commit.
	Reader() (io.ReadSeekCloser, error)

	// Reset drops what was written, so that a failed download can start over.
	Reset() error

	// Commit makes the blob durable under the key, at once: a reader sees all of it or nothing. Where the key has
	// a blob of the same size already, that one stays; one of another size is damaged and is replaced. After an
	// error the Stage is as it was, or ended.
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
