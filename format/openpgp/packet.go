// Package openpgp takes OpenPGP public keys apart, as a keyring that gives them away again needs it: it keeps every
// packet as it came, computes fingerprints, and reads of signatures what they say. It does not verify them; but it
// checks that they belong to what they stand behind. See RFC 4880 and RFC 9580. Start with [ParseKey].
package openpgp

import (
	"encoding/binary"
	"fmt"
)

// Tags of the packets that make up a public key.
const (
	TagSignature     = 2
	TagPublicKey     = 6
	TagUserID        = 13
	TagPublicSubkey  = 14
	TagUserAttribute = 17
)

// An Error says what is wrong with a key, in the words that clients of Pulp know.
type Error string

// Error returns the words.
func (e Error) Error() string { return string(e) }

// What is wrong most often.
const (
	ErrNotPublicKey Error = "Not a public key."
	ErrChecksum     Error = "Checksum Mismatch"
	ErrBroken       Error = "Broken Stream"
	ErrCanary       Error = "Signature canary mismatch"
	errTag          Error = "Invalid Packet Tag"
	errPartial      Error = "Partial Packet Body is not implemented"
	errStranger     Error = "Invalid or unknown rfc4880 packet."
	errMany         Error = "The key has too many packets."
	errNull         Error = "Null characters are not allowed."
	errUndated      Error = "There is a signature that does not say when it was made."
)

func errVersion(v byte) error { return Error(fmt.Sprintf("Invalid Packet version %d", v)) }

// next cuts the first packet off.
func next(data []byte) (tag byte, body, rest []byte, err error) {
	if data[0]&0x80 == 0 {
		return 0, nil, nil, errTag
	}
	head := data[0]
	data = data[1:]
	var n uint64
	if head&0x40 != 0 {
		tag = head & 0x3f
		if len(data) > 0 && data[0] >= 224 && data[0] < 255 {
			return 0, nil, nil, errPartial
		}
		n, data, err = length(data)
	} else {
		tag = head >> 2 & 0x0f
		n, data, err = oldLength(data, head&3)
	}
	if err != nil {
		return 0, nil, nil, err
	}
	if n > uint64(len(data)) {
		return 0, nil, nil, ErrBroken
	}
	return tag, data[:n], data[n:], nil
}

// length reads a length as new packets and subpackets have it.
func length(data []byte) (n uint64, rest []byte, err error) {
	switch {
	case len(data) == 0:
		return 0, nil, ErrBroken
	case data[0] < 192:
		return uint64(data[0]), data[1:], nil
	case data[0] < 255 && len(data) >= 2:
		return uint64(data[0]-192)<<8 + uint64(data[1]) + 192, data[2:], nil
	case data[0] == 255 && len(data) >= 5:
		return uint64(binary.BigEndian.Uint32(data[1:])), data[5:], nil
	}
	return 0, nil, ErrBroken
}

// oldLength reads the length of an old packet, in one of four forms.
func oldLength(data []byte, form byte) (n uint64, rest []byte, err error) {
	if form == 3 { // to the end
		return uint64(len(data)), data, nil
	}
	size := 1 << form
	if len(data) < size {
		return 0, nil, ErrBroken
	}
	for _, b := range data[:size] {
		n = n<<8 | uint64(b)
	}
	return n, data[size:], nil
}

// AppendPacket appends a packet in the new form.
func AppendPacket(b []byte, tag byte, body []byte) []byte {
	b = append(b, 0xc0|tag)
	switch n := len(body); {
	case n < 192:
		b = append(b, byte(n))
	case n < 8384:
		b = append(b, byte((n-192)>>8)+192, byte(n-192))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 255), uint32(n)) //nolint:gosec // keys are smaller, by MaxSize
	}
	return append(b, body...)
}
