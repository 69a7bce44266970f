package openpgp

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"granary/format/openpgp"
	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
)

// A packet is what all units have: the body of the packet, in base64, and the domain again, for the natural key.
type packet struct {
	Raw string  `api:"-" db:"raw_data"`
	Of  pulp.ID `api:"-" db:"domain"`
}

// A PublicKey is a key itself. Its signatures are units of their own, and so is all else that comes with it.
type PublicKey struct {
	repository.Content
	Fingerprint string            `api:"fingerprint,ro,maxlen=64"`
	Created     string            `api:"created,ro,computed,format=date-time"`
	UserIDs     []nestedUserID    `api:"user_ids,ro,computed,schema=NestedOpenPGPUserID"`
	Attributes  []nestedAttribute `api:"user_attributes,ro,computed,schema=NestedOpenPGPUserAttribute"`
	Subkeys     []nestedSubkey    `api:"public_subkeys,ro,computed,schema=NestedOpenPGPPublicSubkey"`
	source
	repository.Destination
	packet
	KeyID      string `api:"-" db:"key_id"`
	KeyCreated int64  `api:"-" db:"key_created"` // seconds
}

// A Subkey is a key that belongs to a public key.
type Subkey struct {
	repository.Content
	Fingerprint string            `api:"fingerprint,req,maxlen=64"`
	Created     string            `api:"created,req,computed,format=date-time"`
	Signatures  []nestedSignature `api:"signatures,ro,computed,schema=NestedOpenPGPSignature"`
	PublicKey   pulp.ID           `api:"public_key,ro,ref=content:core.openpgppublickey"`
	packet
	KeyCreated int64 `api:"-" db:"key_created"`
}

// A UserID is a name of a key's owner.
type UserID struct {
	repository.Content
	UserID     string            `api:"user_id,req"`
	Signatures []nestedSignature `api:"signatures,ro,computed,schema=NestedOpenPGPSignature"`
	PublicKey  pulp.ID           `api:"public_key,ro,ref=content:core.openpgppublickey"`
	packet
	SHA256 string `api:"-" db:"sha256"`
}

// An Attribute is something else about a key's owner: a photo.
type Attribute struct {
	repository.Content
	SHA256     string            `api:"sha256,req,maxlen=128"`
	Signatures []nestedSignature `api:"signatures,ro,computed,schema=NestedOpenPGPSignature"`
	PublicKey  pulp.ID           `api:"public_key,ro,ref=content:core.openpgppublickey"`
	packet
}

// A Signature is what somebody says about one of the units above.
type Signature struct {
	repository.Content
	Issuer        *string `api:"issuer,null,maxlen=16"`
	Created       string  `api:"created,req,computed,format=date-time"`
	Expiration    *string `api:"expiration_time,null,computed"`
	SignersUserID *string `api:"signers_user_id,null"`
	KeyExpiration *string `api:"key_expiration_time,null,computed"`
	Expired       *bool   `api:"expired,req,computed"`
	KeyExpired    verdict `api:"key_expired,ro,computed"`
	Signed        pulp.ID `api:"signed_content,ro,ref=content"`
	packet
	SHA256     string `api:"-" db:"sha256"`
	Type       int64  `api:"-" db:"signature_type"`
	MadeAt     int64  `api:"-" db:"signature_created"`   // seconds
	Expires    *int64 `api:"-" db:"expiration_time"`     // seconds after that
	KeyExpires *int64 `api:"-" db:"key_expiration_time"` // seconds after the key's creation
}

// What a key shows of its parts.
type (
	nestedSignature struct {
		Issuer        *string `api:"issuer,null,maxlen=16"`
		Created       string  `api:"created,req,format=date-time"`
		Expiration    *string `api:"expiration_time,null"`
		SignersUserID *string `api:"signers_user_id,null"`
		KeyExpiration *string `api:"key_expiration_time,null"`
		Expired       *bool   `api:"expired,req"`
		KeyExpired    verdict `api:"key_expired,ro"`
	}
	nestedUserID struct {
		UserID     string            `api:"user_id,req"`
		Signatures []nestedSignature `api:"signatures,ro,schema=NestedOpenPGPSignature"`
		id         pulp.ID
	}
	nestedAttribute struct {
		SHA256     string            `api:"sha256,req,maxlen=128"`
		Signatures []nestedSignature `api:"signatures,ro,schema=NestedOpenPGPSignature"`
		id         pulp.ID
	}
	nestedSubkey struct {
		Fingerprint string            `api:"fingerprint,req,maxlen=64"`
		Created     string            `api:"created,req,format=date-time"`
		Signatures  []nestedSignature `api:"signatures,ro,schema=NestedOpenPGPSignature"`
		id          pulp.ID
	}
)

