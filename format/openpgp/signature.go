package openpgp

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // old keys have it
	"crypto/sha1" //nolint:gosec // old keys have it
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"time"

	//lint:ignore SA1019 old keys have it
	"golang.org/x/crypto/ripemd160" //nolint:gosec,staticcheck // see above
)

// A Signature is what somebody says about a key, a subkey or a name.
type Signature struct {
	Packet      []byte
	Type        byte
	Created     time.Time
	Expires     time.Duration // after its creation; 0 for never
	KeyExpires  time.Duration // after the key's creation; 0 for never
	Issuer      string        // the key id of who made it, in lower case; empty if it is not told
	SignersName string        // by which of its names the issuer made it; empty if it is not told
}

// BindsSubkey is the type of the signatures by which a key claims a subkey.
const BindsSubkey = 0x18

// Where a signature stands.
const (
	onKey = iota
	onOwner
	onSubkey
)

// A place is what signatures are about.
type place struct {
	kind       int
	key        *PublicKey
	subkey     *PublicKey
	tag        byte // of body, where it is signed
	body       []byte
	signatures *[]Signature
}

// kindOf says what a type of signature is about.
func kindOf(typ byte) (kind int, ok bool) {
	switch typ {
	case 0x1f, 0x20:
		return onKey, true
	case 0x10, 0x11, 0x12, 0x13, 0x16, 0x30:
		return onOwner, true
	case BindsSubkey, 0x19, 0x28:
		return onSubkey, true
	}
	return 0, false
}

var outOfBand = [...]Error{
	onKey:    "Out of band key signature.",
	onOwner:  "Out of band user ID or attribute signature.",
	onSubkey: "Out of band subkey key signature.",
}

// sign adds the signature in a packet's body to what it must be about.
func (p place) sign(body []byte) error {
	s, frame, err := parseSignature(body)
	if err != nil {
		return err
	}
	kind, ok := kindOf(s.Type)
	switch {
	case !ok:
		return Error(fmt.Sprintf("Unsupported signature type 0x%x.", s.Type))
	case kind != p.kind:
		return outOfBand[kind]
	}
	h := newHash(frame.hash)
	if h == nil {
		return Error(fmt.Sprintf("Unknown hash algorithm 0x%x used for signature.", frame.hash))
	}
	h.Write(frame.salt)
	h.Write(p.key.prefix)
	h.Write(p.key.Packet)
	switch {
	case p.subkey != nil:
		h.Write(p.subkey.prefix)
		h.Write(p.subkey.Packet)
	case p.kind == onOwner:
		if frame.version > 3 {
			h.Write(binary.BigEndian.AppendUint32([]byte{p.tag}, uint32(len(p.body)))) //nolint:gosec // by MaxSize
		}
		h.Write(p.body)
	}
	h.Write(frame.trailer())
	if sum := h.Sum(nil); [2]byte(sum) != frame.canary {
		return ErrCanary
	}
	*p.signatures = append(*p.signatures, s)
	return nil
}

// A frame is what is needed to hash what a signature signs.
type frame struct {
	version byte
	hash    byte
	hashed  []byte // the part of the packet that is signed too
	salt    []byte
	canary  [2]byte // the first bytes of the digest
}

// trailer is what is hashed last.
func (f frame) trailer() []byte {
	b := append([]byte(nil), f.hashed...)
	n := uint64(len(f.hashed))
	switch f.version {
	case 2, 3:
		return b
	case 5:
		return binary.BigEndian.AppendUint64(append(b, f.version, 0xff), n)
	}
	return binary.BigEndian.AppendUint32(append(b, f.version, 0xff), uint32(n)) //nolint:gosec // by MaxSize
}

