package entitlement_test

import (
	"bytes"
	"compress/zlib"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"granary/format/entitlement"
)

const base = "1.3.6.1.4.1.2312.9."

func der(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func text(t testing.TB, id, s string) entitlement.Extension {
	t.Helper()
	return entitlement.Extension{ID: base + id, Value: der(t, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(s)})}
}

// compressed are the extensions of a certificate with a tree.
func compressed(t testing.TB, payload []byte) []entitlement.Extension {
	t.Helper()
	return []entitlement.Extension{text(t, "6", "3.4"), {ID: base + "7", Value: der(t, payload)}}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// oneEach was made by Candlepin: /Default_Organization/Library/custom/foo/foo.
const oneEach = "78da4b2e2d2ec9cf65f0c94c2a4a2caa6470494d4b2ccd2989f72f4a4fcccbac4a2cc9cccf6348cbcf67000035240ece063fad3e5b30"

func TestPaths(t *testing.T) {
	plain := []entitlement.Extension{
		text(t, "4.1", "an order"), text(t, "2.1583437887307.1.1", "a name"), text(t, "2.1583437887307.1.6", "/foo/path/never"),
		text(t, "2.7.1.6", "/path/to/$basearch/$releasever/awesomeos/"), text(t, "2.7.1.60", "/other"), text(t, "2.x.1.6", "/other"),
		{ID: "1.2.3", Value: []byte("anything")},
	}
	for name, extensions := range map[string][]entitlement.Extension{
		"one extension a path": plain,
		"version 1 says so":    append([]entitlement.Extension{text(t, "6", "1.0")}, plain...),
		"a tree": compressed(t, encode(t, tree{
			{{"foo", 1}, {"path", 2}}, {{"path", 3}}, {{"to", 4}}, {{"never", 5}}, {{"$basearch", 6}}, {}, {{"$releasever", 7}}, {{"awesomeos", 5}},
		})),
		"a tree before paths": append(compressed(t, encode(t, tree{
			{{"foo", 1}, {"path", 2}}, {{"path", 3}}, {{"to", 4}}, {{"never", 5}}, {{"$a", 6}}, {}, {{"$b", 7}}, {{"awesomeos", 5}},
		})), text(t, "2.9.1.6", "/other")),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := entitlement.Read(extensions)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{
				"/foo/path/never", "foo/path/never/", "//foo//path/never", "/foo/path/never/a/b", "/path/to/x86_64/9/awesomeos", "/path/to/x86_64/9/awesomeos/repodata/repomd.xml",
			} {
				if !p.Cover(path) {
					t.Errorf("%q is not covered", path)
				}
			}
			for _, path := range []string{
				"", "////", "/foo", "/foo/path", "/path/never", "/foo/path/nevermore", "/foo/path/neve", "x/foo/path/never", "/path/to//9/awesomeos", "/path/to/a/b/awesomeo", "/other", "/Foo/path/never",
			} {
				if p.Cover(path) {
					t.Errorf("%q is covered", path)
				}
			}
		})
	}
}

func TestOfCandlepin(t *testing.T) {
	p, err := entitlement.Read(compressed(t, unhex(t, oneEach)))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"Default_Organization/Library/custom/foo/foo": true, "Default_Organization/Library/custom/foo/foo/os/x.rpm": true,
		"Default_Organization/Library/custom/foo": false, "Default_Organization/Library/custom/bar/foo": false, "": false,
	} {
		if got := p.Cover(path); got != want {
			t.Errorf("Cover(%q) = %v", path, got)
		}
	}
}

// TestCycles says that a tree that leads back into itself covers nothing by that, and takes no time.
func TestCycles(t *testing.T) {
	p, err := entitlement.Read(compressed(t, encode(t, tree{{{"a", 1}, {"$x", 1}}, {{"a", 2}, {"$x", 2}}, {{"a", 1}, {"b", 3}, {"$x", 1}}, {}})))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if long := strings.Repeat("a/", 10_000); p.Cover(long) || !p.Cover(long+"b") {
		t.Error("the tree's cycle is not walked as it should be")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestMalformed(t *testing.T) {
	words := func(s string) []byte {
		var b bytes.Buffer
		zw := zlib.NewWriter(&b)
		_, _ = zw.Write([]byte(s))
		_ = zw.Close()
		return b.Bytes()
	}
	for name, extensions := range map[string][]entitlement.Extension{
		"nothing":                    nil,
		"a version alone":            {text(t, "6", "1.0")},
		"no payload":                 {text(t, "6", "3.0")},
		"a strange version":          {text(t, "6", "three"), text(t, "2.1.1.6", "/a")},
		"a version that is no text":  {{ID: base + "6", Value: []byte{2, 1, 3}}},
		"a path that is no text":     {{ID: base + "2.1.1.6", Value: []byte{0x0c, 9, 'x'}}},
		"an empty path":              {text(t, "2.1.1.6", "/")},
		"a payload of another type":  {text(t, "6", "3.0"), text(t, "7", "x")},
		"no stream":                  compressed(t, []byte("no stream")),
		"a stream that is cut off":   compressed(t, unhex(t, oneEach)[:20]),
		"no number of nodes":         compressed(t, words("a\x00")),
		"a number that is cut off":   compressed(t, append(words("a\x00"), 0x82, 1)),
		"too many nodes":             compressed(t, append(words("a\x00"), 0x84, 0xff, 0xff, 0xff, 0xff)),
		"a tree that is cut off":     compressed(t, append(words("a\x00b\x00"), 9, 0xff)),
		"words without end":          compressed(t, append(words("a"), 2)), // one word takes no bits, and never ends a node
		"children where none can be": compressed(t, append(words("a\x00"), 1, 0)),
		"a bomb":                     compressed(t, append(words(strings.Repeat("a", 2<<20)), 1)),
		"too many words":             compressed(t, append(words(strings.Repeat("a\x00", 1<<17)), 1)),
		"a long payload":             compressed(t, make([]byte, 300<<10)),
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := entitlement.Read(extensions); err == nil {
				t.Errorf("read %+v", p)
			}
		})
	}
	if _, err := entitlement.Read(nil); !errors.Is(err, entitlement.ErrNone) {
		t.Errorf("Read(nil): %v, want ErrNone", err)
	}
	p, err := entitlement.Read(compressed(t, append(words("\x00"), 1, 0)))
	if err != nil || p.Cover("") || p.Cover("a") {
		t.Errorf("a tree of nothing: %v, covers \"\" %v, a %v", err, p.Cover(""), p.Cover("a"))
	}
}

