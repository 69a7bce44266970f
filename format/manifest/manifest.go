// Package manifest reads and writes PULP_MANIFEST, the list of a file repository's content: a line
// "path,sha256,size" for each file.
package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLine is the longest line that is read, in bytes without the line break. A longer one is a bad line.
const MaxLine = 64 << 10

// An Entry is one file.
type Entry struct {
	Path   string // relative, as "iso/a,b.iso"
	SHA256 string // 64 hexadecimal digits in lower case
	Size   int64  // bytes
}

// A LineError says which line of a manifest is none. Its text is what clients of Pulp know; Reason is for a log.
type LineError struct {
	Line   int // from 1, counting all lines
	Reason error
}

func (e *LineError) Error() string {
	return "Error: Parsing of the manifest file failed on line:" + strconv.Itoa(e.Line) + ".\n" +
		"Please make sure the remote URL is pointing to a valid manifest file.\n" +
		"The manifest file should be composed of lines in the following format: <relative_path>,<digest>,<size>."
}

// Unwrap returns the reason.
func (e *LineError) Unwrap() error { return e.Reason }

// What can be wrong with a line.
var (
	errLong   = fmt.Errorf("the line is longer than %d bytes", MaxLine)
	errText   = errors.New("it is not UTF-8 without NUL")
	errFields = errors.New("it does not have three fields")
	errPath   = errors.New("the path is not a relative one without empty, \".\" and \"..\" segments")
	errDigest = errors.New("the digest is not 64 hexadecimal digits")
	errSize   = errors.New("the size is not a number of bytes")
	errForm   = errors.New("the path can't be told from the line's other parts")
)

// Read calls yield for each entry of a manifest, in its order; equal ones may come twice. It ends at the first line
// that is none with a [*LineError], or with yield's error. Empty lines, and comments that start with "#", are left out.
// What yield gets was read before a later line turned out to be bad, so nothing may be kept for good until Read
// returns nil.
func Read(r io.Reader, yield func(Entry) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, MaxLine+4), MaxLine+4)
	lines.Split(new(splitter).split)
	n := 0
	for lines.Scan() {
		if lines.Err() != nil { // what there is may be half a line
			break
		}
		n++
		if len(lines.Bytes()) > MaxLine {
			return &LineError{n, errLong}
		}
		line := trim(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		entry, err := parse(line)
		if err != nil {
			return &LineError{n, err}
		}
		if err := yield(entry); err != nil {
			return err
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return &LineError{n + 1, errLong}
	case err != nil:
		return fmt.Errorf("read manifest: %w", err)
	}
	return nil
}

// Append appends the entry's line to b. It does not say whether the line can be read again; see [Entry.Check].
func Append(b []byte, e Entry) []byte {
	b = append(b, e.Path...)
	b = append(b, ',')
	b = append(b, e.SHA256...)
	b = append(b, ',')
	b = strconv.AppendInt(b, e.Size, 10)
	return append(b, '\n')
}

// Check says whether [Read] gives the entry back from the line that [Append] makes. There is no quoting, so that a path
// with a line break, or one that starts with "#", can't be listed.
func (e Entry) Check() error {
	line := Append(nil, e)
	line = line[:len(line)-1]
	if len(line) > MaxLine {
		return errLong
	}
	if bytes.IndexFunc(line, isBreak) >= 0 || len(trim(line)) != len(line) || line[0] == '#' {
		return errForm
	}
	got, err := parse(line)
	switch {
	case err != nil:
		return err
	case got.SHA256 != e.SHA256:
		return errDigest
	case got != e:
		return errForm
	}
	return nil
}

// parse reads a trimmed line that is neither empty nor a comment. The path may have commas, so that the last two count.
func parse(line []byte) (e Entry, err error) {
	if !utf8.Valid(line) || bytes.IndexByte(line, 0) >= 0 {
		return e, errText
	}
	j := bytes.LastIndexByte(line, ',')
	i := bytes.LastIndexByte(line[:max(j, 0)], ',')
	if i < 0 {
		return e, errFields
	}
	path, digest, size := trim(line[:i]), trim(line[i+1:j]), trim(line[j+1:])
	if !validPath(path) {
		return e, errPath
	}
	if len(digest) != 64 {
		return e, errDigest
	}
	var sum [64]byte
	for i, c := range digest {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f':
		case 'A' <= c && c <= 'F':
			c += 'a' - 'A'
		default:
			return e, errDigest
		}
		sum[i] = c
	}
	if e.Size, err = parseSize(size); err != nil {
		return e, err
	}
	e.Path, e.SHA256 = string(path), string(sum[:])
	return e, nil
}

func parseSize(b []byte) (int64, error) {
	if len(b) == 0 {
		return 0, errSize
	}
	var n int64
	for _, c := range b {
		d := int64(c) - '0'
		if d < 0 || d > 9 || n > (math.MaxInt64-d)/10 {
			return 0, errSize
		}
		n = n*10 + d
	}
	return n, nil
}

// validPath says whether a path stays below the directory that it is relative to, in one spelling.
func validPath(path []byte) bool {
	for len(path) > 0 {
		segment, rest, more := bytes.Cut(path, []byte{'/'})
		if s := string(segment); s == "" || s == "." || s == ".." || more && len(rest) == 0 {
			return false
		}
		if !more {
			return true
		}
		path = rest
	}
	return false
}

// trim removes white space as Python's strip does.
func trim(line []byte) []byte {
	// Nearly always there is none.
	if len(line) > 0 && isPlain(line[0]) && isPlain(line[len(line)-1]) {
		return line
	}
	return bytes.TrimFunc(line, isSpace)
}

func isPlain(c byte) bool { return ' ' < c && c < utf8.RuneSelf }

func isSpace(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }

// breaks has the line breaks that Python's splitlines knows.
const breaks = "\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029"

func isBreak(r rune) bool { return strings.ContainsRune(breaks, r) }

// A splitter finds lines for a [bufio.Scanner].
type splitter struct {
	afterCR bool // the last line ended with "\r", so that a "\n" now belongs to it
}

func (s *splitter) split(data []byte, atEOF bool) (advance int, token []byte, err error) {
	start := 0
	if s.afterCR && len(data) > 0 {
		s.afterCR = false
		if data[0] == '\n' {
			start = 1
		}
	}
	for i := start; i < len(data); i++ {
		c, width := data[i], 1
		switch {
		case c == '\n', c == '\r', c == '\v', c == '\f', 0x1c <= c && c <= 0x1e:
		case c == 0xc2, c == 0xe2: // with which the others start
			if !atEOF && !utf8.FullRune(data[i:]) {
				return start, nil, nil
			}
			var r rune
			if r, width = utf8.DecodeRune(data[i:]); !isBreak(r) {
				continue
			}
		default:
			continue
		}
		s.afterCR = c == '\r'
		return i + width, data[start:i], nil
	}
	if atEOF && start < len(data) {
		return len(data), data[start:], nil
	}
	return start, nil, nil
}