// A verdict says whether something is so; null where nothing is to be said. As in Pulp, the document calls it a string.
type verdict struct{ *bool }

// MarshalJSON writes true, false or null.
func (v verdict) MarshalJSON() ([]byte, error) {
	if v.bool == nil {
		return []byte("null"), nil
	}
	return fmt.Appendf(nil, "%t", *v.bool), nil
}

// Schema says that clients are told of a string.
func (verdict) Schema() any { return "" }

// A Keyring holds keys.
type Keyring struct{ repository.Repository }

// A Distribution gives away the keys of a keyring, or of one version of it.
type Distribution struct {
	repository.Distribution
	Version pulp.ID `api:"repository_version,null,ref=repository_version" db:"m.repository_version"`
}

// define completes the declaration of a type of content and its rules.
func define[T any](k *keyrings, r rest.Resource[T], table string, key ...string) unit[T] {
	r.App = "core"
	t, ct := repository.DefineContent(k.Repos, r, repository.ContentType{Table: table, Key: key})
	return unit[T]{t, ct}
}

func (k *keyrings) defineKeys() unit[PublicKey] {
	return define(k, rest.Resource[PublicKey]{
		Model: "OpenPGPPublicKey", Path: "content/core/openpgp_publickey", PulpType: "core.openpgp_publickey",
		Filters:  rest.Text("fingerprint", "d.fingerprint"),
		Ordering: []string{"created", "fingerprint", "raw_data"}, OrderBy: map[string]string{"created": "d.key_created"},
		Checks:   map[string]func(*PublicKey) []string{"file": func(v *PublicKey) []string { return v.checkFile() }},
		OnCreate: k.create, CreateInTask: k.createInTask, Expand: k.expandKeys,
	}, "core_openpgppublickey", "fingerprint")
}

func (k *keyrings) defineSubkeys() unit[Subkey] {
	return define(k, rest.Resource[Subkey]{
		Model: "OpenPGPPublicSubkey", Path: "content/core/openpgp_publicsubkey", PulpType: "core.openpgp_publicsubkey",
		Filters:  rest.Text("fingerprint", "d.fingerprint"),
		Ordering: []string{"created", "fingerprint", "raw_data"}, OrderBy: map[string]string{"created": "d.key_created"},
		Expand: func(ctx context.Context, q db.Querier, list []*Subkey) error {
			for _, v := range list {
				v.Created = instant(v.KeyCreated)
			}
			return expandSigned(ctx, k, q, list, func(v *Subkey) (pulp.ID, *[]nestedSignature) { return v.ID, &v.Signatures })
		},
	}, "core_openpgppublicsubkey", "public_key", "fingerprint")
}

func (k *keyrings) defineUserIDs() unit[UserID] {
	return define(k, rest.Resource[UserID]{
		Model: "OpenPGPUserID", Path: "content/core/openpgp_userid", PulpType: "core.openpgp_userid",
		Filters:  rest.Text("user_id", "d.user_id", rest.NameLookups...),
		Ordering: []string{"raw_data", "user_id"},
		Expand: func(ctx context.Context, q db.Querier, list []*UserID) error {
			return expandSigned(ctx, k, q, list, func(v *UserID) (pulp.ID, *[]nestedSignature) { return v.ID, &v.Signatures })
		},
	}, "core_openpgpuserid", "public_key", "sha256")
}

func (k *keyrings) defineAttributes() unit[Attribute] {
	return define(k, rest.Resource[Attribute]{
		Model: "OpenPGPUserAttribute", Path: "content/core/openpgp_userattribute", PulpType: "core.openpgp_userattribute",
		Filters:  rest.Text("sha256", "d.sha256"),
		Ordering: []string{"raw_data", "sha256"},
		Expand: func(ctx context.Context, q db.Querier, list []*Attribute) error {
			return expandSigned(ctx, k, q, list, func(v *Attribute) (pulp.ID, *[]nestedSignature) { return v.ID, &v.Signatures })
		},
	}, "core_openpgpuserattribute", "public_key", "sha256")
}

