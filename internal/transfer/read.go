package transfer

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"granary/internal/errs"
)

// Limits of what an export may hold.
const (
	maxTOC      = 64 << 20  // bytes of a table of contents
	maxVersions = 1 << 20   // bytes of versions.json
	maxRow      = 64 << 20  // bytes of one row
	maxMembers  = 1_000_000 // members that are no artifacts
	maxName     = 4096      // bytes of a member's name
)

// A source is where an export is read from: one file, or the files of a table of contents, one behind the other.
type source struct {
	files []string
	ends  []int64 // where each file ends in the whole
	sums  []string

	open *os.File // the file that was read last
	at   int      // which one it is
}

func openFile(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// newSource returns the source of a file, or of a table of contents.
func newSource(path, toc string) (*source, error) {
	if toc == "" {
		s := &source{files: []string{path}}
		return s, s.measure()
	}
	f, err := openFile(toc)
	if err != nil {
		return nil, missingFile(toc, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTOC+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(text) > maxTOC {
		return nil, errs.E(errs.Invalid, "The table of contents is too long.")
	}
	names, sums, err := parseTOC(text)
	if err != nil {
		return nil, err
	}
	s := &source{sums: sums}
	var missing []string
	for _, n := range names {
		path := filepath.Join(filepath.Dir(toc), n)
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			missing = append(missing, path)
		}
		s.files = append(s.files, path)
	}
	if missing != nil {
		return nil, errs.List("Missing import-chunks named in table-of-contents: ['" + strings.Join(missing, "', '") + "'].")
	}
	return s, s.measure()
}

// missingFile words the error of a file that cannot be opened as clients know it.
func missingFile(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errs.E(errs.Invalid, "[Errno 2] No such file or directory: '"+path+"'")
	}
	return err
}

// parseTOC reads a table of contents: the names of the files in their order, and their check sums.
func parseTOC(text []byte) (names, sums []string, err error) {
	var toc struct {
		Meta  map[string]any    `json:"meta"`
		Files map[string]string `json:"files"`
	}
	if err := json.Unmarshal(text, &toc); err != nil {
		return nil, nil, &errs.Error{Kind: errs.Invalid, Detail: "The table of contents is not valid: " + err.Error(), Err: err}
	}
	if toc.Meta == nil || toc.Files == nil {
		return nil, nil, errs.List("Missing 'files' or 'meta' keys in table-of-contents!")
	}
	if len(toc.Files) == 0 {
		return nil, nil, errs.List("The table-of-contents names no files!")
	}
	if kind, given := toc.Meta["checksum_type"]; given && kind != "crc32" {
		return nil, nil, errs.List(fmt.Sprintf("The table-of-contents has check sums of the unknown type '%v'.", kind))
	}
	for n := range toc.Files {
		if n == "" || n == "." || n == ".." || strings.ContainsAny(n, "/\x00") {
			return nil, nil, errs.List(fmt.Sprintf("The table-of-contents names %q, which is no file beside it.", n))
		}
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int { // .10000 comes behind .9999
		if len(a) != len(b) && strings.TrimRight(a, "0123456789") == strings.TrimRight(b, "0123456789") {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	for _, n := range names {
		sums = append(sums, toc.Files[n])
	}
	return names, sums, nil
}

func (s *source) measure() error {
	var end int64
	for _, f := range s.files {
		info, err := os.Stat(f)
		if err != nil {
			return missingFile(f, err)
		}
		if !info.Mode().IsRegular() {
			return errs.Ef(errs.Invalid, "%s is not a file", f)
		}
		end += info.Size()
		s.ends = append(s.ends, end)
	}
	return nil
}

// size returns the length of the whole in bytes.
func (s *source) size() int64 { return s.ends[len(s.ends)-1] }

// ReadAt reads from the whole. It is for one goroutine at a time.
func (s *source) ReadAt(p []byte, off int64) (n int, err error) {
	for len(p) > 0 {
		i := sort.Search(len(s.ends), func(i int) bool { return off < s.ends[i] })
		if i == len(s.ends) {
			return n, io.EOF
		}
		if s.open == nil || s.at != i {
			if err := s.Close(); err != nil {
				return n, err
			}
			f, err := openFile(s.files[i])
			if err != nil {
				return n, missingFile(s.files[i], err)
			}
			s.open, s.at = f, i
		}
		start := int64(0)
		if i > 0 {
			start = s.ends[i-1]
		}
		part := p[:min(int64(len(p)), s.ends[i]-off)]
		m, err := s.open.ReadAt(part, off-start)
		n, off, p = n+m, off+int64(m), p[m:]
		if m < len(part) {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%s has been cut short: %w", s.files[i], io.ErrUnexpectedEOF)
			}
			return n, err
		}
	}
	return n, nil
}

// Close closes what is open. The source can be read again.
func (s *source) Close() error {
	if s.open == nil {
		return nil
	}
	f := s.open
	s.open = nil
	return f.Close()
}

// check computes the check sum of each file and compares it with what the table of contents says.
func (s *source) check(ctx context.Context, done func()) error {
	var bad []string
	for i, path := range s.files {
		f, err := openFile(path)
		if err != nil {
			return err
		}
		sum := crc32.NewIEEE()
		_, err = io.Copy(sum, &ender{ctx: ctx, r: f})
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		want, err := strconv.ParseUint(s.sums[i], 16, 32)
		if err != nil || uint32(want) != sum.Sum32() {
			bad = append(bad, fmt.Sprintf("File %s expected checksum : %s, computed checksum : %x", filepath.Base(path), s.sums[i], sum.Sum32()))
		}
		done()
	}
	if bad != nil {
		return errs.List("Import chunk hash mismatch: ['" + strings.Join(bad, "', '") + "']).")
	}
	return nil
}

// A member is where a member of the archive is in the whole.
type member struct {
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
}

func (s *source) section(m member) *io.SectionReader { return io.NewSectionReader(s, m.Offset, m.Size) }

// A catalogue says where an archive has what, artifacts apart.
type catalogue struct {
	versions     []Component
	artifacts    member
	repositories member
	dirs         map[string]map[string]member // by the directory's name: the files in it
}

// position counts what is read of a section, so that a member's place is known.
type position struct{ *io.SectionReader }

func (p position) offset() int64 {
	at, _ := p.Seek(0, io.SeekCurrent) // it only asks
	return at
}

// errNoArchive is the error of what is no archive, or a damaged one.
func errNoArchive(err error) error {
	return &errs.Error{Kind: errs.Invalid, Detail: "The export could not be read: " + err.Error(), Err: err}
}

// each calls f for each member of the archive, of which only plain files with the names of an export are allowed. r reads the member.
func (s *source) each(ctx context.Context, f func(name string, m member, r io.Reader) error) error {
	whole := position{io.NewSectionReader(s, 0, s.size())}
	t := tar.NewReader(whole)
	seen := false
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			if !seen {
				return errNoArchive(errors.New("it is empty"))
			}
			return nil
		}
		if err != nil {
			return errNoArchive(err)
		}
		seen = true
		if err := checkMember(h); err != nil {
			return errNoArchive(err)
		}
		m := member{whole.offset(), h.Size}
		if m.Offset+m.Size > s.size() {
			return errNoArchive(fmt.Errorf("%q has been cut short: %w", h.Name, io.ErrUnexpectedEOF))
		}
		if err := f(h.Name, m, t); err != nil {
			return err
		}
	}
}

func checkMember(h *tar.Header) error {
	switch {
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("%q is no plain file", h.Name)
	case len(h.Name) > maxName || strings.ContainsRune(h.Name, 0):
		return errors.New("a member has a name that cannot be")
	case h.Size < 0:
		return fmt.Errorf("%q has a negative size", h.Name)
	case strings.HasPrefix(h.Name, "/") || slices.Contains(strings.Split(h.Name, "/"), "..") || slices.Contains(strings.Split(h.Name, "/"), "."):
		return fmt.Errorf("%q is no name of a member", h.Name)
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse") {
			return fmt.Errorf("%q has holes", h.Name)
		}
	}
	return nil
}

