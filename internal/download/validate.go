package download

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"granary/internal/errs"
)

// maxPEM bounds the certificates of a remote: the world's public authorities take a quarter of it.
const maxPEM = 1 << 20

// ValidateURL checks a remote's URL: no credentials in it, and file:// URLs absolute and inside the import paths.
// Other schemes are not looked at; they fail when they are used. The error is that of the field "url".
func ValidateURL(rawURL string, importPaths []string) error {
	scheme, rest, _ := strings.Cut(rawURL, ":")
	if strings.EqualFold(scheme, "file") {
		if _, err := importRoot(localPath(rawURL), importPaths); err != nil {
			return errs.Field("url", err.Error())
		}
		return nil
	}
	authority, ok := strings.CutPrefix(rest, "//")
	if end := strings.IndexAny(authority, "/?#"); end >= 0 {
		authority = authority[:end]
	}
	if at := strings.LastIndexByte(authority, '@'); ok && at > 0 {
		return errs.Field("url", "The remote url contains username or password. Please use remote username or password instead.")
	}
	if strings.Contains(authority, "[") != strings.Contains(authority, "]") {
		return errs.Field("url", "Enter a valid URL.")
	}
	return nil
}

// ValidateProxy checks a remote's proxy fields as they will be stored. The error is that of "proxy_url" or of no field.
func ValidateProxy(proxyURL, username, password string) error {
	switch {
	case strings.Contains(proxyURL, "@"):
		return errs.Field("proxy_url", "proxy_url must not contain credentials")
	case proxyURL == "" && (username != "" || password != ""):
		return errs.NonFieldError("proxy credentials cannot be specified without a proxy")
	case (username == "") != (password == ""):
		return errs.NonFieldError("proxy username and password can only be specified together")
	}
	return nil
}

// CleanPEM returns the certificates in the text, without anything around them, each block ended by a newline.
// The error is that of the field.
func CleanPEM(field, text string) (string, error) {
	certs, blocks, err := certificates(text)
	if err != nil || len(certs) == 0 {
		return "", errs.Field(field, pemText(field, text, err))
	}
	return strings.Join(blocks, "\n") + "\n", nil
}

// pemText says why there are no certificates in a text, nil meaning that there are none at all.
func pemText(field, text string, err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf("Invalid %s specified, error '%s'", field, strings.TrimPrefix(err.Error(), "x509: "))
	case strings.Contains(text, "PRIVATE KEY"): // somebody's mistake, which is not to end up in a log
		return fmt.Sprintf("No %s specified in string with a private key", field)
	}
	return fmt.Sprintf("No %s specified in string %s", field, text)
}

// certificates finds the certificates in a text, and their blocks as they are written there. The first one that cannot
// be read is an error; those that could be are returned with it.
func certificates(text string) (certs []*x509.Certificate, blocks []string, first error) {
	const begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
	if len(text) > maxPEM {
		return nil, nil, fmt.Errorf("longer than %d bytes", maxPEM)
	}
	for {
		i := strings.Index(text, begin)
		if i < 0 {
			return certs, blocks, first
		}
		text = text[i:]
		body, rest, ok := strings.Cut(text[len(begin):], end)
		if !ok {
			if len(blocks) > 0 && first == nil {
				first = errors.New("the last certificate has no end")
			}
			return certs, blocks, first
		}
		block := text[:len(text)-len(rest)]
		text = rest
		cert, err := certificate(body)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		certs, blocks = append(certs, cert), append(blocks, block)
	}
}

// certificate reads what stands between the two lines of a PEM block. It is more lenient than encoding/pem with blanks.
func certificate(body string) (*x509.Certificate, error) {
	body = strings.TrimSpace(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(body))
	if header, rest, ok := strings.Cut(body, "\n\n"); ok {
		for line := range strings.Lines(header) {
			if !strings.Contains(line, ":") {
				return nil, errors.New("malformed PEM header")
			}
		}
		body = rest
	}
	der, err := base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(body), ""))
	if err != nil {
		return nil, errors.New("malformed PEM data")
	}
	return x509.ParseCertificate(der)
}
