package guard

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
)

// A Redirect guard lets requests through whose URL this server has signed, for an hour.
type Redirect struct {
	repository.Guard
	Secret string `api:"-,sealed" db:"shared_secret"` // in hexadecimal
}

const (
	secretSize = 32 // bytes, of a guard's secret and of a signature's salt
	linkLife   = time.Hour
)

func (s *Service) defineRedirect() rest.Typed[Redirect] {
	return Define(s.Repos, rest.Resource[Redirect]{
		App: "core", Model: "ContentRedirectContentGuard", Path: "contentguards/core/content_redirect", PulpType: "core.content_redirect",
		Table: "core_contentredirectcontentguard", Roles: true,
		Check: func(_ context.Context, _ db.Querier, c *rest.Change[Redirect]) error {
			if c.New.Secret == "" {
				c.New.Secret = s.fresh()
			}
			return nil
		},
	}, func(g *Redirect) *repository.Guard { return &g.Guard })
}

// fresh returns a random secret.
func (s *Service) fresh() string {
	b := make([]byte, secretSize)
	s.random(b)
	return hex.EncodeToString(b)
}

// Sign returns a URL below one that a redirect guard guards, with what the guard lets through for an hour.
func (s *Service) Sign(ctx context.Context, q db.Querier, guard pulp.ID, link string) (string, error) {
	g, err := s.redirects.Get(ctx, q, guard)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(link)
	if err != nil {
		return "", err
	}
	secret, err := hex.DecodeString(g.Secret)
	if err != nil {
		return "", err
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "expires=" + strconv.FormatInt(s.Now().Add(linkLife).Unix(), 10)
	u.Fragment, u.RawFragment = "", ""
	salt := make([]byte, secretSize)
	s.random(salt)
	u.RawQuery += tokenParam + hex.EncodeToString(salt) + ":" + hex.EncodeToString(signature(salt, u.Path, u.RawQuery, secret))
	return u.String(), nil
}

const tokenParam = "&validate_token="

// signature is that of a decoded path and a query as it is sent.
func signature(salt []byte, path, query string, secret []byte) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte((&url.URL{Path: path}).EscapedPath()))
	h.Write([]byte("?" + query))
	h.Write(secret)
	return h.Sum(nil)
}

var (
	errExpired  = errs.E(errs.Denied, "Authentication expired")
	errUnsigned = errs.E(errs.Denied, "Access not authenticated")
)

func (s *Service) checkRedirect(ctx context.Context, guard pulp.ID, r *Request) error {
	query, token, _ := strings.Cut(r.URL.RawQuery, tokenParam)
	expires, ok := expiry(query)
	if !ok {
		return errUnsigned
	}
	if s.Now().Unix() > expires {
		return errExpired
	}
	salt, digest, ok := parseToken(token)
	if !ok {
		return errUnsigned
	}
	g, err := s.redirects.Get(ctx, s.DB, guard)
	if errs.Is(err, errs.NotFound) {
		return errUnsigned
	}
	if err != nil {
		return err
	}
	secret, err := hex.DecodeString(g.Secret)
	if err != nil || len(secret) == 0 {
		return errUnsigned
	}
	if subtle.ConstantTimeCompare(signature(salt, r.URL.Path, query, secret), digest) != 1 {
		return errUnsigned
	}
	return nil
}

// expiry reads the one parameter expires of what is signed.
func expiry(query string) (int64, bool) {
	text, found := "", 0
	for part := range strings.SplitSeq(query, "&") {
		if value, ok := strings.CutPrefix(part, "expires="); ok {
			text = value
			found++
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, found == 1 && err == nil
}

// parseToken reads a salt and a digest in hexadecimal with a colon between.
func parseToken(token string) (salt, digest []byte, ok bool) {
	token, _, _ = strings.Cut(token, "&")
	first, second, ok := strings.Cut(token, ":")
	if !ok {
		if first, second, ok = strings.Cut(token, "%3A"); !ok {
			return nil, nil, false
		}
	}
	if len(first) != 2*secretSize || len(second) != 2*sha256.Size {
		return nil, nil, false
	}
	salt, err := hex.DecodeString(first)
	if err != nil {
		return nil, nil, false
	}
	digest, err = hex.DecodeString(second)
	return salt, digest, err == nil
}