func (k *keyrings) defineSignatures() unit[Signature] {
	return define(k, rest.Resource[Signature]{
		Model: "OpenPGPSignature", Path: "content/core/openpgp_signature", PulpType: "core.openpgp_signature",
		Filters:  rest.Text("issuer", "d.issuer"),
		Ordering: []string{"created", "expiration_time", "issuer", "key_expiration_time", "raw_data", "sha256", "signature_type", "signers_user_id"},
		OrderBy:  map[string]string{"created": "d.signature_created", "expiration_time": "d.expiration_time", "key_expiration_time": "d.key_expiration_time"},
		Expand:   k.expandSignatures,
	}, "core_openpgpsignature", "signed_content", "sha256")
}

func (k *keyrings) defineKeyrings() (rest.Typed[Keyring], *repository.RepositoryType) {
	return repository.DefineRepository(k.Repos, rest.Resource[Keyring]{
		App: "core", Model: "OpenPGPKeyring", Path: "repositories/core/openpgp_keyring", PulpType: pulpType, Roles: true,
	}, func(v *Keyring) *repository.Repository { return &v.Repository }, repository.RepositoryType{
		Contents: []string{k.keys.PulpType, k.subkeys.PulpType, k.userIDs.PulpType, k.attributes.PulpType, k.signatures.PulpType},
	})
}

func (k *keyrings) defineDistributions() rest.Typed[Distribution] {
	return repository.DefineDistribution(k.Repos, rest.Resource[Distribution]{
		App: "core", Model: "OpenPGPDistribution", Path: "distributions/core/openpgp", PulpType: pulpType,
		OwnFilters: true,
		Filters: []rest.Filter{
			rest.LinkTo("repository_version", "m.repository_version", repository.Versions.Name, false), rest.LabelSelect(), k.Repos.WithContent(),
		},
	}, func(v *Distribution) *repository.Distribution { return &v.Distribution }, func(v *Distribution) repository.Serving {
		return repository.Serving{Version: v.Version}
	})
}

// instant writes a time that has no more than seconds.
func instant(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }

// duration writes a number of seconds as Pulp does: "365 00:00:00", and without the days where there are none.
func duration(seconds *int64) *string {
	if seconds == nil {
		return nil
	}
	const day = 24 * 60 * 60
	n := *seconds
	text := fmt.Sprintf("%02d:%02d:%02d", n%day/3600, n%3600/60, n%60)
	if n >= day {
		text = fmt.Sprintf("%d %s", n/day, text)
	}
	return &text
}

// nested is what a signature shows. subkey is when the subkey that it binds was created.
func (v *Signature) nested(now, subkey int64) nestedSignature {
	n := nestedSignature{
		Issuer: v.Issuer, Created: instant(v.MadeAt), Expiration: duration(v.Expires), SignersUserID: v.SignersUserID, KeyExpiration: duration(v.KeyExpires),
	}
	if v.Expires != nil {
		over := v.MadeAt+*v.Expires < now
		n.Expired = &over
	}
	if v.Type == openpgp.BindsSubkey { // as Pulp does: of the keys themselves it says nothing
		over := v.KeyExpires != nil && subkey+*v.KeyExpires < now
		n.KeyExpired.bool = &over
	}
	return n
}

// signaturesOf loads what signatures show, by what they sign.
func (k *keyrings) signaturesOf(ctx context.Context, q db.Querier, where string, args []any, add func(signed pulp.ID, n nestedSignature)) error {
	now := k.Now().Unix()
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var v Signature
		var subkey sql.NullInt64
		err := rows.Scan(&v.Signed, &v.Issuer, &v.MadeAt, &v.Expires, &v.KeyExpires, &v.SignersUserID, &v.Type, &subkey)
		add(v.Signed, v.nested(now, subkey.Int64))
		return err
	}, "SELECT s.signed_content, s.issuer, s.signature_created, s.expiration_time, s.key_expiration_time, s.signers_user_id, s.signature_type, b.key_created"+
		" FROM core_openpgpsignature s LEFT JOIN core_openpgppublicsubkey b ON b.id = s.signed_content WHERE "+where+" ORDER BY s.id", args...)
}

