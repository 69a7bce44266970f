package pulp

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// A Time is an instant in microseconds since 1970-01-01T00:00:00Z, the resolution of the API.
// The zero Time means "none" and is NULL in the database.
type Time int64

// TimeOf returns t cut to microseconds.
func TimeOf(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.UnixMicro())
}

// Std returns the instant as a UTC [time.Time].
func (t Time) Std() time.Time { return time.UnixMicro(int64(t)).UTC() }

// IsZero says whether the time is "none".
func (t Time) IsZero() bool { return t == 0 }

const timeLayout = "2006-01-02T15:04:05.000000Z"

// String returns the form that the API prints: ISO 8601 in UTC with six fractional digits.
func (t Time) String() string { return t.Std().Format(timeLayout) }

// AppendText appends what String returns.
func (t Time) AppendText(b []byte) ([]byte, error) { return t.Std().AppendFormat(b, timeLayout), nil }

// MarshalText makes a Time a JSON string; the zero Time is the empty one.
func (t Time) MarshalText() ([]byte, error) {
	if t == 0 {
		return nil, nil
	}
	return t.AppendText(nil)
}

// UnmarshalText reads what MarshalText wrote.
func (t *Time) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*t = 0
		return nil
	}
	v, ok := ParseTime(string(b))
	if !ok {
		return fmt.Errorf("%q is no date and time", b)
	}
	*t = v
	return nil
}

var timeForms = []string{
	"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04",
	"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05", "2006-01-02 15:04Z07:00", "2006-01-02 15:04",
	"2006-01-02",
}

// ParseTime reads the ISO 8601 forms that the API takes: a date, a date and time with "T" or a blank, with any
// fraction, with an offset or without (then it is UTC). ok is false for anything else.
func ParseTime(s string) (_ Time, ok bool) {
	if len(s) > 64 {
		return 0, false
	}
	for _, form := range timeForms {
		if t, err := time.Parse(form, s); err == nil {
			return TimeOf(t), true
		}
	}
	return 0, false
}

// Value stores the microseconds, or NULL for the zero Time.
func (t Time) Value() (driver.Value, error) {
	if t == 0 {
		return nil, nil
	}
	return int64(t), nil
}

// Scan reads microseconds or NULL.
func (t *Time) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = 0
	case int64:
		*t = Time(v)
	default:
		return fmt.Errorf("scan %T as a time", src)
	}
	return nil
}

// A Clock tells the time. The real one is [time.Now]; tests pass their own.
type Clock func() time.Time

// Now returns the clock's time as a [Time].
func (c Clock) Now() Time { return TimeOf(c()) }
