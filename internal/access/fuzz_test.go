package access

import (
	"encoding/base64"
	"encoding/json"
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

// FuzzPolicy: no policy that an administrator can write makes trouble, and none that is malformed allows.
func FuzzPolicy(f *testing.F) {
	for _, s := range []string{
		`[{"action": ["list"], "effect": "allow", "principal": "authenticated"}]`, `[{"action": "*", "principal": ["id:1", "group:x"], "effect": "allow", "condition": 5}]`,
		`[{"action": 5, "principal": {}, "effect": ["allow"], "condition": null, "condition_expression": "a and (b or not c)"}]`, `[]`, `null`, `""`, `{}`, `[1]`, `[{"condition": [null, 5, "x"]}]`,
	} {
		f.Add([]byte(s), []byte(`[{"function": "add_roles_for_users", "parameters": {"roles": "x", "users": [1]}}]`), []byte(`{"function": 5, "parameters": 5}`))
	}
	f.Fuzz(func(t *testing.T, statements, hooks, scoping []byte) {
		p, err := parsePolicy(statements, hooks, scoping)
		if (p == nil) != (err != nil) {
			t.Fatalf("a policy of %v and %v", p, err)
		}
		if p == nil {
			return
		}
		var written []map[string]any
		if json.Unmarshal(statements, &written) != nil || len(written) != len(p.statements) {
			return
		}
		for i, w := range written {
			for key, v := range w {
				list, isList := v.([]any)
				if strings.EqualFold(key, "condition") && key != "condition" {
					break // Go takes it for the same key
				}
				if key == "condition" && v != nil && (!isList || len(list) > 0) && len(p.statements[i].Condition) == 0 {
					t.Errorf("the condition of %s is lost", statements)
				}
			}
		}
		for _, h := range p.hooks {
			names(h.Parameters["roles"])
		}
	})
}

// FuzzExpression: an expression ends, and asks only about what it names.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{"a", "a and b", "not (a or b)", "((a)", "a b", "", "and", strings.Repeat("(", 100), strings.Repeat("not ", 100) + "a", "a or)"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, text string, holds bool) {
		p := &expressionParser{tokens: tokens(text), eval: func(condition string) (bool, error) {
			if condition == "" || !strings.Contains(text, condition) {
				t.Errorf("%q asks about %q", text, condition)
			}
			return holds, nil
		}}
		if _, err := p.or(true, 0); err != nil {
			t.Error(err)
		}
	})
}
