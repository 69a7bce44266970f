package blob_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"granary/internal/blob"
	"granary/internal/pulp"

	"github.com/google/go-cmp/cmp"
)

func TestHasher(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // test data
	for _, size := range []int{0, 1, 63, 64, 32 << 10, 128<<10 - 1, 128 << 10, 3<<20 + 7} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		want := pulp.Digests{}
		for _, a := range pulp.Algorithms {
			h := a.New()
			h.Write(data)
			want[a] = hex.EncodeToString(h.Sum(nil))
		}

		h := blob.NewHasher(pulp.Algorithms[:]...)
		h.Write(data)
		if diff := cmp.Diff(want, h.Digests()); diff != "" || h.Size() != int64(size) {
			t.Errorf("%d bytes at once: size %d, -want +got:\n%s", size, h.Size(), diff)
		}

		h.Reset()
		for rest := data; len(rest) > 0; { // small and large pieces in turn
			n := min(len(rest), 1+random.IntN(400<<10))
			h.Write(rest[:n])
			rest = rest[n:]
			h.Digests() // must not disturb what follows
		}
		if diff := cmp.Diff(want, h.Digests()); diff != "" || h.Size() != int64(size) {
			t.Errorf("%d bytes in pieces: size %d, -want +got:\n%s", size, h.Size(), diff)
		}
	}
}

func TestHasherComputesWhatItIsAskedFor(t *testing.T) {
	h := blob.NewHasher(pulp.SHA256, "crc32")
	h.Write([]byte("hello"))
	want := pulp.Digests{pulp.SHA256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
	if diff := cmp.Diff(want, h.Digests()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestArtifactKey(t *testing.T) {
	id, err := pulp.ParseID("01890a5d-ac96-774b-bcce-b302099a8057")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		domain pulp.Domain
		want   string
	}{
		{pulp.Domain{ID: id, Name: "default"}, "artifact/ab/cdef"},
		{pulp.Domain{ID: id, Name: "other"}, "artifact/01890a5d-ac96-774b-bcce-b302099a8057/ab/cdef"},
	} {
		if got := blob.ArtifactKey(tc.domain, "abcdef"); got != tc.want {
			t.Errorf("in domain %s: %s, want %s", tc.domain.Name, got, tc.want)
		}
	}
}

// BenchmarkHasher shows from which size on it pays to hash on several cores.
func BenchmarkHasher(b *testing.B) {
	allowed := []pulp.Algorithm{pulp.SHA224, pulp.SHA256, pulp.SHA384, pulp.SHA512} // the default
	for _, size := range []int{16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20, 4 << 20} {
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			h := blob.NewHasher(allowed...)
			b.SetBytes(int64(size))
			for b.Loop() {
				h.Write(data)
			}
		})
	}
}
