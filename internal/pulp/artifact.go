package pulp

import (
	"crypto/md5"  //nolint:gosec // old repositories name their files by it
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// An Algorithm is a digest's name in lower case, as the API spells it.
type Algorithm string

// The digests that an artifact can have, weakest first: the order in which clients are told of a mismatch.
const (
	MD5    Algorithm = "md5"
	SHA1   Algorithm = "sha1"
	SHA224 Algorithm = "sha224"
	SHA256 Algorithm = "sha256"
	SHA384 Algorithm = "sha384"
	SHA512 Algorithm = "sha512"
)

// Algorithms lists all of them, weakest first.
var Algorithms = [...]Algorithm{MD5, SHA1, SHA224, SHA256, SHA384, SHA512}

// New returns a fresh hash, or nil for an unknown algorithm.
func (a Algorithm) New() hash.Hash {
	switch a {
	case MD5:
		return md5.New() //nolint:gosec // see the import
	case SHA1:
		return sha1.New() //nolint:gosec // see the import
	case SHA224:
		return sha256.New224()
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	}
	return nil
}

// Digests holds lower-case hex digests of one file; a missing algorithm is one that is not known or not allowed.
type Digests map[Algorithm]string

// An Artifact is one stored file of one domain, identified by its sha256.
type Artifact struct {
	ID      ID
	Domain  ID
	Size    int64 // bytes
	Digests Digests
}

// SHA256 returns the digest that names the artifact.
func (a *Artifact) SHA256() string { return a.Digests[SHA256] }
