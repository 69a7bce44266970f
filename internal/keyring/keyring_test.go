package keyring_test

import (
	"path/filepath"
	"testing"

	"granary/internal/keyring"
)

// The key and token of the Fernet specification's test vectors.
const (
	specKey   = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
	specToken = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="
)

func TestSpecificationVector(t *testing.T) {
	for _, file := range []string{specKey, "# old\n\ncw/0x689RpI+jtRR7oE8h/eQsKImvJapLeSbXpwF4e4=\n"} {
		keys, err := keyring.Parse([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := keys.Decrypt(specToken); err != nil || got != "hello" {
			t.Errorf("Decrypt = %q, %v, want hello", got, err)
		}
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	old, err := keyring.Create(filepath.Join(dir, "old"))
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := keyring.Load(filepath.Join(dir, "old"))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := keyring.Create(filepath.Join(dir, "new"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := old.Encrypt("geheim")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := append(fresh, loaded...).Decrypt(token); err != nil || got != "geheim" {
		t.Errorf("with both keys: %q, %v", got, err)
	}
	if _, err := fresh.Decrypt(token); err == nil {
		t.Error("the wrong key decrypts")
	}
	if _, err := keyring.Create(filepath.Join(dir, "old")); err == nil {
		t.Error("an existing key file was overwritten")
	}
}

func TestBadFiles(t *testing.T) {
	for _, file := range []string{"", "# only a comment", "short", specKey + "\nxyz"} {
		if _, err := keyring.Parse([]byte(file)); err == nil {
			t.Errorf("Parse(%q) accepts it", file)
		}
	}
}
