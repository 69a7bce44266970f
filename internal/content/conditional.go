package content

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// precondition evaluates a request's conditions for a file with this strong entity tag and this time, in whole
// seconds, which is zero if it is not known. It returns 200 if the file is to be sent, 304, or 412.
func precondition(h http.Header, etag string, modified time.Time) int {
	if v, ok := h["If-Match"]; ok {
		if !matches(v, etag, false) {
			return http.StatusPreconditionFailed
		}
	} else if t, ok := parseTime(h, "If-Unmodified-Since"); ok && !modified.IsZero() && modified.After(t) {
		return http.StatusPreconditionFailed
	}
	if v, ok := h["If-None-Match"]; ok {
		if matches(v, etag, true) {
			return http.StatusNotModified
		}
	} else if t, ok := parseTime(h, "If-Modified-Since"); ok && !modified.IsZero() && !modified.After(t) {
		return http.StatusNotModified
	}
	return http.StatusOK
}

func parseTime(h http.Header, name string) (time.Time, bool) {
	v, ok := h[name]
	if !ok || len(v) == 0 {
		return time.Time{}, false
	}
	t, err := http.ParseTime(v[0])
	return t, err == nil
}

// matches says whether a list of entity tags has one of the file's, or is "*". Weak ones count if weak is set.
func matches(lists []string, etag string, weak bool) bool {
	for _, list := range lists {
		for list != "" {
			list = strings.TrimLeft(list, " \t,")
			if strings.HasPrefix(list, "*") {
				return true
			}
			tag, isWeak := strings.CutPrefix(list, "W/")
			if !strings.HasPrefix(tag, `"`) {
				break // no tag: what follows means nothing
			}
			end := strings.IndexByte(tag[1:], '"')
			if end < 0 {
				break
			}
			if tag[:end+2] == etag && (weak || !isWeak) {
				return true
			}
			list = tag[end+2:]
		}
	}
	return false
}

// wantsRange returns a request's Range, unless its If-Range says that the client's part is of another file.
func wantsRange(h http.Header, etag string, modified time.Time) (string, bool) {
	v, ok := h["Range"]
	if !ok || len(v) == 0 {
		return "", false
	}
	cond, ok := h["If-Range"]
	if !ok || len(cond) == 0 {
		return v[0], true
	}
	if t, err := http.ParseTime(cond[0]); err == nil {
		return v[0], !modified.IsZero() && !modified.After(t)
	}
	return v[0], etag != "" && cond[0] == etag
}

// parseRange returns the bytes from (included) to (excluded) that a Range asks for of a file. Only a single range can
// be had.
func parseRange(s string, size int64) (from, to int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes=")
	first, last, dash := strings.Cut(s, "-")
	if !ok || !dash || first == "" && last == "" || !digits(first) || !digits(last) {
		return 0, 0, false
	}
	to = size
	switch {
	case first == "":
		// As Pulp does: the last 0 bytes are all of them.
		if n := number(last); n > 0 {
			from = max(0, size-n)
		}
	case last == "":
		from = number(first)
	default:
		from = number(first)
		if last := number(last); last < size-1 {
			to = last + 1
		}
	}
	return from, to, from < to
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// number reads digits; what is too large is the largest number.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return n
}