func newHash(algorithm byte) hash.Hash {
	switch algorithm {
	case 1:
		return md5.New() //nolint:gosec // see above
	case 2:
		return sha1.New() //nolint:gosec // see above
	case 3:
		return ripemd160.New() //nolint:gosec // see above
	case 8:
		return sha256.New()
	case 9:
		return sha512.New384()
	case 10:
		return sha512.New()
	case 11:
		return sha256.New224()
	case 12:
		return sha3.New256()
	case 14:
		return sha3.New512()
	}
	return nil
}

func parseSignature(body []byte) (s Signature, f frame, err error) {
	s.Packet = body
	if len(body) == 0 {
		return s, f, ErrBroken
	}
	f.version = body[0]
	switch f.version {
	case 2, 3:
		if len(body) < 19 || body[1] != 5 {
			return s, f, ErrBroken
		}
		s.Type, f.hashed = body[2], body[2:7]
		s.Created = time.Unix(int64(binary.BigEndian.Uint32(body[3:])), 0).UTC()
		s.Issuer = hex.EncodeToString(body[7:15])
		f.hash, f.canary = body[16], [2]byte(body[17:])
		return s, f, nil
	case 4, 5, 6:
	default:
		return s, f, errVersion(f.version)
	}
	if len(body) < 4 {
		return s, f, ErrBroken
	}
	s.Type, f.hash = body[1], body[3]
	signed, rest, err := area(body[4:], f.version)
	if err != nil {
		return s, f, err
	}
	f.hashed = body[:len(body)-len(rest)]
	loose, rest, err := area(rest, f.version)
	if err != nil {
		return s, f, err
	}
	if len(rest) < 2 {
		return s, f, ErrBroken
	}
	f.canary, rest = [2]byte(rest), rest[2:]
	if f.version == 6 {
		if len(rest) == 0 || len(rest) <= int(rest[0]) {
			return s, f, ErrBroken
		}
		f.salt = rest[1 : 1+int(rest[0])]
	}
	// what is signed counts before what is not
	for _, a := range [][]byte{signed, loose} {
		if err := s.read(a); err != nil {
			return s, f, err
		}
	}
	if s.Created.IsZero() {
		return s, f, errUndated
	}
	return s, f, nil
}

// area cuts off the subpackets that follow.
func area(data []byte, version byte) (subpackets, rest []byte, err error) {
	size := 2
	if version == 6 {
		size = 4
	}
	if len(data) < size {
		return nil, nil, ErrBroken
	}
	var n uint64
	for _, b := range data[:size] {
		n = n<<8 | uint64(b)
	}
	if data = data[size:]; uint64(len(data)) < n {
		return nil, nil, ErrBroken
	}
	return data[:n], data[n:], nil
}

// read takes from subpackets what is not known yet.
func (s *Signature) read(data []byte) error {
	for len(data) > 0 {
		n, rest, err := length(data)
		if err != nil {
			return err
		}
		if n == 0 || n > uint64(len(rest)) {
			return ErrBroken
		}
		typ, body := rest[0]&0x7f, rest[1:n]
		data = rest[n:]
		seconds := func() (time.Duration, error) {
			if len(body) != 4 {
				return 0, ErrBroken
			}
			return time.Duration(binary.BigEndian.Uint32(body)) * time.Second, nil
		}
		var d time.Duration
		switch {
		case typ == 2 && s.Created.IsZero():
			d, err = seconds()
			s.Created = time.Unix(0, 0).Add(d).UTC()
		case typ == 3 && s.Expires == 0:
			s.Expires, err = seconds()
		case typ == 9 && s.KeyExpires == 0:
			s.KeyExpires, err = seconds()
		case typ == 16 && s.Issuer == "":
			if len(body) != 8 {
				return ErrBroken
			}
			s.Issuer = hex.EncodeToString(body)
		case typ == 33 && s.Issuer == "" && len(body) > 8 && body[0] == 6: // no version 6 signature has the one above
			s.Issuer = hex.EncodeToString(body[1:9])
		case typ == 28 && s.SignersName == "" && invalid(body) < 0 && bytes.IndexByte(body, 0) < 0:
			s.SignersName = string(body)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
