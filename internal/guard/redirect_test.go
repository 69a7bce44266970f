package guard

import (
	"encoding/hex"
	"testing"
)

// FuzzToken reads what links may have for their signature and their end.
func FuzzToken(f *testing.F) {
	f.Add("expires=1", "aa:bb")
	f.Add("a=b&expires=99999999999", "00:11&x=y")
	f.Add("expires=1&expires=2", "zz")
	f.Fuzz(func(t *testing.T, query, token string) {
		_, _ = expiry(query)
		salt, digest, ok := parseToken(token)
		if ok && (len(salt) != secretSize || len(digest) != 32) {
			t.Errorf("parseToken(%q) = %x, %x", token, salt, digest)
		}
		own := hex.EncodeToString(make([]byte, secretSize)) + ":" + hex.EncodeToString(signature(make([]byte, secretSize), query, token, nil))
		if _, _, ok := parseToken(own); !ok {
			t.Errorf("%q is not read", own)
		}
	})
}
