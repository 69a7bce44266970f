package certguard

import (
	"encoding/pem"
	"strings"
	"testing"
)

// A text is not taken just since it begins with a certificate: each is kept in memory.
func TestCheckCALimit(t *testing.T) {
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sample(t)}))
	if bad := checkCA(text); bad != nil {
		t.Errorf("a certificate is refused: %v", bad)
	}
	if bad := checkCA(text + strings.Repeat("x", maxCA)); bad == nil {
		t.Error("a text of megabytes is taken")
	}
}
