package pulp

import (
	"bytes"
	"database/sql/driver"
	"fmt"

	"github.com/google/uuid"
)

// An ID is the primary key of every object but users and groups: a version 7 UUID, so that
// keys made later sort later. The zero ID means "none" and is NULL in the database.
type ID [16]byte

// NewID returns a fresh ID. IDs made by one process grow strictly.
func NewID() ID { return ID(uuid.Must(uuid.NewV7())) }

// ParseID reads the forms that a UUID is written in: with dashes or without.
func ParseID(s string) (ID, error) {
	if len(s) != 36 && len(s) != 32 {
		return ID{}, fmt.Errorf("“%s” is not a valid UUID.", s) //nolint:revive // this is the text that clients see
	}
	u, err := uuid.Parse(s)
	if err != nil {
		return ID{}, fmt.Errorf("“%s” is not a valid UUID.", s)
	}
	return ID(u), nil
}

// String returns the canonical form: lower case, with dashes.
func (id ID) String() string { return uuid.UUID(id).String() }

// IsZero says whether the ID is "none".
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders IDs by their bytes, which for IDs of one process is the order of their making.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// MarshalText makes an ID a JSON string; the zero ID is the empty one.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return uuid.UUID(id).MarshalText()
}

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*id = ID{}
		return nil
	}
	v, err := ParseID(string(b))
	*id = v
	return err
}

// Value stores the 16 bytes, or NULL for the zero ID.
func (id ID) Value() (driver.Value, error) {
	if id.IsZero() {
		return nil, nil
	}
	return id[:], nil
}

// Scan reads a 16-byte BLOB, the text of a UUID, or NULL.
func (id *ID) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*id = ID{}
	case []byte:
		if len(v) == 16 {
			copy(id[:], v)
			return nil
		}
		return id.UnmarshalText(v)
	case string:
		return id.UnmarshalText([]byte(v))
	case [16]byte:
		*id = v
	default:
		return fmt.Errorf("scan %T as an id", src)
	}
	return nil
}
