package access

import (
	"encoding/base64"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse: no stored hash, however broken, makes trouble before it is known to be sane.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"pbkdf2_sha256$1000$fFEwRZP5cxnifIgcrcL6AX$CvDN4aYeSaak6lx69MPHrh9704AS5keFr0FMI3zKosI=",
		"argon2$argon2id$v=19$m=1024,t=2,p=8$TGMwbmY1djRSOVdFa0RMZnhRU3FVMg$hHxXaBs8KxULQbN3/A8Wu4nzwhdUsnRAxWSGRcqLdLc",
		"bcrypt_sha256$$2b$04$VL2w7ICspJtlbgu4XLDv6.3xOFqbD24OYDmXK7MLH3RfE4qtkfxEK",
		"scrypt$1024$5CG4rAKUw89Y6j5gl4maZH$8$1$+PcKOpTjX4BhRaG9phjoAFRvbGAgOhuJxR8EEODjD3wzyt+gYnnNaJMdEkYaJvAOXx02ctYNJ8v65/qvxJ12Iw==",
		"md5$txddG0uPgWckKISyRqncUM$5d15d9b6d93f54b36b597ccbd462f193", "!x", "", "$", "pbkdf2_sha1$-1$$",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		check, err := parse(encoded)
		if (check == nil) != (err != nil) {
			t.Errorf("parse(%q) = a checker and %v", encoded, err)
		}
		if strings.HasPrefix(encoded, unusablePrefix) && err == nil {
			t.Errorf("%q has a checker", encoded)
		}
	})
}

// FuzzBasic: what the header was made of comes out of it, and nothing else is taken for credentials.
func FuzzBasic(f *testing.F) {
	for _, s := range []string{"Basic YWRtaW46cGFzc3dvcmQ=", "basic", "Basic a b", "Basic !", "Bearer x", "", "BASIC YTo=", "Basic /////w=="} {
		f.Add(s, "admin", "pass:word")
	}
	f.Fuzz(func(t *testing.T, header, name, password string) {
		n, p, given, err := basic(header)
		if (err != nil || n != "" || p != "") && !given {
			t.Errorf("basic(%q) = %q, %q, not given, %v", header, n, p, err)
		}
		if strings.Contains(name, ":") || !utf8.ValidString(name) || !utf8.ValidString(password) {
			return
		}
		n, p, given, err = basic("Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password)))
		if n != name || p != password || !given || err != nil {
			t.Errorf("%q and %q come out as %q, %q, %v, %v", name, password, n, p, given, err)
		}
	})
}