// artifactName returns the sha256 that the name of an artifact's member holds; empty where it is none.
func artifactName(name string) string {
	rest, ok := strings.CutPrefix(name, "artifact/")
	if !ok {
		return ""
	}
	rest = strings.TrimPrefix(rest, domainWord+"/")
	if len(rest) != 65 || rest[2] != '/' {
		return ""
	}
	if sha := rest[:2] + rest[3:]; isSHA256(sha) {
		return sha
	}
	return ""
}

// catalogue goes through the archive once, without reading the artifacts. known says whether a version's directory may have a file.
func (s *source) catalogue(ctx context.Context, known func(file string) bool) (*catalogue, error) {
	c := &catalogue{dirs: map[string]map[string]member{}}
	count, found := 0, map[string]bool{}
	err := s.each(ctx, func(name string, m member, r io.Reader) error {
		if artifactName(name) != "" {
			return nil
		}
		if count++; count > maxMembers {
			return errNoArchive(errors.New("it has too many members"))
		}
		if found[name] {
			return errNoArchive(fmt.Errorf("%q is in it twice", name))
		}
		found[name] = true
		switch name {
		case "versions.json":
			if err := json.NewDecoder(io.LimitReader(r, maxVersions)).Decode(&c.versions); err != nil {
				return errNoArchive(fmt.Errorf("versions.json: %w", err))
			}
			return nil
		case module + "ArtifactResource.json":
			c.artifacts = m
			return nil
		case module + "RepositoryResource.json":
			c.repositories = m
			return nil
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 || !strings.HasPrefix(name, "repository-") || !known(name[i+1:]) {
			return errNoArchive(fmt.Errorf("%q is no member of an export that can be read here", name))
		}
		dir := name[:i]
		if c.dirs[dir] == nil {
			c.dirs[dir] = map[string]member{}
		}
		c.dirs[dir][name[i+1:]] = m
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"versions.json", module + "ArtifactResource.json", module + "RepositoryResource.json"} {
		if !found[name] {
			return nil, errNoArchive(fmt.Errorf("it has no %s", name))
		}
	}
	return c, nil
}

// dirOf finds the directory of a repository's version: that with its name and a number.
func (c *catalogue) dirOf(repository string) (string, error) {
	found := ""
	for dir := range c.dirs {
		number, ok := strings.CutPrefix(dir, "repository-"+repository+"_")
		if !ok || number == "" || strings.Trim(number, "0123456789") != "" {
			continue
		}
		if found != "" {
			return "", errNoArchive(fmt.Errorf("it has two versions of repository %q", repository))
		}
		found = dir
	}
	if found == "" {
		return "", errNoArchive(fmt.Errorf("it has no version of repository %q", repository))
	}
	return found, nil
}

// A bounded reader fails where too much is read between two calls of reset.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) reset() { b.left = maxRow }

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("a row is too long")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// eachRow calls f for each row of a JSON list of flat objects, of which one is in memory at a time.
func eachRow(r io.Reader, f func(*Row) error) error {
	b := &bounded{r: bufio.NewReaderSize(r, 64<<10)}
	b.reset()
	dec := json.NewDecoder(b)
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("not a list of rows: %w", orUnexpected(err))
	}
	for dec.More() {
		var fields map[string]any
		if err := dec.Decode(&fields); err != nil {
			return fmt.Errorf("read a row: %w", orUnexpected(err))
		}
		if fields == nil {
			return errors.New("a row is null")
		}
		b.reset()
		if err := f(readRow(fields)); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("read rows: %w", orUnexpected(err))
	}
	return nil
}

func orUnexpected(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
