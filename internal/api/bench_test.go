package api_test

import (
	"net/http/httptest"
	"testing"

	"granary/internal/pulp"
)

// BenchmarkGet: one object, lists of 100 and the status, with HTTP Basic, without the network.
func BenchmarkGet(b *testing.B) {
	w := sqlite(b)
	var upload string
	for range 100 {
		upload = w.create("uploads/", `{"size": 1}`).href()
		w.wait(w.dispatch(pulp.Call{}, spec("test.good")))
	}
	h := w.api.Handler()
	for name, path := range map[string]string{"one": upload, "list": root + "uploads/", "tasks": root + "tasks/", "status": root + "status/"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("GET", path, nil)
				r.SetBasicAuth("admin", "password")
				rec := httptest.NewRecorder()
				if h.ServeHTTP(rec, r); rec.Code != 200 {
					b.Fatal(rec.Code)
				}
			}
		})
	}
}
