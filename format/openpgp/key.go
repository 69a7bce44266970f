package openpgp

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // what keys of version 3 are called by
	"crypto/sha1" //nolint:gosec // what keys of version 4 are called by
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
	"unicode/utf8"
)

// Limits of what is read as one key.
const (
	MaxSize    = 4 << 20 // bytes
	maxPackets = 10_000
)

// A Key is a public key with all that came with it. Packets are without their headers.
type Key struct {
	PublicKey
	UserIDs    []UserID
	Attributes []Attribute
	Subkeys    []PublicKey
}

// A PublicKey is a key or a subkey with the signatures on it itself.
type PublicKey struct {
	Packet      []byte
	Version     int
	Fingerprint string // in lower case
	KeyID       string // 16 digits, in lower case
	Created     time.Time
	Signatures  []Signature

	prefix []byte // what stands before the packet where it is signed
}

// A UserID is a name of the key's owner.
type UserID struct {
	Packet     []byte
	ID         string
	Signatures []Signature
}

// An Attribute is something else about the key's owner: a photo, as a rule.
type Attribute struct {
	Packet     []byte
	Signatures []Signature
}

// ParseKey reads a public key, which is armored or not.
func ParseKey(data []byte) (*Key, error) {
	if len(data) > MaxSize {
		return nil, Error(fmt.Sprintf("The key is larger than %d bytes.", MaxSize))
	}
	if armored(data) {
		var err error
		if data, err = unarmor(data); err != nil {
			return nil, err
		}
	}
	if len(data) == 0 {
		return nil, ErrNotPublicKey
	}
	tag, body, data, err := next(data)
	if err != nil {
		return nil, err
	}
	if tag != TagPublicKey {
		return nil, ErrNotPublicKey
	}
	k := &Key{}
	if k.PublicKey, err = parsePublicKey(body); err != nil {
		return nil, err
	}
	at := place{kind: onKey, key: &k.PublicKey, signatures: &k.Signatures}
	for n := 0; len(data) > 0; n++ {
		if n == maxPackets {
			return nil, errMany
		}
		if tag, body, data, err = next(data); err != nil {
			return nil, err
		}
		if tag != TagSignature {
			at, err = k.add(tag, body)
		} else if err = at.sign(body); err == nil {
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	return k, nil
}

// add appends what is signed by the signatures that follow.
func (k *Key) add(tag byte, body []byte) (place, error) {
	switch tag {
	case TagUserID:
		if i := invalid(body); i >= 0 {
			return place{}, Error(fmt.Sprintf("'utf-8' codec can't decode byte 0x%02x in position %d: invalid start byte", body[i], i))
		}
		if bytes.IndexByte(body, 0) >= 0 {
			return place{}, errNull
		}
		k.UserIDs = append(k.UserIDs, UserID{Packet: body, ID: string(body)})
		return place{kind: onOwner, key: &k.PublicKey, tag: 0xb4, body: body, signatures: &k.UserIDs[len(k.UserIDs)-1].Signatures}, nil
	case TagUserAttribute:
		k.Attributes = append(k.Attributes, Attribute{Packet: body})
		return place{kind: onOwner, key: &k.PublicKey, tag: 0xd1, body: body, signatures: &k.Attributes[len(k.Attributes)-1].Signatures}, nil
	case TagPublicSubkey:
		sub, err := parsePublicKey(body)
		if err != nil {
			return place{}, err
		}
		k.Subkeys = append(k.Subkeys, sub)
		s := &k.Subkeys[len(k.Subkeys)-1]
		return place{kind: onSubkey, key: &k.PublicKey, subkey: s, signatures: &s.Signatures}, nil
	}
	return place{}, errStranger
}

// invalid returns where a text stops being UTF-8; -1 if it does not.
func invalid(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

func parsePublicKey(body []byte) (PublicKey, error) {
	k := PublicKey{Packet: body}
	if len(body) == 0 {
		return k, ErrBroken
	}
	k.Version = int(body[0])
	least := map[int]int{2: 8, 3: 8, 4: 6, 5: 10, 6: 10}[k.Version]
	switch {
	case least == 0:
		return k, errVersion(body[0])
	case len(body) < least:
		return k, ErrBroken
	}
	k.Created = time.Unix(int64(binary.BigEndian.Uint32(body[1:])), 0).UTC()
	switch k.Version {
	case 2, 3:
		return k, k.identifyOld()
	case 4:
		if len(body) > 0xffff {
			return k, ErrBroken
		}
		k.prefix = binary.BigEndian.AppendUint16([]byte{0x99}, uint16(len(body))) //nolint:gosec // just looked at
		h := sha1.New()                                                           //nolint:gosec // by the standard
		h.Write(k.prefix)
		h.Write(body)
		k.Fingerprint = hex.EncodeToString(h.Sum(nil))
		k.KeyID = k.Fingerprint[len(k.Fingerprint)-16:]
	default:
		k.prefix = binary.BigEndian.AppendUint32([]byte{0x9a + byte(k.Version) - 5}, uint32(len(body))) //nolint:gosec // by MaxSize
		h := sha256.New()
		h.Write(k.prefix)
		h.Write(body)
		k.Fingerprint = hex.EncodeToString(h.Sum(nil))
		k.KeyID = k.Fingerprint[:16]
	}
	return k, nil
}

// identifyOld computes the names of a key of version 3 or 2, which is RSA: of its modulus and exponent.
func (k *PublicKey) identifyOld() error {
	if len(k.Packet) > 0xffff {
		return ErrBroken
	}
	k.prefix = binary.BigEndian.AppendUint16([]byte{0x99}, uint16(len(k.Packet))) //nolint:gosec // just looked at
	n, rest, err := integer(k.Packet[8:])
	if err != nil {
		return err
	}
	e, _, err := integer(rest)
	if err != nil {
		return err
	}
	h := md5.New() //nolint:gosec // by the standard
	h.Write(n)
	h.Write(e)
	k.Fingerprint = hex.EncodeToString(h.Sum(nil))
	id := make([]byte, 8)
	copy(id[max(0, 8-len(n)):], n[max(0, len(n)-8):])
	k.KeyID = hex.EncodeToString(id)
	return nil
}

// integer reads a number whose length in bits stands before it.
func integer(data []byte) (n, rest []byte, err error) {
	if len(data) < 2 {
		return nil, nil, ErrBroken
	}
	size := (int(binary.BigEndian.Uint16(data)) + 7) / 8
	if data = data[2:]; len(data) < size {
		return nil, nil, ErrBroken
	}
	return data[:size], data[size:], nil
}
