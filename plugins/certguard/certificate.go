package certguard

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptoasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"granary/format/entitlement"
)

// Limits of what is read.
const (
	maxHeader = 64 << 10 // bytes of the header
	maxCA     = 4 << 20  // bytes of a bundle's text, which is kept in memory
	maxBundle = 1000     // certificates of a bundle
	maxChain  = 10       // certificates from the client's to the root
	maxTried  = 100      // signatures that one request may have checked
)

// A certificate is one of X.509 with its extensions as they are: crypto/x509 refuses object identifiers with large numbers, which
// subscription certificates have.
type certificate struct {
	*x509.Certificate // without the extensions
	tbs               []byte
	extensions        []entitlement.Extension
	critical          []string // the object identifiers of critical ones

	constrained, ca bool // whether it says that it is of an authority or not, and which
	maxBelow        int  // authorities below it; -1 for any number
	signs           bool // whether its key may sign certificates
}

// parseCertificate reads a certificate in DER.
func parseCertificate(der []byte) (*certificate, error) {
	bad := errors.New("malformed certificate")
	input := cryptobyte.String(der)
	var outer, tbs, tbsBody cryptobyte.String
	if !input.ReadASN1(&outer, cryptoasn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1Element(&tbs, cryptoasn1.SEQUENCE) {
		return nil, bad
	}
	tail := []byte(outer) // the signature's algorithm and value
	c := &certificate{tbs: tbs, maxBelow: -1, signs: true}
	whole := tbs
	if !whole.ReadASN1(&tbsBody, cryptoasn1.SEQUENCE) {
		return nil, bad
	}
	// what comes before the extensions stays, and is parsed without them
	extensionsTag := cryptoasn1.Tag(3).ContextSpecific().Constructed()
	var kept []byte
	for !tbsBody.Empty() {
		var element cryptobyte.String
		var tag cryptoasn1.Tag
		if !tbsBody.ReadAnyASN1Element(&element, &tag) {
			return nil, bad
		}
		if tag != extensionsTag {
			kept = append(kept, element...)
			continue
		}
		if !tbsBody.Empty() {
			return nil, bad
		}
		if err := c.readExtensions(element); err != nil {
			return nil, err
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(cryptoasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptoasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(kept) })
		b.AddBytes(tail)
	})
	stripped, err := b.Bytes()
	if err != nil {
		return nil, bad
	}
	if c.Certificate, err = x509.ParseCertificate(stripped); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) readExtensions(element cryptobyte.String) error {
	bad := errors.New("malformed extensions")
	var explicit, list cryptobyte.String
	if !element.ReadASN1(&explicit, cryptoasn1.Tag(3).ContextSpecific().Constructed()) || !explicit.ReadASN1(&list, cryptoasn1.SEQUENCE) || !explicit.Empty() {
		return bad
	}
	seen := map[string]bool{}
	for !list.Empty() {
		var extension, id, value cryptobyte.String
		critical := false
		if !list.ReadASN1(&extension, cryptoasn1.SEQUENCE) || !extension.ReadASN1(&id, cryptoasn1.OBJECT_IDENTIFIER) ||
			extension.PeekASN1Tag(cryptoasn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) ||
			!extension.ReadASN1(&value, cryptoasn1.OCTET_STRING) || !extension.Empty() {
			return bad
		}
		var oid x509.OID
		if err := oid.UnmarshalBinary(id); err != nil {
			return bad
		}
		e := entitlement.Extension{ID: oid.String(), Value: value}
		if seen[e.ID] {
			return bad
		}
		seen[e.ID] = true
		c.extensions = append(c.extensions, e)
		if critical {
			c.critical = append(c.critical, e.ID)
		}
		if err := c.interpret(e); err != nil {
			return err
		}
	}
	return nil
}

// The extensions that decide about chains.
const (
	oidKeyUsage         = "2.5.29.15"
	oidBasicConstraints = "2.5.29.19"
	oidNameConstraints  = "2.5.29.30"
)

// harmless are extensions that may be critical without anything to do about them: what names the subject has, and what its key is for
// besides signing certificates, is not asked here.
var harmless = map[string]bool{oidKeyUsage: true, oidBasicConstraints: true, "2.5.29.17": true, "2.5.29.37": true}

func (c *certificate) interpret(e entitlement.Extension) error {
	switch e.ID {
	case oidBasicConstraints:
		value := cryptobyte.String(e.Value)
		var body cryptobyte.String
		if !value.ReadASN1(&body, cryptoasn1.SEQUENCE) || !value.Empty() {
			return errors.New("malformed basic constraints")
		}
		c.constrained = true
		if body.PeekASN1Tag(cryptoasn1.BOOLEAN) && !body.ReadASN1Boolean(&c.ca) {
			return errors.New("malformed basic constraints")
		}
		if body.PeekASN1Tag(cryptoasn1.INTEGER) && (!body.ReadASN1Integer(&c.maxBelow) || c.maxBelow < 0) {
			return errors.New("malformed basic constraints")
		}
	case oidKeyUsage:
		var bits asn1.BitString
		if rest, err := asn1.Unmarshal(e.Value, &bits); err != nil || len(rest) > 0 {
			return errors.New("malformed key usage")
		}
		c.signs = bits.At(5) == 1
	}
	return nil
}

