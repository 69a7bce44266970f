// Package jq runs jq filters on what clients send, within limits: of the input, of time, and of how many run at once.
// Filters see nothing but their input: no environment, files or other inputs.
package jq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/itchyny/gojq"
)

// Limits of a filter and of one run.
const (
	MaxFilter = 4 << 10  // bytes of a filter
	MaxInput  = 64 << 10 // bytes of a document
	timeout   = 100 * time.Millisecond
	atOnce    = 2 // what runs may take in memory only time limits
)

// A Runner runs filters.
type Runner struct{ slots chan struct{} }

// NewRunner returns a runner.
func NewRunner() *Runner { return &Runner{slots: make(chan struct{}, atOnce)} }

// A Filter is a compiled jq program.
type Filter struct{ code *gojq.Code }

// Compile reads a filter. The error's text is meant for who wrote it.
func Compile(text string) (*Filter, error) {
	if len(text) > MaxFilter {
		return nil, fmt.Errorf("the filter is longer than %d bytes", MaxFilter)
	}
	query, err := gojq.Parse(text)
	if err != nil {
		return nil, err
	}
	code, err := gojq.Compile(query)
	if err != nil {
		return nil, err
	}
	return &Filter{code}, nil
}

// ErrNone says that a filter gave nothing for a document.
var ErrNone = errors.New("the filter gives nothing")

// First runs a filter on a JSON document and returns the first of what it gives: nil, a bool, a number, a string, a []any or a map.
func (r *Runner) First(ctx context.Context, f *Filter, document []byte) (any, error) {
	if len(document) > MaxInput {
		return nil, fmt.Errorf("the document is longer than %d bytes", MaxInput)
	}
	var input any
	if err := json.Unmarshal(document, &input); err != nil {
		return nil, err
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	v, ok := f.code.RunWithContext(ctx, input).Next()
	if !ok {
		return nil, ErrNone
	}
	if err, ok := v.(error); ok {
		return nil, fmt.Errorf("run the filter: %w", err)
	}
	return v, nil
}

// DecodeBase64 reads base64 as the reference does: characters of no meaning are skipped, and what follows the padding is not read.
func DecodeBase64(s string) ([]byte, error) {
	out := make([]byte, 0, len(s)/4*3+3)
	var bits uint32
	n, pads := 0, 0 // characters of the group, and padding after them
	for i := range len(s) {
		if s[i] == '=' {
			if pads++; n >= 2 && n+pads >= 4 {
				return append(out, group(bits<<(6*(4-n)), n-1)...), nil
			}
			continue
		}
		v := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", s[i])
		if v < 0 {
			continue
		}
		pads = 0
		bits = bits<<6 | uint32(v) //nolint:gosec // below 64
		if n++; n == 4 {
			out = append(out, group(bits, 3)...)
			bits, n = 0, 0
		}
	}
	if n != 0 {
		return nil, errors.New("incorrect padding")
	}
	return out, nil
}

// group returns the first bytes of 24 bits.
func group(bits uint32, n int) []byte {
	return []byte{byte(bits >> 16), byte(bits >> 8), byte(bits)}[:n]
}
