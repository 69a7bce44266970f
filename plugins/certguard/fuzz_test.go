package certguard

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"

	"granary/format/entitlement"
)

// sample returns a certificate that signs itself, in DER, with a number in an object identifier that crypto/x509 does not read.
func sample(tb testing.TB) []byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 2312, 9, 2, 1583437887307, 1, 6}, Value: []byte{0x0c, 2, '/', 'a'}}},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// FuzzHeader reads whatever clients may send as their certificate.
func FuzzHeader(f *testing.F) {
	der := sample(f)
	f.Add(url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))))
	f.Add("-----BEGIN CERTIFICATE----- MIIB AAAA -----END CERTIFICATE-----")
	f.Add("%zz")
	f.Add("")
	trust := parseBundle(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sample(f)})))
	if len(trust) != 1 {
		f.Fatal("the sample can't be read")
	}
	f.Fuzz(func(t *testing.T, value string) {
		c, err := parseHeader(value)
		if err != nil {
			return
		}
		if err := trust.verify(c, time.Now()); err == nil {
			t.Error("an unknown certificate is trusted")
		}
		_, _ = entitlement.Read(c.extensions)
	})
}

// FuzzCertificate reads certificates in DER. What is changed in one, nobody has signed.
func FuzzCertificate(f *testing.F) {
	der := sample(f)
	own, err := parseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	trust := bundle{own}
	if err := trust.verify(own, time.Now()); err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add([]byte{0x30, 0x03, 0x30, 0x01, 0x00})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := parseCertificate(der)
		if err != nil {
			return
		}
		_ = bundle{c}.verify(c, time.Now())
		if err := trust.verify(c, time.Now()); err == nil && string(c.tbs) != string(own.tbs) {
			t.Error("a certificate is trusted that nobody has signed")
		}
		_, _ = entitlement.Read(c.extensions)
	})
}
