package access

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"granary/internal/settings"
)

// rules are what a new password must keep to.
type rules struct {
	minLength int  // in characters
	common    bool // refuse those that many people have
	numeric   bool // refuse those of digits alone
}

const defaultMinLength = 8

// rulesOf reads a setting; which classes there are has been checked where it was loaded. The rule about passwords that are like the
// user's name is without effect, as in Pulp: its API checks passwords without the user.
func rulesOf(list []settings.PasswordValidator) (r rules) {
	for _, v := range list {
		switch v.Name[strings.LastIndexByte(v.Name, '.')+1:] {
		case "MinimumLengthValidator":
			r.minLength = defaultMinLength
			if n, ok := v.Options["min_length"].(int64); ok {
				r.minLength = int(n)
			}
		case "CommonPasswordValidator":
			r.common = true
		case "NumericPasswordValidator":
			r.numeric = true
		}
	}
	return r
}

// CheckPassword returns what speaks against a new password.
func (a *Access) CheckPassword(password string) []string {
	var list []string
	if n := a.rules.minLength; utf8.RuneCountInString(password) < n {
		unit := "characters"
		if n == 1 {
			unit = "character"
		}
		list = append(list, fmt.Sprintf("This password is too short. It must contain at least %d %s.", n, unit))
	}
	if a.rules.common && isCommon(password) {
		list = append(list, "This password is too common.")
	}
	if a.rules.numeric && password != "" && strings.IndexFunc(password, func(c rune) bool { return !unicode.IsDigit(c) }) < 0 {
		list = append(list, "This password is entirely numeric.")
	}
	return list
}

// commonPasswords are those that Django refuses: common-passwords.txt.gz is its list (see common-passwords.LICENSE).
//
//go:embed common-passwords.txt.gz
var commonPasswords []byte

// isCommon looks through the list, which takes little beside hashing the password.
func isCommon(password string) bool {
	zr, err := gzip.NewReader(bytes.NewReader(commonPasswords))
	if err != nil {
		return false
	}
	password = strings.ToLower(strings.TrimSpace(password))
	for sc := bufio.NewScanner(zr); sc.Scan(); {
		if sc.Text() == password {
			return true
		}
	}
	return false
}
