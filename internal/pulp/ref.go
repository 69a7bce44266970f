package pulp

import (
	"fmt"
	"strconv"
	"strings"
)

// A Ref names one object of any kind. Type is the label that PRNs carry, as "file.filerepository" or
// "core.artifact"; Key is a UUID, or an integer for users and groups. The zero Ref names nothing.
type Ref struct {
	Type string
	Key  string
}

// RefTo returns the Ref of an object whose key is an ID.
func RefTo(label string, id ID) Ref { return Ref{label, id.String()} }

// IsZero says whether the Ref names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// ID returns the key as an ID; the zero ID where it is none.
func (r Ref) ID() ID {
	id, _ := ParseID(r.Key)
	return id
}

// Number returns the key as an integer; 0 where it is none.
func (r Ref) Number() int64 {
	n, _ := strconv.ParseInt(r.Key, 10, 64)
	return n
}

// PRN returns the resource name, as "prn:file.filerepository:0192…", which stays the same
// whatever the API root is. Locks and tasks hold these.
func (r Ref) PRN() string { return "prn:" + r.Type + ":" + r.Key }

// ParsePRN reads a PRN's form. It does not say whether the type or the object exists.
// The error's text is meant for clients.
func ParsePRN(s string) (Ref, error) {
	if !strings.HasPrefix(s, "prn:") {
		return Ref{}, fmt.Errorf("PRN must start with 'prn:': %s", s)
	}
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return Ref{}, fmt.Errorf("PRN must be of the form 'prn:app_label.model_label:pk': %s", s)
	}
	if strings.Count(parts[1], ".") != 1 {
		return Ref{}, fmt.Errorf("The model must be in the form of 'app_label.model_label': %s", parts[1]) //nolint:revive // clients see it
	}
	return Ref{parts[1], parts[2]}, nil
}
