package download_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"granary/internal/download"
	"granary/internal/pulp"
)

// FuzzURL checks that a URL, whatever it is, makes one well-formed request or none, and that errors do not show its
// password.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"h/a b?c=d#e", "[::1]:80/%zz?x=%", "é/é", "h/\r\nX: y", "h/?a\r\n", "h", "h?x", "h/%00%2f\x00", "h:1/a/../b", "/x", "h/\"<>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		for _, url := range []string{"http://" + rest, "http://me:hunter2@" + rest} {
			download.ValidateURL(url, []string{"/nowhere"}) //nolint:errcheck // it must not panic

			var wg sync.WaitGroup
			o := quick(nil)
			o.Dial = func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				wg.Go(func() {
					defer server.Close()
					r, err := http.ReadRequest(bufio.NewReader(server))
					if err != nil {
						t.Errorf("%q is no request: %v", url, err)
						return
					}
					if r.Header.Get("X") != "" || strings.ContainsAny(r.RequestURI, " \t\r\n\x00") {
						t.Errorf("%q asks for %q", url, r.RequestURI)
					}
					io.WriteString(server, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
				})
				return client, nil
			}
			c, err := download.New(pulp.Remote{MaxRetries: 1}, o)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = c.Bytes(t.Context(), download.Request{URL: url})
			c.Close()
			wg.Wait()
			if err == nil || strings.Contains(err.Error(), "hunter2") && !strings.Contains(rest, "hunter2") {
				t.Errorf("%q: %v", url, err)
			}
		}
	})
}
