package access

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"strings"

	"granary/internal/errs"
)

// A token protects sessions against requests that other sites make a browser send: only who can read the cookie can
// repeat it in a header. The cookie holds the secret; the header holds the secret, or a mask and the secret
// under it, one letter after the other, as Django's forms have it.
const secretLength = 32

// renewToken replaces a token cookie that can be none of ours.
func (a *Access) renewToken(r *http.Request, answer http.Header) {
	if c, err := r.Cookie(a.CSRF.Name); err == nil && tokenProblem(c.Value) != "" {
		a.CSRF.set(answer, randomText(secretLength), a.Now())
	}
}

// tokenProblem says what is wrong with the form of a token, or "".
func tokenProblem(token string) string {
	switch {
	case len(token) != secretLength && len(token) != 2*secretLength:
		return "has incorrect length"
	case strings.Trim(token, alphanumerics) != "":
		return "has invalid characters"
	}
	return ""
}

// unmask returns the secret of a token whose form is right.
func unmask(token string) string {
	if len(token) == secretLength {
		return token
	}
	mask, masked := token[:secretLength], token[secretLength:]
	secret := make([]byte, secretLength)
	for i := range secret {
		at := strings.IndexByte(alphanumerics, masked[i]) - strings.IndexByte(alphanumerics, mask[i])
		secret[i] = alphanumerics[(at+len(alphanumerics))%len(alphanumerics)]
	}
	return string(secret)
}

// checkToken refuses a request that changes something and may come from another site.
func (a *Access) checkToken(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return nil
	}
	if problem := a.tokenRefusal(r); problem != "" {
		return errs.E(errs.Denied, "CSRF Failed: "+problem)
	}
	return nil
}

func (a *Access) tokenRefusal(r *http.Request) string {
	own, secure := origin(r.Context())
	if from := r.Header.Get("Origin"); from != "" {
		if from != own && !a.trusted(from) {
			return "Origin checking failed - " + from + " does not match any trusted origins."
		}
	} else if secure {
		if problem := a.refererRefusal(r.Header.Get("Referer"), own); problem != "" {
			return problem
		}
	}
	cookie, err := r.Cookie(a.CSRF.Name)
	if err != nil {
		return "CSRF cookie not set."
	}
	if problem := tokenProblem(cookie.Value); problem != "" {
		return "CSRF cookie " + problem + "."
	}
	token := r.Header.Get(a.CSRFHeader)
	if token == "" {
		return "CSRF token missing."
	}
	from := "CSRF token from the '" + http.CanonicalHeaderKey(a.CSRFHeader) + "' HTTP header "
	if problem := tokenProblem(token); problem != "" {
		return from + problem + "."
	}
	if subtle.ConstantTimeCompare([]byte(unmask(token)), []byte(unmask(cookie.Value))) == 0 {
		return from + "incorrect."
	}
	return ""
}

// refererRefusal checks where a request over TLS comes from that does not tell its origin.
func (a *Access) refererRefusal(referer, own string) string {
	if referer == "" {
		return "Referer checking failed - no Referer."
	}
	u, err := url.Parse(referer)
	switch {
	case err != nil || u.Scheme == "" || u.Host == "":
		return "Referer checking failed - Referer is malformed."
	case u.Scheme != "https":
		return "Referer checking failed - Referer is insecure while host is secure."
	}
	if from := u.Scheme + "://" + u.Host; from != own && !a.trusted(from) {
		return "Referer checking failed - " + referer + " does not match any trusted origins."
	}
	return ""
}

// trusted says whether an origin is one of TrustedOrigins.
func (a *Access) trusted(origin string) bool {
	for _, t := range a.TrustedOrigins {
		if origin == t {
			return true
		}
		scheme, domain, wild := strings.Cut(t, "://*")
		if host, ok := strings.CutPrefix(origin, scheme+"://"); wild && ok && (strings.HasSuffix(host, domain) || host == strings.TrimPrefix(domain, ".")) {
			return true
		}
	}
	return false
}
