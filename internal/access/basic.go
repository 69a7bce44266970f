package access

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"granary/internal/errs"
)

// basic reads an Authorization header. One of another scheme counts as none.
func basic(header string) (name, password string, given bool, err error) {
	parts := strings.Fields(header)
	if len(parts) == 0 || !strings.EqualFold(parts[0], "basic") {
		return "", "", false, nil
	}
	switch {
	case len(parts) == 1:
		return "", "", true, errs.E(errs.Unauthenticated, "Invalid basic header. No credentials provided.")
	case len(parts) > 2:
		return "", "", true, errs.E(errs.Unauthenticated, "Invalid basic header. Credentials string should not contain spaces.")
	}
	raw, err := base64.StdEncoding.DecodeString(parts[1])
	text := string(raw)
	if !utf8.Valid(raw) { // then it is Latin-1
		runes := make([]rune, len(raw))
		for i, c := range raw {
			runes[i] = rune(c)
		}
		text = string(runes)
	}
	name, password, ok := strings.Cut(text, ":")
	if err != nil || !ok {
		return "", "", true, errs.E(errs.Unauthenticated, "Invalid basic header. Credentials not correctly base64 encoded.")
	}
	return name, password, true, nil
}