// selfIssued says whether subject and issuer are the same.
func (c *certificate) selfIssued() bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// signed says whether the certificate has signed another.
func (c *certificate) signed(other *certificate) bool {
	return c.CheckSignature(other.SignatureAlgorithm, other.tbs, other.Signature) == nil
}

// mayIssue says whether the certificate is one of an authority that may have below authorities below it. As OpenSSL does, one of
// version 1 that signs itself counts as one.
func (c *certificate) mayIssue(below int) bool {
	switch {
	case !c.signs || c.maxBelow >= 0 && below > c.maxBelow:
		return false
	case c.constrained:
		return c.ca
	}
	return c.Version == 1 && c.selfIssued()
}

// valid says whether it is the time of the certificate.
func (c *certificate) valid(now time.Time) error {
	if now.Before(c.NotBefore) {
		return errNotYet
	}
	if now.After(c.NotAfter) {
		return errExpired
	}
	return nil
}

// understood says whether nothing about the certificate limits it in a way that is not looked at here.
func (c *certificate) understood() bool {
	for _, id := range c.critical {
		if !harmless[id] {
			return false
		}
	}
	return !slices.ContainsFunc(c.extensions, func(e entitlement.Extension) bool { return e.ID == oidNameConstraints })
}

// A bundle is the certificates that a guard trusts: roots, and authorities that these have signed.
type bundle []*certificate

// parseBundle reads all certificates of a text in PEM. Text around them is skipped, and so are certificates that can not be read.
func parseBundle(text string) bundle {
	var list bundle
	rest := []byte(text)
	for len(list) < maxBundle {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if !isCertificate(block) {
			continue
		}
		if c, err := parseCertificate(block.Bytes); err == nil {
			list = append(list, c)
		}
	}
	return list
}

func isCertificate(b *pem.Block) bool {
	return b.Type == "CERTIFICATE" || b.Type == "X509 CERTIFICATE" || b.Type == "TRUSTED CERTIFICATE"
}

// checkBundle says what is wrong with a text that is to be a bundle: it must begin with a certificate.
func checkBundle(text string) error {
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return errors.New("there is no certificate")
		}
		if isCertificate(block) {
			_, err := parseCertificate(block.Bytes)
			return err
		}
	}
}

// Reasons that clients read.
var (
	errNotYet    = errors.New("Client certificate is not valid yet.")                                  //nolint:revive // clients see it
	errExpired   = errors.New("Client certificate is expired.")                                        //nolint:revive // clients see it
	errUntrusted = errors.New("Client certificate is not signed by the stored 'ca_certificate'.")      //nolint:revive // clients see it
	errMissing   = errors.New("A client certificate was not received via the `X-CLIENT-CERT` header.") //nolint:revive // clients see it
)

// verify says whether a certificate is signed, through any number of authorities, by a root of the bundle, and none of them has
// expired. What names it has, what it is for, and whether it was revoked, is not asked.
func (b bundle) verify(c *certificate, now time.Time) error {
	if !c.understood() {
		return errUntrusted
	}
	tried := 0
	var search func(c *certificate, chain []*certificate) error
	// search looks for a chain from c upwards, and returns the best that can be said of the chains that there are.
	search = func(c *certificate, chain []*certificate) error {
		best := errUntrusted
		for _, issuer := range b {
			if !bytes.Equal(issuer.RawSubject, c.RawIssuer) || !issuer.mayIssue(authorities(chain)) || !issuer.understood() {
				continue
			}
			if len(chain) >= maxChain || slices.Contains(chain, issuer) {
				continue
			}
			if tried++; tried > maxTried {
				return best
			}
			if !issuer.signed(c) {
				continue
			}
			var err error
			if issuer.selfIssued() && issuer.signed(issuer) {
				err = issuer.valid(now)
			} else if err = search(issuer, append(chain, issuer)); err == nil {
				err = issuer.valid(now)
			}
			if err == nil {
				return nil
			}
			if !errors.Is(err, errUntrusted) {
				best = err
			}
		}
		return best
	}
	for _, root := range b { // the client's certificate may be a root itself
		if bytes.Equal(root.tbs, c.tbs) && c.selfIssued() && c.signed(c) {
			return c.valid(now)
		}
	}
	if err := search(c, nil); err != nil {
		return err
	}
	return c.valid(now)
}

// authorities counts those of a chain that are not issued by themselves.
func authorities(chain []*certificate) int {
	n := 0
	for _, c := range chain {
		if !c.selfIssued() {
			n++
		}
	}
	return n
}

// parseHeader reads a client's certificate out of a header: PEM, percent-encoded, or with blanks for the ends of lines.
func parseHeader(value string) (*certificate, error) {
	if value == "" {
		return nil, errMissing
	}
	if len(value) > maxHeader {
		return nil, errors.New("the certificate is too long")
	}
	text, err := url.PathUnescape(value)
	if err != nil {
		return nil, fmt.Errorf("decode the header: %w", err)
	}
	rest := []byte(repaired(text))
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("there is no certificate")
		}
		if isCertificate(block) {
			return parseCertificate(block.Bytes)
		}
	}
}

// repaired puts the ends of lines back into PEM of which they were made blanks.
func repaired(text string) string {
	if strings.Contains(text, "\n") {
		return text
	}
	const begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
	_, body, ok := strings.Cut(text, begin)
	if !ok {
		return text
	}
	body, _, ok = strings.Cut(body, end)
	if !ok {
		return text
	}
	return begin + strings.NewReplacer(" ", "\n", "\t", "\n").Replace(body) + end + "\n"
}
