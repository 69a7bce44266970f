package sidebyside

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// request builds a step's request with all variables put in.
func (x *Session) request(ctx context.Context, step *Step) (*http.Request, error) {
	target, err := x.Expand(step.Target)
	if err != nil {
		return nil, err
	}
	body, mediaType, err := x.payload(step)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, step.Method, x.runner.URL, body)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	address, query, _ := strings.Cut(target, "?")
	req.URL.Opaque, req.URL.RawQuery = escape(address), escape(query) // as written: dots, doubled slashes and %2F are part of the tests
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	req.Header.Set("User-Agent", "granary-side-by-side")
	if user := cmp.Or(step.User, x.runner.User); user != "none" {
		if user, err = x.Expand(user); err != nil {
			return nil, err
		}
		name, password, _ := strings.Cut(user, " ")
		req.SetBasicAuth(name, password)
	}
	for _, f := range step.Header {
		value, err := x.Expand(f.Value)
		if err != nil {
			return nil, err
		}
		req.Header.Set(f.Name, value)
	}
	return req, nil
}

// escape encodes what must not stand in a request line, and leaves everything else as it is.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (x *Session) payload(step *Step) (io.Reader, string, error) {
	if len(step.Parts) == 0 {
		text, err := x.Expand(step.Body)
		if err != nil || step.Type == "" {
			return nil, "", err
		}
		return strings.NewReader(text), step.Type, nil
	}
	var buf bytes.Buffer
	form := multipart.NewWriter(&buf)
	for _, p := range step.Parts {
		if err := x.part(form, p); err != nil {
			return nil, "", fmt.Errorf("part %s: %w", p.Name, err)
		}
	}
	if err := form.Close(); err != nil {
		return nil, "", fmt.Errorf("form: %w", err)
	}
	return &buf, form.FormDataContentType(), nil
}

func (x *Session) part(form *multipart.Writer, p Part) error {
	if !p.File {
		text, err := x.Expand(p.Text)
		if err != nil {
			return err
		}
		return form.WriteField(p.Name, text)
	}
	name, from, to := p.Text, 0, -1
	if m := partRange.FindStringSubmatch(name); m != nil {
		name = m[1]
		from, _ = strconv.Atoi(m[2]) // digits, and too many of them are out of range below
		to, _ = strconv.Atoi(m[3])
	}
	data, ok := x.files[name]
	if to < 0 {
		to = len(data)
	}
	if !ok || from > to || to > len(data) {
		return fmt.Errorf("no file %q", p.Text)
	}
	if to-from < len(data) {
		x.norm.knowFile(p.Text, data[from:to])
	}
	w, err := form.CreateFormFile(p.Name, path.Base(name))
	if err != nil {
		return err
	}
	_, err = w.Write(data[from:to])
	return err
}

var partRange = regexp.MustCompile(`^(.*)\[(\d+):(\d+)\]$`)
