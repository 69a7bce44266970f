// Package entitlement reads which paths of content a subscription certificate covers: those of Red Hat's subscription manager and of
// Candlepin. There are two forms, one extension for each path, and one extension with all paths in a compressed tree.
//
// Start with [Read]. The package does not verify certificates.
package entitlement

import (
	"bytes"
	"compress/zlib"
	"container/heap"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// base is the object identifier below which all extensions are.
const base = "1.3.6.1.4.1.2312.9."

// Limits of a compressed tree. Real ones have some thousand edges.
const (
	maxPayload = 256 << 10 // bytes, compressed
	maxText    = 1 << 20   // bytes of all words
	maxWords   = 1 << 16
	maxNodes   = 1 << 16
	maxEdges   = 1 << 18
)

// An Extension of a certificate: its object identifier, in dotted form, and its value, which is DER.
type Extension struct {
	ID    string
	Value []byte
}

// Paths are what a certificate covers.
type Paths struct {
	plain [][]string // the segments of each path
	tree  [][]edge   // the nodes, the root first; nil without a tree
}

// An edge leads from a node to another one.
type edge struct {
	segment string
	to      int
}

// ErrNone says that a certificate has nothing to say of paths.
var ErrNone = errors.New("the certificate has no entitlement")

// Read reads the paths out of a certificate's extensions.
func Read(extensions []Extension) (*Paths, error) {
	version := "1.0"
	var payload []byte
	p := &Paths{}
	for _, e := range extensions {
		id, ok := strings.CutPrefix(e.ID, base)
		if !ok {
			continue
		}
		switch {
		case id == "6":
			text, err := textOf(e.Value)
			if err != nil {
				return nil, fmt.Errorf("read the version: %w", err)
			}
			version = text
		case id == "7":
			if rest, err := asn1.Unmarshal(e.Value, &payload); err != nil || len(rest) > 0 {
				return nil, errors.New("the payload is no octet string")
			}
		case isPath(id):
			text, err := textOf(e.Value)
			if err != nil {
				return nil, fmt.Errorf("read a path: %w", err)
			}
			if s := segments(text); len(s) > 0 {
				p.plain = append(p.plain, s)
			}
		}
	}
	text, _, _ := strings.Cut(version, ".")
	major, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the version is %q", version)
	case major >= 3:
		p.plain = nil
		if payload == nil {
			return nil, ErrNone
		}
		p.tree, err = readTree(payload)
		return p, err
	case p.plain == nil:
		return nil, ErrNone
	}
	return p, nil
}

// isPath says whether an identifier is that of a path: 2.N.1.6.
func isPath(id string) bool {
	n, ok := strings.CutPrefix(id, "2.")
	if !ok {
		return false
	}
	n, ok = strings.CutSuffix(n, ".1.6")
	return ok && n != "" && strings.Trim(n, "0123456789") == ""
}

// textOf reads a value that is a string of any type.
func textOf(der []byte) (string, error) {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(der, &v)
	if err != nil {
		return "", err
	}
	if len(rest) > 0 || v.IsCompound || v.Class != asn1.ClassUniversal {
		return "", errors.New("it is no string")
	}
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagIA5String, asn1.TagPrintableString, asn1.TagT61String:
		return string(v.Bytes), nil
	}
	return "", errors.New("it is no string")
}

