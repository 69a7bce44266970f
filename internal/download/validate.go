package download

import (
	"errors"

	"granary/internal/pulp"
)

// ValidateURL checks a remote's URL: no credentials in it, and file:// URLs absolute and inside the import paths.
// The error is that of the field "url".
func ValidateURL(rawURL string, importPaths []string) error { return errors.ErrUnsupported }

// ValidateProxy checks a remote's proxy fields as they will be stored. The error is that of "proxy_url" or of no field.
func ValidateProxy(proxyURL, username, password string) error { return errors.ErrUnsupported }

// CleanPEM returns the certificates in the text, without anything around them, each block ended by a newline.
// The error is that of the field.
func CleanPEM(field, text string) (string, error) { return "", errors.ErrUnsupported }

// Check compares a file with what was expected of it: every digest that both sides have, then the size unless it is
// 0 or less. The error is an [*Error] that names the URL.
func Check(rawURL string, want pulp.Digests, wantSize int64, got pulp.Digests, gotSize int64) error {
	return errors.ErrUnsupported
}
