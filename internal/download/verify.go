package download

import (
	"fmt"
	"hash"
	"strconv"

	"granary/internal/pulp"
)

// Check compares a file with what was expected of it: every digest that both sides have, then the size unless the
// expected one is 0 or less. The error is an [*Error] that names the URL.
func Check(rawURL string, want pulp.Digests, wantSize int64, got pulp.Digests, gotSize int64) error {
	shown := redact(rawURL)
	for _, a := range pulp.Algorithms {
		if want[a] != "" && got[a] != "" && want[a] != got[a] {
			return &Error{Reason: Checksum, URL: shown, text: mismatchText(shown, "checksum", want[a], got[a])}
		}
	}
	if wantSize > 0 && wantSize != gotSize {
		return &Error{Reason: Size, URL: shown, text: mismatchText(shown, "size", strconv.FormatInt(wantSize, 10), strconv.FormatInt(gotSize, 10))}
	}
	return nil
}

// A verifier follows the bytes of a download and knows what they should be.
type verifier struct {
	j      *job
	size   int64
	hashes map[pulp.Algorithm]hash.Hash // of the expected digests that nobody else computes
}

// newVerifier returns a verifier that computes the expected digests which are not among those that others compute.
func newVerifier(j *job, others pulp.Digests) *verifier {
	v := &verifier{j: j, hashes: map[pulp.Algorithm]hash.Hash{}}
	for a := range j.want {
		if others[a] == "" {
			v.hashes[a] = a.New()
		}
	}
	return v
}

// take counts and hashes bytes. It fails when there are more than there may be, or more than slack beyond the expected size.
func (v *verifier) take(p []byte, slack int64) error {
	v.size += int64(len(p))
	if v.j.MaxSize > 0 && v.size > v.j.MaxSize {
		return v.j.tooLarge()
	}
	if v.j.Size > 0 && v.size > v.j.Size+slack {
		return v.j.mismatch(Size, "size", strconv.FormatInt(v.j.Size, 10), fmt.Sprintf("more than %d", v.size-1))
	}
	for _, h := range v.hashes {
		h.Write(p) //nolint:errcheck // a hash never fails
	}
	return nil
}

// check is asked at the end of the file: every expected digest, then the size. Digests are compared as they are spelled.
func (v *verifier) check(others pulp.Digests) error {
	for _, a := range pulp.Algorithms {
		want := v.j.want[a]
		if want == "" {
			continue
		}
		got := others[a]
		if h := v.hashes[a]; h != nil {
			got = fmt.Sprintf("%x", h.Sum(nil))
		}
		if got != want {
			return v.j.mismatch(Checksum, "checksum", want, got)
		}
	}
	if v.j.Size > 0 && v.size != v.j.Size {
		return v.j.mismatch(Size, "size", strconv.FormatInt(v.j.Size, 10), strconv.FormatInt(v.size, 10))
	}
	return nil
}
