package transfer

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"os"
	"strconv"
)

// chunks is a file that is being written in pieces of a limited size. The pieces have other names until all are there.
type chunks struct {
	ctx   context.Context //nolint:containedctx // it lives as long as one export
	root  *os.Root
	base  string // name of the whole
	limit int64  // of a piece, in bytes; 0 for one piece, which is called as the whole

	done []chunk // pieces that are complete
	file *os.File
	sum  hash.Hash32
	size int64 // of the open piece
	all  int64 // of all
	toc  string
}

type chunk struct{ name, sum string }

// partial ends the names of files that are not complete.
const partial = ".part"

func (c *chunks) name(i int) string {
	if c.limit == 0 {
		return c.base
	}
	return fmt.Sprintf("%s.%04d", c.base, i)
}

// Write writes to the open piece, and begins others as it gets full.
func (c *chunks) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if err := c.ctx.Err(); err != nil {
			return n, err
		}
		if c.file == nil {
			if c.file, err = c.root.OpenFile(c.name(len(c.done))+partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644); err != nil {
				return n, fmt.Errorf("make an export's file: %w", err)
			}
			c.sum, c.size = crc32.NewIEEE(), 0
		}
		part := p
		if c.limit > 0 && int64(len(part)) > c.limit-c.size {
			part = part[:c.limit-c.size]
		}
		m, err := c.file.Write(part)
		_, _ = c.sum.Write(part[:m]) // it never fails
		n, p, c.size, c.all = n+m, p[m:], c.size+int64(m), c.all+int64(m)
		if err != nil {
			return n, err
		}
		if c.limit > 0 && c.size == c.limit {
			if err := c.close(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// record is the length that archives are filled up to a multiple of, as tar does.
const record = 10240

func (c *chunks) pad() error {
	if short := c.all % record; short > 0 {
		if _, err := c.Write(make([]byte, record-short)); err != nil {
			return err
		}
	}
	return c.close()
}

// close makes the open piece durable.
func (c *chunks) close() error {
	if c.file == nil {
		return nil
	}
	f := c.file
	c.file = nil
	c.done = append(c.done, chunk{c.name(len(c.done)), strconv.FormatUint(uint64(c.sum.Sum32()), 16)})
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write an export's file: %w", err)
	}
	return nil
}

// sums returns the check sums of the pieces, by name.
func (c *chunks) sums() map[string]string {
	m := make(map[string]string, len(c.done))
	for _, d := range c.done {
		m[d.name] = d.sum
	}
	return m
}

// finish writes the table of contents and gives all files their names, its own last.
func (c *chunks) finish(name string, toc []byte) error {
	c.toc = name
	f, err := c.root.OpenFile(name+partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make the table of contents: %w", err)
	}
	_, err = f.Write(toc)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the table of contents: %w", err)
	}
	for _, d := range c.done {
		if err := c.root.Rename(d.name+partial, d.name); err != nil {
			return fmt.Errorf("name an export's file: %w", err)
		}
	}
	if err := c.root.Rename(name+partial, name); err != nil {
		return fmt.Errorf("name the table of contents: %w", err)
	}
	dir, err := c.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// abandon removes what was written.
func (c *chunks) abandon() error {
	var list []error
	if c.file != nil {
		list = append(list, c.file.Close())
		c.done = append(c.done, chunk{name: c.name(len(c.done))})
		c.file = nil
	}
	names := make([]string, 0, 2*len(c.done)+2)
	for _, d := range c.done {
		names = append(names, d.name, d.name+partial)
	}
	if c.toc != "" {
		names = append(names, c.toc, c.toc+partial)
	}
	for _, n := range names {
		if err := c.root.Remove(n); err != nil && !errors.Is(err, os.ErrNotExist) {
			list = append(list, err)
		}
	}
	return errors.Join(list...)
}
