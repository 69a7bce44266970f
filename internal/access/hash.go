package access

import (
	"crypto/md5" //nolint:gosec // old hashes are verified, none is made
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/scrypt"
)

const (
	defaultIterations = 1_000_000
	unusablePrefix    = "!"
	maxPassword       = 4096 // bytes; longer ones are wrong without a look
)

// Hash returns what is stored of a password. It takes long, on purpose: never call it in a transaction.
func (a *Access) Hash(password string) (string, error) {
	if len(password) > maxPassword {
		return "", fmt.Errorf("a password may have at most %d bytes", maxPassword)
	}
	return encode(password, randomText(22), a.Iterations)
}

// Unusable returns what is stored of a user whom no password lets in.
func Unusable() string { return unusablePrefix + randomText(40) }

const alphanumerics = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// randomText returns n random letters and digits.
func randomText(n int) string {
	const fair = 256 - 256%len(alphanumerics)
	text := make([]byte, 0, n)
	b := make([]byte, 2*n)
	for len(text) < n {
		_, _ = rand.Read(b) // never fails
		for _, c := range b {
			if int(c) < fair && len(text) < n {
				text = append(text, alphanumerics[int(c)%len(alphanumerics)])
			}
		}
	}
	return string(text)
}

func encode(password, salt string, iterations int) (string, error) {
	key, err := pbkdf2.Key(sha256.New, password, []byte(salt), iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return fmt.Sprintf("pbkdf2_sha256$%d$%s$%s", iterations, salt, base64.StdEncoding.EncodeToString(key)), nil
}

// outdated says whether a hash should be replaced by one that [Access.Hash] makes.
func (a *Access) outdated(encoded string) bool {
	parts := strings.Split(encoded, "$")
	if parts[0] != "pbkdf2_sha256" || len(parts) != 4 {
		return true
	}
	n, err := strconv.Atoi(parts[1])
	return err != nil || n < a.Iterations
}

var errHash = errors.New("the stored hash has no form that is known")

// matches says whether a password is the one of a hash in one of Django's forms.
func matches(encoded, password string) (bool, error) {
	algorithm, rest, _ := strings.Cut(encoded, "$")
	switch algorithm {
	case "pbkdf2_sha256":
		return matchesPBKDF2(sha256.New, sha256.Size, rest, password)
	case "pbkdf2_sha1":
		return matchesPBKDF2(sha1.New, sha1.Size, rest, password)
	case "argon2":
		return matchesArgon2(rest, password)
	case "scrypt":
		return matchesScrypt(rest, password)
	case "bcrypt_sha256":
		sum := sha256.Sum256([]byte(password))
		return matchesBcrypt(rest, hex.EncodeToString(sum[:]))
	case "bcrypt":
		return matchesBcrypt(rest, password[:min(len(password), 72)])
	case "md5":
		salt, want, ok := strings.Cut(rest, "$")
		if !ok {
			return false, errHash
		}
		sum := md5.Sum([]byte(salt + password)) //nolint:gosec // see the import
		return equal(want, hex.EncodeToString(sum[:])), nil
	}
	return false, errHash
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// number reads a parameter of a hash, within what a sane one has.
func number(s string, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, errHash
	}
	return n, nil
}

func matchesPBKDF2(h func() hash.Hash, size int, rest, password string) (bool, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 3 {
		return false, errHash
	}
	iterations, err := number(parts[0], 20_000_000)
	if err != nil {
		return false, err
	}
	key, err := pbkdf2.Key(h, password, []byte(parts[1]), iterations, size)
	return err == nil && equal(parts[2], base64.StdEncoding.EncodeToString(key)), err
}

// matchesArgon2 reads argon2id$v=19$m=102400,t=2,p=8$<salt>$<hash>, or the same with argon2i.
func matchesArgon2(rest, password string) (bool, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 5 || parts[1] != fmt.Sprintf("v=%d", argon2.Version) {
		return false, errHash
	}
	var params [3]int
	fields := strings.Split(parts[2], ",")
	if len(fields) != 3 {
		return false, errHash
	}
	for i, p := range []struct {
		prefix string
		most   int
	}{{"m=", 1 << 20}, {"t=", 64}, {"p=", 64}} {
		text, ok := strings.CutPrefix(fields[i], p.prefix)
		n, err := number(text, p.most)
		if !ok || err != nil {
			return false, errHash
		}
		params[i] = n
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[3])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[4])
	if err1 != nil || err2 != nil || len(want) < 4 || len(want) > 256 {
		return false, errHash
	}
	derive := argon2.IDKey
	switch parts[0] {
	case "argon2id":
	case "argon2i":
		derive = argon2.Key
	default:
		return false, errHash
	}
	got := derive([]byte(password), salt, uint32(params[1]), uint32(params[0]), uint8(params[2]), uint32(len(want))) //nolint:gosec // checked above
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// matchesScrypt reads <work factor>$<salt>$<block size>$<parallelism>$<hash>.
func matchesScrypt(rest, password string) (bool, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 5 {
		return false, errHash
	}
	n, err1 := number(parts[0], 1<<18)
	r, err2 := number(parts[2], 32)
	p, err3 := number(parts[3], 16)
	want, err4 := base64.StdEncoding.DecodeString(parts[4])
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || len(want) < 16 || len(want) > 256 {
		return false, errHash
	}
	got, err := scrypt.Key([]byte(password), []byte(parts[1]), n, r, p, len(want))
	if err != nil {
		return false, errHash
	}
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

const maxBcryptCost = 16

func matchesBcrypt(rest, password string) (bool, error) {
	stored := []byte(strings.TrimPrefix(rest, "$")) // Django writes bcrypt$$2b$12$…
	stored = append([]byte("$"), stored...)
	cost, err := bcrypt.Cost(stored)
	if err != nil || cost > maxBcryptCost {
		return false, errHash
	}
	err = bcrypt.CompareHashAndPassword(stored, []byte(password))
	if err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, errHash
	}
	return err == nil, nil
}