func FuzzTree(f *testing.F) {
	f.Add(unhex(f, oneEach), "Default_Organization/Library/custom/foo/foo")
	f.Add(encode(f, tree{{{"a", 1}, {"$b", 1}}, {}}), "a/b")
	f.Add([]byte("x"), "a")
	f.Fuzz(func(t *testing.T, payload []byte, path string) {
		p, err := entitlement.Read(compressed(t, payload))
		if err != nil {
			return
		}
		if p.Cover("") {
			t.Error("the empty path is covered")
		}
		if covered := p.Cover(path); covered && !p.Cover(path+"/below") {
			t.Errorf("%q is covered, and what is below it is not", path)
		}
	})
}

func FuzzExtensions(f *testing.F) {
	f.Add("6", []byte{0x0c, 3, '3', '.', '0'}, "7", []byte{4, 1, 0})
	f.Add("2.1.1.6", []byte{0x0c, 2, '/', 'a'}, "6", []byte{0x0c, 3, '1', '.', '0'})
	f.Fuzz(func(t *testing.T, id1 string, v1 []byte, id2 string, v2 []byte) {
		p, err := entitlement.Read([]entitlement.Extension{{ID: base + id1, Value: v1}, {ID: base + id2, Value: v2}})
		if err == nil && p.Cover("") {
			t.Error("the empty path is covered")
		}
	})
}

// A tree is what is encoded: the nodes, each with its edges.
type tree [][]edge

type edge struct {
	word string
	to   int
}

// encode writes a payload, by the definition of the format and not by how it is read: with codes as trees of nested pairs.
func encode(t testing.TB, nodes tree) []byte {
	t.Helper()
	var words []string
	for _, n := range nodes {
		for _, e := range n {
			words = append(words, e.word)
		}
	}
	words = append(words, "")
	var b bytes.Buffer
	zw := zlib.NewWriter(&b)
	_, _ = zw.Write([]byte(strings.Join(words, "\x00")))
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	b.WriteByte(byte(len(nodes)))
	wordBits, nodeBits := huffman(len(words)), huffman(len(nodes)-1)
	bits := ""
	index := 0
	for _, n := range nodes {
		for _, e := range n {
			bits += wordBits[index] + nodeBits[e.to-1]
			index++
		}
		bits += wordBits[len(words)-1]
	}
	for len(bits)%8 != 0 {
		bits += "0"
	}
	for i := 0; i < len(bits); i += 8 {
		c := byte(0)
		for _, r := range bits[i : i+8] {
			c = c<<1 | byte(r-'0')
		}
		b.WriteByte(c)
	}
	return b.Bytes()
}

// huffman returns the codes of n numbers.
func huffman(n int) []string {
	type group struct {
		weight, age int
		numbers     []int
	}
	codes := make([]string, n)
	var groups []group
	for i := range n {
		groups = append(groups, group{i + 1, i, []int{i}})
	}
	take := func() group {
		best := 0
		for i, g := range groups {
			if g.weight < groups[best].weight || g.weight == groups[best].weight && g.age < groups[best].age {
				best = i
			}
		}
		g := groups[best]
		groups = append(groups[:best:best], groups[best+1:]...)
		return g
	}
	for age := n; len(groups) > 1; age++ {
		left, right := take(), take()
		for _, i := range left.numbers {
			codes[i] = "0" + codes[i]
		}
		for _, i := range right.numbers {
			codes[i] = "1" + codes[i]
		}
		groups = append(groups, group{left.weight + right.weight, age, append(append([]int{}, left.numbers...), right.numbers...)})
	}
	return codes
}
