// Package keyring encrypts what must not lie readable in the database: passwords, keys, task arguments.
// Tokens are Fernet (AES-128-CBC, HMAC-SHA256), as in Pulp's databases.
package keyring

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fernet/fernet-go"
)

// Keys encrypts with its first key and decrypts with any.
type Keys []*fernet.Key

// Parse reads a key file: one 32-byte key in base64 (either alphabet) a line; blank lines and lines that
// begin with # are skipped.
func Parse(file []byte) (Keys, error) {
	var keys Keys
	sc := bufio.NewScanner(bytes.NewReader(file))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		raw, err := base64.URLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(line))
		if err != nil || len(raw) != len(fernet.Key{}) {
			return nil, fmt.Errorf("line %d holds no 32-byte base64 key", n)
		}
		keys = append(keys, (*fernet.Key)(raw))
	}
	if len(keys) == 0 {
		return nil, errors.New("no key in it")
	}
	return keys, nil
}

// Load reads a key file.
func Load(path string) (Keys, error) {
	b, err := os.ReadFile(filepath.Clean(path))
	if err == nil {
		var k Keys
		if k, err = Parse(b); err == nil {
			return k, nil
		}
	}
	return nil, fmt.Errorf("Could not load DB_ENCRYPTION_KEY file '%s': %w", path, err) //nolint:staticcheck // the text that operators know
}

// Create writes a new file with one random key, readable by its owner alone. It fails where the file exists.
func Create(path string) (Keys, error) {
	var k fernet.Key
	if _, err := rand.Read(k[:]); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(k.Encode() + "\n")
	return Keys{&k}, errors.Join(err, f.Sync(), f.Close())
}

// Encrypt returns a token for text.
func (k Keys) Encrypt(text string) (string, error) {
	tok, err := fernet.EncryptAndSign([]byte(text), k[0])
	return string(tok), err
}

// Decrypt returns the text of a token that any of the keys made.
func (k Keys) Decrypt(token string) (string, error) {
	msg := fernet.VerifyAndDecrypt([]byte(token), 0, k)
	if msg == nil {
		return "", errors.New("no key of DB_ENCRYPTION_KEY decrypts it")
	}
	return string(msg), nil
}

// Newest says whether a token was made with the first key.
func (k Keys) Newest(token string) bool {
	return len(k) > 0 && fernet.VerifyAndDecrypt([]byte(token), 0, k[:1]) != nil
}

// Has says whether k decrypts what other's first key encrypts.
func (k Keys) Has(other Keys) bool {
	for _, key := range k {
		if *key == *other[0] {
			return true
		}
	}
	return false
}
