package download

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// parseURL reads an http or https URL as leniently as clients of Pulp are used to: blanks, percent signs and letters
// that should have been escaped are escaped; what is escaped stays as it is.
func parseURL(s string) (*url.URL, error) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(s), "://")
	if !ok {
		return nil, errors.New("no scheme")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	u, err := url.Parse(scheme + "://" + rest[:end] + escape(rest[end:]))
	if err != nil {
		return nil, err
	}
	if u.Hostname() == "" {
		return nil, errors.New("no host")
	}
	return u, nil
}

// resolve reads the Location of a redirect.
func resolve(base *url.URL, location string) (*url.URL, error) {
	location = strings.TrimSpace(location)
	if strings.Contains(location, "://") && strings.IndexAny(location, "/?#") == strings.Index(location, "://")+1 {
		return parseURL(location)
	}
	ref, err := url.Parse(escape(location))
	if err != nil {
		return nil, err
	}
	return base.ResolveReference(ref), nil
}

// escape escapes what cannot stand in a request line, and percent signs that begin no escape.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '%' && !(i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2])):
			b.WriteString("%25")
		case c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>':
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// splitAuth takes the credentials out of a URL and returns them as an Authorization header, empty if there are none.
func splitAuth(u *url.URL) (*url.URL, string) {
	if u.User == nil {
		return u, ""
	}
	password, _ := u.User.Password()
	auth := basicAuth(u.User.Username(), password)
	bare := *u
	bare.User = nil
	return &bare, auth
}

// sameOrigin says whether credentials for one URL may be sent to the other.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// secretParameters are the query parameters, in lower case, whose values open doors.
var secretParameters = []string{
	"x-amz-signature", "x-amz-credential", "x-amz-security-token", "awsaccesskeyid",
	"x-goog-signature", "x-goog-credential", "signature", "sig", "hdnts", "hdnea", "__gda__", "__token__", "_auth_",
	"token", "access_token", "auth_token", "authtoken", "api_key", "apikey", "password", "secret",
}

// redact takes the credentials out of a URL, or out of what somebody took for one.
func redact(s string) string {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		if at := strings.LastIndexByte(rest[:end], '@'); at >= 0 {
			s = scheme + "://***" + rest[at:]
		}
	}
	before, query, ok := strings.Cut(s, "?")
	if !ok {
		return s
	}
	query, fragment, _ := strings.Cut(query, "#")
	parts := strings.Split(query, "&")
	for i, p := range parts {
		if name, _, ok := strings.Cut(p, "="); ok && slices.Contains(secretParameters, strings.ToLower(name)) {
			parts[i] = name + "=***"
		}
	}
	s = before + "?" + strings.Join(parts, "&")
	if fragment != "" {
		s += "#" + fragment
	}
	return s
}

// hide takes credentials and the options' secrets out of a URL.
func (c *Client) hide(s string) string {
	s = redact(s)
	for _, secret := range c.o.Secrets {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "***")
		}
	}
	return s
}
