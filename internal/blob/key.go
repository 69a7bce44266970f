package blob

import (
	"strings"
	"unicode/utf8"

	"granary/internal/errs"
)

// The longest key, and the longest part of one between slashes, in bytes: what object stores and file systems take.
const (
	maxKey     = 1024
	maxSegment = 255
)

// CheckKey says whether every store can keep a blob under the key, with an error of kind errs.Invalid if not: it is
// UTF-8 without NUL, relative, and has no empty, "." or ".." segment.
func CheckKey(key string) error {
	if len(key) > maxKey || !utf8.ValidString(key) || strings.IndexByte(key, 0) >= 0 {
		return badKey(key)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." || len(segment) > maxSegment {
			return badKey(key)
		}
	}
	return nil
}

func badKey(key string) error { return errs.Ef(errs.Invalid, "%.100q is not a valid key.", key) }
