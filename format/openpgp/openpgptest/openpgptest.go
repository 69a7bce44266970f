// Package openpgptest makes OpenPGP keys for tests, right and wrong ones, packet by packet. The signatures of its keys have
// the digest's first bytes right, and are nonsense otherwise.
package openpgptest

import (
	"crypto/sha1" //nolint:gosec // what keys are called by
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"

	"granary/format/openpgp"
)

// Made is when all keys and signatures are from, in seconds: 2020-01-01.
const Made = 1577836800

// Packet is a packet in the new form.
func Packet(tag byte, body []byte) []byte { return openpgp.AppendPacket(nil, tag, body) }

// Key is the body of an Ed25519 key of version 4, 5 or 6, which seed tells from others.
func Key(version byte, seed string) []byte {
	point := sha256.Sum256([]byte(seed))
	material := append([]byte("\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01\x01\x07\x40"), point[:]...)
	b := binary.BigEndian.AppendUint32([]byte{version}, Made)
	b = append(b, 22)
	if version > 4 {
		b = binary.BigEndian.AppendUint32(b, uint32(len(material))) //nolint:gosec // it is short
	}
	return append(b, material...)
}

// OldKey is the body of an RSA key of version 3.
func OldKey() []byte {
	b := binary.BigEndian.AppendUint32([]byte{3}, Made)
	return append(b, "\x00\x00\x01\x00\x50\x9a\xbc\xde\xf0\x12\x34\x56\x78\x9a\xbc\x00\x02\x03"...)
}

// signed is a key as it is signed.
func signed(key []byte) []byte {
	switch key[0] {
	case 5, 6:
		return append(binary.BigEndian.AppendUint32([]byte{0x9a + key[0] - 5}, uint32(len(key))), key...) //nolint:gosec // it is short
	}
	return append(binary.BigEndian.AppendUint16([]byte{0x99}, uint16(len(key))), key...) //nolint:gosec // it is short
}

// ID is the key id of a key of version 4.
func ID(key []byte) []byte {
	s := sha1.Sum(signed(key)) //nolint:gosec // by the standard
	return s[12:]
}

// OnKey, OnSubkey, OnUserID and OnAttribute are what signatures sign.
func OnKey(key []byte) []byte { return signed(key) }

// OnSubkey is a key with a subkey.
func OnSubkey(key, subkey []byte) []byte { return append(signed(key), signed(subkey)...) }

// OnUserID is a key with a name.
func OnUserID(key []byte, name string) []byte { return on(key, 0xb4, []byte(name)) }

// OnAttribute is a key with an attribute.
func OnAttribute(key, body []byte) []byte { return on(key, 0xd1, body) }

func on(key []byte, tag byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(append(signed(key), tag), uint32(len(body))) //nolint:gosec // it is short
	return append(b, body...)
}

// A Sig is a signature to make. The zero value of each field is what is usual.
type Sig struct {
	Type            byte
	On              []byte
	Version         byte // 4
	Hash            byte // 8, and what it is made with is SHA-256 whatever it says, unless New is given
	New             func() hash.Hash
	Hashed, Unknown string // subpackets; without any, one that says when it was made
	Wrong           bool   // the digest's first bytes
}

// Packet makes the signature's packet.
func (s Sig) Packet() []byte {
	if s.Version == 0 {
		s.Version = 4
	}
	if s.Hash == 0 {
		s.Hash = 8
	}
	if s.New == nil {
		s.New = sha256.New
	}
	if s.Hashed == "" && s.Unknown == "" {
		s.Hashed = Created
	}
	h := s.New()
	if s.Version == 3 {
		h.Write(s.On)
		part := binary.BigEndian.AppendUint32([]byte{s.Type}, Made)
		h.Write(part)
		b := append([]byte{3, 5}, part...)
		b = append(b, "\xaa\xbb\xcc\xdd\xee\xff\x00\x11\x16"...)
		return Packet(openpgp.TagSignature, s.end(append(b, s.Hash), h.Sum(nil)))
	}
	count := func(b []byte, text string) []byte {
		if s.Version == 6 {
			b = binary.BigEndian.AppendUint32(b, uint32(len(text))) //nolint:gosec // it is short
		} else {
			b = binary.BigEndian.AppendUint16(b, uint16(len(text))) //nolint:gosec // it is short
		}
		return append(b, text...)
	}
	salt := ""
	if s.Version == 6 {
		salt = strings.Repeat("s", 16)
	}
	h.Write([]byte(salt))
	h.Write(s.On)
	b := count([]byte{s.Version, s.Type, 22, s.Hash}, s.Hashed)
	h.Write(b)
	trailer := []byte{s.Version, 0xff}
	if s.Version == 5 {
		trailer = append(trailer, 0, 0, 0, 0)
	}
	h.Write(binary.BigEndian.AppendUint32(trailer, uint32(len(b)))) //nolint:gosec // it is short
	b = s.end(count(b, s.Unknown), h.Sum(nil))
	if salt != "" {
		b = append(append(b[:len(b)-6:len(b)-6], byte(len(salt))), salt+"\x00\x08\xaa\x00\x08\xbb"...)
	}
	return Packet(openpgp.TagSignature, b)
}

// end appends the digest's first bytes, and numbers that stand for the signature itself.
func (s Sig) end(b, sum []byte) []byte {
	if s.Wrong {
		sum = []byte{^sum[0], sum[1]}
	}
	return append(append(b, sum[:2]...), "\x00\x08\xaa\x00\x08\xbb"...)
}

// Sub is a subpacket.
func Sub(typ byte, body string) string { return string([]byte{byte(len(body) + 1), typ}) + body }

// Seconds is the body of a subpacket that holds a time.
func Seconds(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

// Created is the subpacket that says when a signature was made.
var Created = Sub(2, Seconds(Made))

// Armor is packets as text, as gpg writes it, with something wrong with it: "" for nothing, "crc", "no crc".
func Armor(packets []byte, wrong string) string {
	text := string(openpgp.Armor(packets)) + "\n"
	i := strings.LastIndex(text, "\n=")
	sum := text[i+2 : i+6]
	switch wrong {
	case "crc":
		raw, _ := base64.StdEncoding.DecodeString(sum)
		raw[2] ^= 1
		return strings.Replace(text, "\n="+sum, "\n="+base64.StdEncoding.EncodeToString(raw), 1)
	case "no crc":
		return strings.Replace(text, "\n="+sum, "", 1)
	case "":
		return text
	}
	panic(fmt.Sprintf("what is %q?", wrong))
}
