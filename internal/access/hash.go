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

// A checker says whether a password is the one that a hash was made of.
type checker func(password string) bool

// parse reads a hash in one of Django's forms. It is quick; the checker is not, on purpose.
func parse(encoded string) (checker, error) {
	algorithm, rest, _ := strings.Cut(encoded, "$")
	switch algorithm {
	case "pbkdf2_sha256":
		return parsePBKDF2(sha256.New, sha256.Size, rest)
	case "pbkdf2_sha1":
		return parsePBKDF2(sha1.New, sha1.Size, rest)
	case "argon2":
		return parseArgon2(rest)
	case "scrypt":
		return parseScrypt(rest)
	case "bcrypt":
		return parseBcrypt(rest)
	case "bcrypt_sha256":
		check, err := parseBcrypt(rest)
		if err != nil {
			return nil, err
		}
		return func(password string) bool {
			sum := sha256.Sum256([]byte(password))
			return check(hex.EncodeToString(sum[:]))
		}, nil
	case "md5":
		salt, want, ok := strings.Cut(rest, "$")
		if !ok {
			return nil, errHash
		}
		return func(password string) bool {
			sum := md5.Sum([]byte(salt + password)) //nolint:gosec // see the import
			return equal(want, hex.EncodeToString(sum[:]))
		}, nil
	}
	return nil, errHash
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

// parsePBKDF2 reads <iterations>$<salt>$<hash>.
func parsePBKDF2(h func() hash.Hash, size int, rest string) (checker, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 3 {
		return nil, errHash
	}
	iterations, err := number(parts[0], 20_000_000)
	if err != nil {
		return nil, err
	}
	return func(password string) bool {
		key, err := pbkdf2.Key(h, password, []byte(parts[1]), iterations, size)
		return err == nil && equal(parts[2], base64.StdEncoding.EncodeToString(key))
	}, nil
}

// parseArgon2 reads argon2id$v=19$m=<KiB>,t=<passes>,p=<lanes>$<salt>$<hash>, or the same with argon2i.
func parseArgon2(rest string) (checker, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 5 || parts[1] != fmt.Sprintf("v=%d", argon2.Version) {
		return nil, errHash
	}
	fields := strings.Split(parts[2], ",")
	limits := []struct {
		prefix string
		most   int
	}{{"m=", 1 << 20}, {"t=", 64}, {"p=", 64}}
	if len(fields) != len(limits) {
		return nil, errHash
	}
	var params [3]int
	for i, l := range limits {
		text, ok := strings.CutPrefix(fields[i], l.prefix)
		n, err := number(text, l.most)
		if !ok || err != nil {
			return nil, errHash
		}
		params[i] = n
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[3])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[4])
	derive := map[string]func(password, salt []byte, time, memory uint32, threads uint8, size uint32) []byte{"argon2id": argon2.IDKey, "argon2i": argon2.Key}[parts[0]]
	if err1 != nil || err2 != nil || derive == nil || len(want) < 16 || len(want) > 256 {
		return nil, errHash
	}
	return func(password string) bool {
		got := derive([]byte(password), salt, uint32(params[1]), uint32(params[0]), uint8(params[2]), uint32(len(want))) //nolint:gosec // checked above
		return subtle.ConstantTimeCompare(got, want) == 1
	}, nil
}

// parseScrypt reads <work factor>$<salt>$<block size>$<parallelism>$<hash>.
func parseScrypt(rest string) (checker, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 5 {
		return nil, errHash
	}
	n, err1 := number(parts[0], 1<<18)
	r, err2 := number(parts[2], 32)
	p, err3 := number(parts[3], 16)
	want, err4 := base64.StdEncoding.DecodeString(parts[4])
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || len(want) < 16 || len(want) > 256 {
		return nil, errHash
	}
	return func(password string) bool {
		got, err := scrypt.Key([]byte(password), []byte(parts[1]), n, r, p, len(want))
		return err == nil && subtle.ConstantTimeCompare(got, want) == 1
	}, nil
}

const (
	maxBcryptCost     = 16
	maxBcryptPassword = 72 // bytes; what follows never counted
)

// parseBcrypt reads $2b$<cost>$<salt and hash>.
func parseBcrypt(rest string) (checker, error) {
	stored := []byte(rest)
	cost, err := bcrypt.Cost(stored)
	if err != nil || cost > maxBcryptCost {
		return nil, errHash
	}
	return func(password string) bool {
		return bcrypt.CompareHashAndPassword(stored, []byte(password[:min(len(password), maxBcryptPassword)])) == nil
	}, nil
}
