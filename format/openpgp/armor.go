package openpgp

import (
	"bytes"
	"encoding/base64"
	"slices"
)

const armorStart = "-----BEGIN PGP "

// armored says whether data is a text, and not packets as they are.
func armored(data []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte(armorStart))
}

// unarmor decodes the first armored block of a text. Its checksum may be left out, as RFC 9580 wants it.
func unarmor(text []byte) ([]byte, error) {
	const (
		head = iota
		headers
		body
	)
	var encoded, sum []byte
	at := head
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		switch {
		case at == head:
			if bytes.HasPrefix(line, []byte(armorStart)) {
				at = headers
			}
		case at == headers:
			if len(line) == 0 {
				at = body
			} else if !bytes.Contains(line, []byte(":")) {
				return nil, ErrBroken
			}
		case bytes.HasPrefix(line, []byte("-----END PGP ")):
			return decode(encoded, sum)
		case len(line) == 0:
		case sum != nil:
			return nil, ErrBroken
		case line[0] == '=' && len(line) == 5:
			sum = line[1:]
		default:
			encoded = append(encoded, line...)
		}
	}
	return nil, ErrBroken
}

func decode(encoded, sum []byte) ([]byte, error) {
	data, err := base64.StdEncoding.AppendDecode(nil, encoded)
	if err != nil {
		return nil, ErrBroken
	}
	if sum == nil {
		return data, nil
	}
	want, err := base64.StdEncoding.AppendDecode(nil, sum)
	if err != nil || len(want) != 3 {
		return nil, ErrBroken
	}
	if c := crc24(data); want[0] != byte(c>>16) || want[1] != byte(c>>8) || want[2] != byte(c) {
		return nil, ErrChecksum
	}
	return data, nil
}

// Armor writes packets as the text of a public key, without a final newline.
func Armor(packets []byte) []byte {
	const width = 76
	const name = "PUBLIC KEY BLOCK-----"
	b := []byte(armorStart + name + "\n\n")
	for line := range slices.Chunk(packets, width/4*3) {
		b = append(base64.StdEncoding.AppendEncode(b, line), '\n')
	}
	sum := crc24(packets)
	b = base64.StdEncoding.AppendEncode(append(b, '='), []byte{byte(sum >> 16), byte(sum >> 8), byte(sum)})
	return append(b, "\n-----END PGP "+name...)
}

// crc24 is the checksum of armor.
func crc24(data []byte) uint32 {
	crc := uint32(0xb704ce)
	for _, c := range data {
		crc ^= uint32(c) << 16
		for range 8 {
			if crc <<= 1; crc&0x1000000 != 0 {
				crc ^= 0x1864cfb
			}
		}
	}
	return crc & 0xffffff
}
