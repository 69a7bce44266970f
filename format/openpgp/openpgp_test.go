package openpgp_test

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // old keys have it
	"crypto/sha1" //nolint:gosec // old keys have it
	"crypto/sha3"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	//lint:ignore SA1019 old keys have it
	"golang.org/x/crypto/ripemd160" //nolint:gosec,staticcheck // see above

	"granary/format/openpgp"
	craft "granary/format/openpgp/openpgptest"
)

func file(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func parse(t *testing.T, data []byte) *openpgp.Key {
	t.Helper()
	k, err := openpgp.ParseKey(data)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyOfTheDraft(t *testing.T) {
	k := parse(t, file(t, "alice-revoked.asc"))
	if k.Fingerprint != "eb85bb5fa33a75e15e944e63f231550c4f47e38e" || k.KeyID != "f231550c4f47e38e" || k.Version != 4 {
		t.Errorf("got %s (%s) of version %d", k.Fingerprint, k.KeyID, k.Version)
	}
	if want := time.Date(2019, 1, 22, 11, 56, 25, 0, time.UTC); !k.Created.Equal(want) {
		t.Errorf("it was created at %s, want %s", k.Created, want)
	}
	if len(k.Signatures) != 1 || k.Signatures[0].Type != 0x20 || k.Signatures[0].Issuer != k.KeyID {
		t.Errorf("signatures on the key: %+v", k.Signatures)
	}
	if len(k.UserIDs) != 1 || k.UserIDs[0].ID != "Alice Lovelace <alice@openpgp.example>" || len(k.UserIDs[0].Signatures) != 1 {
		t.Errorf("user ids: %+v", k.UserIDs)
	}
	if len(k.Subkeys) != 1 || k.Subkeys[0].Fingerprint != "ea02b24ffd4c1b96616d3df24766f6b9d5f21eb6" || len(k.Subkeys[0].Signatures) != 1 {
		t.Errorf("subkeys: %+v", k.Subkeys)
	}
	if k := parse(t, file(t, "bob-pub.asc")); k.Fingerprint != "d1a66e1a23b182c9980f788cfbfcc82a015e7330" {
		t.Errorf("Bob's key is %s", k.Fingerprint)
	}
}

var (
	key    = craft.Key(4, "key")
	subkey = craft.Key(4, "subkey")
	photo  = []byte("\x04\x01abc")
)

const name = "Somebody <somebody@openpgp.example>"

func keyPacket() []byte  { return craft.Packet(openpgp.TagPublicKey, key) }
func namePacket() []byte { return craft.Packet(openpgp.TagUserID, []byte(name)) }
func nameSig() []byte    { return craft.Sig{Type: 0x13, On: craft.OnUserID(key, name)}.Packet() }

func TestAllPacketsAreKept(t *testing.T) {
	issuer := craft.Sub(16, string(craft.ID(key)))
	packets := [][]byte{
		keyPacket(), craft.Sig{Type: 0x1f, On: craft.OnKey(key), Hashed: craft.Created + craft.Sub(3, craft.Seconds(3600)) + craft.Sub(9, craft.Seconds(86400)), Unknown: issuer}.Packet(),
		namePacket(), craft.Sig{Type: 0x13, On: craft.OnUserID(key, name), Hashed: craft.Created + craft.Sub(28, "me@x")}.Packet(),
		craft.Sig{Type: 0x30, On: craft.OnUserID(key, name)}.Packet(),
		craft.Packet(openpgp.TagUserAttribute, photo), craft.Sig{Type: 0x10, On: craft.OnAttribute(key, photo)}.Packet(),
		craft.Packet(openpgp.TagPublicSubkey, subkey), craft.Sig{Type: 0x18, On: craft.OnSubkey(key, subkey)}.Packet(), craft.Sig{Type: 0x28, On: craft.OnSubkey(key, subkey)}.Packet(),
	}
	k := parse(t, slices.Concat(packets...))
	s := k.Signatures[0]
	if s.Expires != time.Hour || s.KeyExpires != 24*time.Hour || s.Issuer != k.KeyID || s.Created.Unix() != craft.Made {
		t.Errorf("the key's signature says %+v", s)
	}
	if got := k.UserIDs[0].Signatures[0].SignersName; got != "me@x" {
		t.Errorf("the signer is called %q", got)
	}
	var out []byte
	put := func(tag byte, body []byte, signatures []openpgp.Signature) {
		out = openpgp.AppendPacket(out, tag, body)
		for _, s := range signatures {
			out = openpgp.AppendPacket(out, openpgp.TagSignature, s.Packet)
		}
	}
	put(openpgp.TagPublicKey, k.Packet, k.Signatures)
	put(openpgp.TagUserID, k.UserIDs[0].Packet, k.UserIDs[0].Signatures)
	put(openpgp.TagUserAttribute, k.Attributes[0].Packet, k.Attributes[0].Signatures)
	put(openpgp.TagPublicSubkey, k.Subkeys[0].Packet, k.Subkeys[0].Signatures)
	if want := slices.Concat(packets...); !bytes.Equal(out, want) {
		t.Errorf("put together again it is\n%x, want\n%x", out, want)
	}
}

func TestFingerprints(t *testing.T) {
	old := md5.Sum([]byte("\x9a\xbc\xde\xf0\x12\x34\x56\x78\x9a\xbc\x03")) //nolint:gosec // by the standard: of its numbers
	for _, tc := range []struct {
		body            []byte
		fingerprint, id string
	}{
		{craft.Key(4, "k"), "0b0555ae89b928cd6b06ddbe08ddeef7766ab8a2", "08ddeef7766ab8a2"},
		{craft.Key(5, "v"), "85d322e683467847ab310b02e83d05bed5602fa75217a43d2645c92f80f9060c", "85d322e683467847"},
		{craft.OldKey(), hex.EncodeToString(old[:]), "def0123456789abc"},
	} {
		k := parse(t, craft.Packet(openpgp.TagPublicKey, tc.body))
		if k.Fingerprint != tc.fingerprint || k.KeyID != tc.id {
			t.Errorf("version %d: %s (%s), want %s (%s)", k.Version, k.Fingerprint, k.KeyID, tc.fingerprint, tc.id)
		}
	}
}

// TestVersion6 has the key of RFC 9580, A.3.
func TestVersion6(t *testing.T) {
	k := parse(t, []byte(`-----BEGIN PGP PUBLIC KEY BLOCK-----

xioGY4d/4xsAAAAg+U2nu0jWCmHlZ3BqZYfQMxmZu52JGggkLq2EVD34laPCsQYf
GwoAAABCBYJjh3/jAwsJBwUVCg4IDAIWAAKbAwIeCSIhBssYbE8GCaaX5NUt+mxy
KwwfHifBilZwj2Ul7Ce62azJBScJAgcCAAAAAK0oIBA+LX0ifsDm185Ecds2v8lw
gyU2kCcUmKfvBXbAf6rhRYWzuQOwEn7E/aLwIwRaLsdry0+VcallHhSu4RN6HWaE
QsiPlR4zxP/TP7mhfVEe7XWPxtnMUMtf15OyA51YBM4qBmOHf+MZAAAAIIaTJINn
+eUBXbki+PSAld2nhJh/LVmFsS+60WyvXkQ1wpsGGBsKAAAALAWCY4d/4wKbDCIh
BssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce62azJAAAAAAQBIKbpGG2dWTX8
j+VjFM21J0hqWlEg+bdiojWnKfA5AQpWUWtnNwDEM0g12vYxoWM8Y81W+bHBw805
I8kWVkXU6vFOi+HWvv/ira7ofJu16NnoUkhclkUrk0mXubZvyl4GBg==
-----END PGP PUBLIC KEY BLOCK-----`))
	if want := "cb186c4f0609a697e4d52dfa6c722b0c1f1e27c18a56708f6525ec27bad9acc9"; k.Fingerprint != want || k.KeyID != want[:16] {
		t.Errorf("it is %s (%s), want %s", k.Fingerprint, k.KeyID, want)
	}
	if len(k.Signatures) != 1 || k.Signatures[0].Issuer != k.KeyID || len(k.Subkeys) != 1 || len(k.Subkeys[0].Signatures) != 1 {
		t.Errorf("its parts: %+v", k)
	}
}

func TestHashes(t *testing.T) {
	for id, h := range map[byte]func() hash.Hash{
		1: md5.New, 2: sha1.New, 3: ripemd160.New, 9: sha512.New384, 10: sha512.New,
		12: func() hash.Hash { return sha3.New256() }, 14: func() hash.Hash { return sha3.New512() },
	} {
		k := parse(t, slices.Concat(keyPacket(), namePacket(), craft.Sig{Type: 0x13, On: craft.OnUserID(key, name), Hash: id, New: h}.Packet()))
		if len(k.UserIDs[0].Signatures) != 1 {
			t.Errorf("hash %d: no signature", id)
		}
	}
	for _, version := range []byte{5, 6} {
		body := craft.Key(version, "key")
		s := craft.Sig{Version: version, Type: 0x13, On: craft.OnUserID(body, name)}.Packet()
		if k := parse(t, slices.Concat(craft.Packet(openpgp.TagPublicKey, body), namePacket(), s)); len(k.UserIDs[0].Signatures) != 1 {
			t.Errorf("version %d: no signature", version)
		}
	}
	// a name stands without its length in signatures of version 3
	old := craft.Sig{Version: 3, Type: 0x10, On: append(craft.OnKey(key), name...)}.Packet()
	if k := parse(t, slices.Concat(keyPacket(), namePacket(), old)); k.UserIDs[0].Signatures[0].Issuer != "aabbccddeeff0011" {
		t.Errorf("version 3: %+v", k.UserIDs[0].Signatures)
	}
}

func TestRefusals(t *testing.T) {
	whole := slices.Concat(keyPacket(), namePacket(), nameSig())
	sig := func(typ byte, on []byte) []byte { return craft.Sig{Type: typ, On: on}.Packet() }
	for _, tc := range []struct {
		what string
		data []byte
		want string
	}{
		{"a signature", file(t, "alice-revocation.asc"), "Not a public key."},
		{"a name first", slices.Concat(namePacket(), whole), "Not a public key."},
		{"a secret key", craft.Packet(5, key), "Not a public key."},
		{"nothing", nil, "Not a public key."},
		{"a wrong checksum", []byte(craft.Armor(whole, "crc")), "Checksum Mismatch"},
		{"text without an end", []byte(strings.Split(craft.Armor(whole, ""), "-----END")[0]), "Broken Stream"},
		{"text that is no base64", []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n-----END PGP PUBLIC KEY BLOCK-----"), "Broken Stream"},
		{"cut off", whole[:len(whole)-3], "Broken Stream"},
		{"cut off in a header", append(whole[:len(whole):len(whole)], 0xc2), "Broken Stream"},
		{"a key cut off", keyPacket()[:20], "Broken Stream"},
		{"a short key", craft.Packet(openpgp.TagPublicKey, []byte("\x04\x00\x00")), "Broken Stream"},
		{"text", []byte("garbage"), "Invalid Packet Tag"},
		{"a newline after it", append(whole[:len(whole):len(whole)], '\n'), "Invalid Packet Tag"},
		{"two keys", slices.Concat(whole, craft.Packet(openpgp.TagPublicKey, subkey)), "Invalid or unknown rfc4880 packet."},
		{"a marker", slices.Concat(keyPacket(), craft.Packet(10, []byte("PGP")), namePacket()), "Invalid or unknown rfc4880 packet."},
		{"another version", craft.Packet(openpgp.TagPublicKey, append([]byte{9}, key[1:]...)), "Invalid Packet version 9"},
		{"another digest", slices.Concat(keyPacket(), namePacket(), craft.Sig{Type: 0x13, On: craft.OnUserID(key, name), Wrong: true}.Packet()), "Signature canary mismatch"},
		{"another key's signature", slices.Concat(keyPacket(), namePacket(), sig(0x13, craft.OnUserID(subkey, name))), "Signature canary mismatch"},
		{"an unknown hash", slices.Concat(keyPacket(), namePacket(), craft.Sig{Type: 0x13, On: craft.OnUserID(key, name), Hash: 99}.Packet()), "Unknown hash algorithm 0x63 used for signature."},
		{"a document's signature", slices.Concat(keyPacket(), sig(0, craft.OnKey(key))), "Unsupported signature type 0x0."},
		{"a subkey's signature on a name", slices.Concat(keyPacket(), namePacket(), sig(0x18, craft.OnUserID(key, name))), "Out of band subkey key signature."},
		{"a name's signature on a key", slices.Concat(keyPacket(), sig(0x13, craft.OnKey(key))), "Out of band user ID or attribute signature."},
		{"a key's signature on a name", slices.Concat(keyPacket(), namePacket(), sig(0x1f, craft.OnKey(key))), "Out of band key signature."},
		{"a subpacket that ends too late", slices.Concat(keyPacket(), namePacket(), craft.Sig{Type: 0x13, On: craft.OnUserID(key, name), Hashed: craft.Created + "\x20\x02"}.Packet()), "Broken Stream"},
		{"no time", slices.Concat(keyPacket(), namePacket(), craft.Sig{Type: 0x13, On: craft.OnUserID(key, name), Unknown: craft.Sub(16, "12345678")}.Packet()), "There is a signature that does not say when it was made."},
		{"a name that is no text", slices.Concat(keyPacket(), craft.Packet(openpgp.TagUserID, []byte("a\xff"))), "'utf-8' codec can't decode byte 0xff in position 1: invalid start byte"},
		{"a name with a null", slices.Concat(keyPacket(), craft.Packet(openpgp.TagUserID, []byte("a\x00"))), "Null characters are not allowed."},
		{"partial lengths", append([]byte{0xc6, 0xe4}, key...), "Partial Packet Body is not implemented"},
		{"too much", bytes.Repeat([]byte{0xc6}, openpgp.MaxSize+1), "The key is larger than 4194304 bytes."},
		{"too many packets", append(keyPacket(), bytes.Repeat(namePacket(), 10_001)...), "The key has too many packets."},
	} {
		_, err := openpgp.ParseKey(tc.data)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s: got %v, want %s", tc.what, err, tc.want)
		}
	}
}

func TestForms(t *testing.T) {
	whole := slices.Concat(keyPacket(), namePacket(), nameSig())
	want := parse(t, whole)
	text := craft.Armor(whole, "")
	for what, data := range map[string]string{
		"armor":              text,
		"no checksum":        craft.Armor(whole, "no crc"),
		"blanks before":      "\n \n" + text,
		"text after":         text + "\nmore\n",
		"CRLF":               strings.ReplaceAll(text, "\n", "\r\n"),
		"headers":            strings.Replace(text, "\n\n", "\nVersion: x\nComment: y\n\n", 1),
		"indented":           strings.ReplaceAll(text, "\n", "\n  "),
		"old packets":        string(append([]byte{0x80 | 6<<2, byte(len(key))}, key...)) + string(append([]byte{0x80 | 13<<2 | 1, 0, byte(len(name))}, name...)) + string(nameSig()),
		"a length of 5":      string(append([]byte{0xc6, 255, 0, 0, 0, byte(len(key))}, key...)) + string(namePacket()) + string(nameSig()),
		"an old length of 4": string(append([]byte{0x80 | 6<<2 | 2, 0, 0, 0, byte(len(key))}, key...)) + string(namePacket()) + string(nameSig()),
	} {
		got, err := openpgp.ParseKey([]byte(data))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if diff := cmp.Diff(want.UserIDs, got.UserIDs); diff != "" || got.Fingerprint != want.Fingerprint {
			t.Errorf("%s: %s", what, diff)
		}
	}
	endless := parse(t, append([]byte{0x80 | 6<<2 | 3}, key...))
	if endless.Fingerprint != want.Fingerprint {
		t.Errorf("a packet up to the end is key %s", endless.Fingerprint)
	}
}

func TestArmor(t *testing.T) {
	const want = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nAAAAAA==\n=SXeu\n-----END PGP PUBLIC KEY BLOCK-----"
	got := string(openpgp.Armor(bytes.Repeat([]byte{0}, 61)))
	if got[:strings.Index(got, "\n=")] != want[:strings.Index(want, "\n=")] || !strings.HasSuffix(got, "-----END PGP PUBLIC KEY BLOCK-----") {
		t.Errorf("got\n%s", got)
	}
}

func FuzzParseKey(f *testing.F) {
	for _, name := range []string{"alice-pub.asc", "alice-revoked.asc", "bob-pub.asc", "alice-revocation.asc"} {
		f.Add(file(f, name))
	}
	whole := slices.Concat(keyPacket(), namePacket(), nameSig())
	f.Add(whole)
	f.Add([]byte(craft.Armor(whole, "no crc")))
	f.Add(slices.Concat(craft.Packet(openpgp.TagPublicKey, craft.Key(6, "k")), craft.Sig{Version: 6, Type: 0x1f, On: craft.OnKey(craft.Key(6, "k"))}.Packet()))
	f.Add(craft.Packet(openpgp.TagPublicKey, craft.OldKey()))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := openpgp.ParseKey(data)
		if err != nil {
			return
		}
		// what was read can be written, and is the same then
		out := openpgp.AppendPacket(nil, openpgp.TagPublicKey, k.Packet)
		for _, s := range k.Signatures {
			out = openpgp.AppendPacket(out, openpgp.TagSignature, s.Packet)
		}
		for _, u := range k.UserIDs {
			out = openpgp.AppendPacket(out, openpgp.TagUserID, u.Packet)
			for _, s := range u.Signatures {
				out = openpgp.AppendPacket(out, openpgp.TagSignature, s.Packet)
			}
		}
		again, err := openpgp.ParseKey(openpgp.Armor(out))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if again.Fingerprint != k.Fingerprint || len(again.UserIDs) != len(k.UserIDs) {
			t.Errorf("read again it is %s, not %s", again.Fingerprint, k.Fingerprint)
		}
	})
}
