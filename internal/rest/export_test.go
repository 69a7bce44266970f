package rest

import "strings"

// ErrQ is what a q expression that cannot be read gives.
var ErrQ = errSyntax

// ParseQ reads a q expression and writes it with all its parentheses.
func ParseQ(s string) (string, error) {
	n, err := parseQ(s)
	if err != nil {
		return "", err
	}
	return n.String(), nil
}

func (n *qNode) String() string {
	if n.op == "" {
		return n.name + "=" + n.value
	}
	parts := make([]string, len(n.args))
	for i, a := range n.args {
		parts[i] = a.String()
	}
	return n.op + "(" + strings.Join(parts, ", ") + ")"
}