// segments splits a path.
func segments(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// Cover says whether a path is at or below one of those that the certificate has. More than one slash counts as one; a segment that
// begins with a dollar sign stands for any one.
func (p *Paths) Cover(path string) bool {
	want := segments(path)
	for _, have := range p.plain {
		if covers(have, want) {
			return true
		}
	}
	return p.inTree(want)
}

func covers(have, want []string) bool {
	if len(have) > len(want) {
		return false
	}
	for i, s := range have {
		if !matches(s, want[i]) {
			return false
		}
	}
	return true
}

func matches(have, want string) bool { return have == want || strings.HasPrefix(have, "$") }

// inTree walks the tree, which may have many ways to one node, with all nodes at once that the segments so far lead to.
func (p *Paths) inTree(want []string) bool {
	if len(p.tree) == 0 || len(p.tree[0]) == 0 { // a tree of nothing covers nothing
		return false
	}
	at, seen := []int{0}, make([]int, len(p.tree))
	for i, segment := range want {
		var next []int
		for _, n := range at {
			for _, e := range p.tree[n] {
				if seen[e.to] == i+1 || !matches(e.segment, segment) {
					continue
				}
				if len(p.tree[e.to]) == 0 {
					return true
				}
				seen[e.to] = i + 1
				next = append(next, e.to)
			}
		}
		if at = next; len(at) == 0 {
			return false
		}
	}
	return false
}

// readTree reads a payload: the words, compressed and each ended by a NUL; the number of nodes; and the nodes' edges, each a word and a
// node in codes of their own, and the empty word after the last.
func readTree(payload []byte) ([][]edge, error) {
	if len(payload) > maxPayload {
		return nil, errors.New("the payload is too long")
	}
	r := bytes.NewReader(payload) // it is an io.ByteReader, so that nothing after the stream is read
	zr, err := zlib.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("read the words: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(zr, maxText+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the words: %w", err)
	case len(text) > maxText:
		return nil, errors.New("the words are too long")
	case bytes.Count(text, []byte{0}) >= maxWords:
		return nil, errors.New("there are too many words")
	}
	words := strings.Split(string(text), "\x00")
	count, data, err := readCount(payload[len(payload)-r.Len():])
	if err != nil {
		return nil, err
	}
	if count == 0 {
		return nil, nil
	}
	wordCode, nodeCode := newCode(len(words)), newCode(count-1)
	bits := &bitReader{data: data}
	tree := make([][]edge, count)
	edges := 0
	for i := range tree {
		for {
			w, err := wordCode.read(bits)
			if err != nil {
				return nil, fmt.Errorf("read a word of node %d: %w", i, err)
			}
			if words[w] == "" {
				break
			}
			if edges++; edges > maxEdges {
				return nil, errors.New("the tree has too many edges")
			}
			n, err := nodeCode.read(bits)
			if err != nil {
				return nil, fmt.Errorf("read a child of node %d: %w", i, err)
			}
			tree[i] = append(tree[i], edge{words[w], n + 1}) // the root is no child
		}
	}
	return tree, nil
}

// readCount reads the number of nodes: a byte below 128, or one with the number of bytes that follow, the highest first.
func readCount(b []byte) (n int, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errors.New("the number of nodes is missing")
	}
	first, b := int(b[0]), b[1:]
	if first < 128 {
		return first, b, nil
	}
	size := first & 127
	if size > len(b) {
		return 0, nil, errors.New("the number of nodes is cut off")
	}
	for _, c := range b[:size] {
		if n = n<<8 | int(c); n > maxNodes {
			return 0, nil, errors.New("there are too many nodes")
		}
	}
	return n, b[size:], nil
}

// A bitReader gives the bits of bytes, the highest first.
type bitReader struct {
	data []byte
	at   int
}

var errBits = errors.New("the tree is cut off")

func (r *bitReader) next() (int, error) {
	if r.at >= 8*len(r.data) {
		return 0, errBits
	}
	bit := int(r.data[r.at/8]>>(7-r.at%8)) & 1
	r.at++
	return bit, nil
}

// A code is a Huffman code of the numbers below n, number i with the weight i + 1. Nodes below n are these numbers, the others
// have two children; the last is the root.
type code struct {
	n        int
	children [][2]int // of node n and those after it
}

// newCode builds the code: the two lightest are joined, again and again; of equal weights the earlier is the lighter.
func newCode(n int) *code {
	c := &code{n: n}
	q := &queue{weights: make([]int, n, max(2*n, 1))}
	for i := range n {
		q.weights[i] = i + 1
		q.nodes = append(q.nodes, i) // sorted, so a heap
	}
	for len(q.nodes) > 1 {
		a, b := heap.Pop(q).(int), heap.Pop(q).(int)
		c.children = append(c.children, [2]int{a, b})
		q.weights = append(q.weights, q.weights[a]+q.weights[b])
		heap.Push(q, len(q.weights)-1)
	}
	return c
}

var errCode = errors.New("there is nothing to choose from")

// read reads one number. A code of one number takes no bits.
func (c *code) read(r *bitReader) (int, error) {
	if c.n == 0 {
		return 0, errCode
	}
	at := c.n + len(c.children) - 1
	for at >= c.n {
		bit, err := r.next()
		if err != nil {
			return 0, err
		}
		at = c.children[at-c.n][bit]
	}
	return at, nil
}

// A queue holds nodes by their weight and age.
type queue struct {
	nodes   []int
	weights []int // by node
}

func (q *queue) Len() int { return len(q.nodes) }

func (q *queue) Less(i, j int) bool {
	a, b := q.nodes[i], q.nodes[j]
	if q.weights[a] != q.weights[b] {
		return q.weights[a] < q.weights[b]
	}
	return a < b
}

func (q *queue) Swap(i, j int) { q.nodes[i], q.nodes[j] = q.nodes[j], q.nodes[i] }

func (q *queue) Push(x any) { q.nodes = append(q.nodes, x.(int)) }

func (q *queue) Pop() any {
	n := len(q.nodes) - 1
	x := q.nodes[n]
	q.nodes = q.nodes[:n]
	return x
}