func (k *keyrings) expandSignatures(ctx context.Context, q db.Querier, list []*Signature) error {
	var signed []pulp.ID
	for _, v := range list {
		if v.Type == openpgp.BindsSubkey {
			signed = append(signed, v.Signed)
		}
	}
	created := map[pulp.ID]int64{}
	if signed != nil {
		marks, args := db.In(signed)
		err := db.Each(ctx, q, func(rows *sql.Rows) error {
			var id pulp.ID
			var at int64
			err := rows.Scan(&id, &at)
			created[id] = at
			return err
		}, "SELECT id, key_created FROM core_openpgppublicsubkey WHERE id IN "+marks, args...)
		if err != nil {
			return err
		}
	}
	now := k.Now().Unix()
	for _, v := range list {
		n := v.nested(now, created[v.Signed])
		v.Created, v.Expiration, v.KeyExpiration, v.Expired, v.KeyExpired = n.Created, n.Expiration, n.KeyExpiration, n.Expired, n.KeyExpired
	}
	return nil
}

// expandSigned fills the signatures of units.
func expandSigned[T any](ctx context.Context, k *keyrings, q db.Querier, list []*T, of func(*T) (pulp.ID, *[]nestedSignature)) error {
	ids := make([]pulp.ID, len(list))
	signatures := map[pulp.ID]*[]nestedSignature{}
	for i, v := range list {
		var s *[]nestedSignature
		ids[i], s = of(v)
		*s = nil
		signatures[ids[i]] = s
	}
	marks, args := db.In(ids)
	return k.signaturesOf(ctx, q, "s.signed_content IN "+marks, args, func(signed pulp.ID, n nestedSignature) {
		*signatures[signed] = append(*signatures[signed], n)
	})
}

// expandKeys fills what keys show of their parts.
func (k *keyrings) expandKeys(ctx context.Context, q db.Querier, list []*PublicKey) error {
	ids := make([]pulp.ID, len(list))
	byID := map[pulp.ID]*PublicKey{}
	for i, v := range list {
		ids[i], byID[v.ID] = v.ID, v
		v.Created = instant(v.KeyCreated)
		v.UserIDs, v.Attributes, v.Subkeys = nil, nil, nil
	}
	marks, args := db.In(ids)
	const signed = "s.signed_content IN (SELECT id FROM %s WHERE public_key IN %s)"
	signatures := map[pulp.ID][]nestedSignature{}
	for _, table := range []string{k.userIDs.content.Table, k.attributes.content.Table, k.subkeys.content.Table} {
		err := k.signaturesOf(ctx, q, fmt.Sprintf(signed, table, marks), args, func(signed pulp.ID, n nestedSignature) {
			signatures[signed] = append(signatures[signed], n)
		})
		if err != nil {
			return err
		}
	}
	for _, part := range []struct {
		columns string
		scan    func(rows *sql.Rows) error
	}{
		{"user_id FROM core_openpgpuserid", func(rows *sql.Rows) error {
			var key pulp.ID
			var n nestedUserID
			err := rows.Scan(&key, &n.id, &n.UserID)
			n.Signatures = signatures[n.id]
			byID[key].UserIDs = append(byID[key].UserIDs, n)
			return err
		}},
		{"sha256 FROM core_openpgpuserattribute", func(rows *sql.Rows) error {
			var key pulp.ID
			var n nestedAttribute
			err := rows.Scan(&key, &n.id, &n.SHA256)
			n.Signatures = signatures[n.id]
			byID[key].Attributes = append(byID[key].Attributes, n)
			return err
		}},
		{"fingerprint, key_created FROM core_openpgppublicsubkey", func(rows *sql.Rows) error {
			var key pulp.ID
			var n nestedSubkey
			var at int64
			err := rows.Scan(&key, &n.id, &n.Fingerprint, &at)
			n.Created, n.Signatures = instant(at), signatures[n.id]
			byID[key].Subkeys = append(byID[key].Subkeys, n)
			return err
		}},
	} {
		if err := db.Each(ctx, q, part.scan, "SELECT public_key, id, "+part.columns+" WHERE public_key IN "+marks+" ORDER BY id", args...); err != nil {
			return err
		}
	}
	return nil
}
