package openpgp

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"

	"granary/format/openpgp"
	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/task"
)

// A source is where a new key comes from: exactly one of these.
type source struct {
	File    *rest.File `api:"file,wo" db:"-"`
	Upload  pulp.ID    `api:"upload,wo,ref=core.upload" db:"-"`
	FileURL string     `api:"file_url,wo" db:"-"`
	Data    string     `api:"data,inner" db:"-"` // what the file held, in base64
}

func (s *source) checkFile() []string {
	return (&repository.FileSource{File: s.File}).CheckFile()
}

// create answers a request for a new key with the task that makes it.
func (k *keyrings) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := k.keys.Parse(ctx, r)
	if err != nil {
		return nil, err
	}
	given := 0
	for _, is := range []bool{v.File != nil, !v.Upload.IsZero(), v.FileURL != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, errs.NonFieldError("Exactly one of upload, file_url, file must be specified.")
	}
	locks, err := k.Repos.CreationLocks(ctx, k.keys.Type, &repository.FileSource{Upload: v.Upload}, v.Repository)
	if err != nil {
		return nil, err
	}
	var inner map[string]any
	if v.File != nil {
		data, err := read(v.File.Stage)
		if err != nil {
			return nil, err
		}
		inner = map[string]any{"data": base64.StdEncoding.EncodeToString(data)}
	}
	return k.keys.DispatchCreate(ctx, r, locks, inner)
}

// read reads all of a file that may be a key.
func read(stage blob.Stage) (_ []byte, err error) {
	if stage.Size() > openpgp.MaxSize {
		return nil, errs.NonFieldError("The key is larger than %d bytes.", openpgp.MaxSize)
	}
	r, err := stage.Reader()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(r)
}

// createInTask makes a key with all its parts, as far as they are not there, and adds them to the destination.
func (k *keyrings) createInTask(ctx context.Context, j *task.Job, v *PublicKey) (_ any, err error) {
	var d *repository.Draft
	if !v.Repository.IsZero() {
		if d, err = k.Repos.NewDraft(ctx, j, v.Repository); err != nil {
			return nil, err
		}
	}
	data, err := k.fetch(ctx, &v.source)
	if err != nil {
		return nil, err
	}
	key, err := openpgp.ParseKey(data)
	if bad, ok := errors.AsType[openpgp.Error](err); ok {
		return nil, errs.NonFieldError("%s", string(bad))
	}
	if err != nil {
		return nil, err
	}
	id, all, err := k.save(ctx, key, v.Labels)
	if err != nil {
		return nil, err
	}
	ref := pulp.RefTo(k.keys.Label, id)
	if d == nil {
		err = k.DB.Update(ctx, func(tx *db.Tx) error { return j.Created(ctx, tx, ref) })
	} else if err = d.AddMade(ctx, all, ref); err == nil {
		_, err = d.Complete(ctx)
	}
	if err != nil {
		return nil, err
	}
	if !v.Upload.IsZero() {
		if err := k.DB.Update(ctx, func(tx *db.Tx) error { return k.Repos.DropUpload(ctx, tx, v.Upload) }); err != nil {
			return nil, err
		}
	}
	made, err := k.keys.Get(ctx, k.DB, id)
	if err != nil {
		return nil, err
	}
	body, err := k.keys.JSON(ctx, k.DB, made)
	return json.RawMessage(body), err
}

// fetch returns the bytes that a task's source names.
func (k *keyrings) fetch(ctx context.Context, src *source) (_ []byte, err error) {
	if src.Data != "" {
		return base64.StdEncoding.DecodeString(src.Data)
	}
	stage, err := k.Repos.Stage(ctx, &repository.FileSource{Upload: src.Upload, FileURL: src.FileURL}, openpgp.MaxSize)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	return read(stage)
}

// save saves a key with all its parts. It returns the key's id, and those of all.
func (k *keyrings) save(ctx context.Context, key *openpgp.Key, labels rest.Labels) (id pulp.ID, all []pulp.ID, err error) {
	s := saving{k: k}
	own := newContent()
	own.Labels = labels
	ids, err := s.units(ctx, k.keys.content, []any{&PublicKey{
		Content: own, packet: raw(key.Packet), Fingerprint: key.Fingerprint, KeyID: key.KeyID, KeyCreated: key.Created.Unix(),
	}})
	if err != nil {
		return id, nil, err
	}
	id = ids[0]
	s.sign(id, key.Signatures)
	// ids are made in the key's order, so that what is ordered by them is
	names := make([]any, len(key.UserIDs))
	for i, u := range key.UserIDs {
		names[i] = &UserID{Content: newContent(), packet: raw(u.Packet), UserID: u.ID, SHA256: sum(u.Packet), PublicKey: id}
	}
	if ids, err = s.units(ctx, k.userIDs.content, names); err != nil {
		return id, nil, err
	}
	for i, u := range key.UserIDs {
		s.sign(ids[i], u.Signatures)
	}
	attributes := make([]any, len(key.Attributes))
	for i, a := range key.Attributes {
		attributes[i] = &Attribute{Content: newContent(), packet: raw(a.Packet), SHA256: sum(a.Packet), PublicKey: id}
	}
	if ids, err = s.units(ctx, k.attributes.content, attributes); err != nil {
		return id, nil, err
	}
	for i, a := range key.Attributes {
		s.sign(ids[i], a.Signatures)
	}
	subkeys := make([]any, len(key.Subkeys))
	for i, b := range key.Subkeys {
		subkeys[i] = &Subkey{Content: newContent(), packet: raw(b.Packet), Fingerprint: b.Fingerprint, KeyCreated: b.Created.Unix(), PublicKey: id}
	}
	if ids, err = s.units(ctx, k.subkeys.content, subkeys); err != nil {
		return id, nil, err
	}
	for i, b := range key.Subkeys {
		s.sign(ids[i], b.Signatures)
	}
	_, err = s.units(ctx, k.signatures.content, s.signatures)
	return id, s.all, err
}

// A saving is the units of a key that are there by now, and the signatures that are yet to be.
type saving struct {
	k          *keyrings
	all        []pulp.ID
	signatures []any
}

// units saves units of one type and returns their ids.
func (s *saving) units(ctx context.Context, ct *repository.ContentType, values []any) ([]pulp.ID, error) {
	units := make([]repository.NewContent, len(values))
	for i, v := range values {
		units[i].Value = v
	}
	saved, err := s.k.Repos.SaveContent(ctx, ct, units)
	if err != nil {
		return nil, err
	}
	ids := make([]pulp.ID, len(saved))
	for i, u := range saved {
		ids[i] = u.ID
	}
	s.all = append(s.all, ids...)
	return ids, nil
}

// sign notes the signatures of a unit.
func (s *saving) sign(unit pulp.ID, list []openpgp.Signature) {
	text := func(t string) *string {
		if t == "" {
			return nil
		}
		return &t
	}
	for _, sig := range list {
		v := &Signature{
			Content: newContent(), packet: raw(sig.Packet), SHA256: sum(sig.Packet), Signed: unit, Type: int64(sig.Type), MadeAt: sig.Created.Unix(),
			Issuer: text(sig.Issuer), SignersUserID: text(sig.SignersName),
		}
		if n := int64(sig.Expires.Seconds()); n != 0 {
			v.Expires = &n
		}
		if n := int64(sig.KeyExpires.Seconds()); n != 0 {
			v.KeyExpires = &n
		}
		s.signatures = append(s.signatures, v)
	}
}

// newContent makes a unit that has its id already.
func newContent() repository.Content {
	var c repository.Content
	c.ID = pulp.NewID()
	return c
}

func raw(body []byte) packet { return packet{Raw: base64.StdEncoding.EncodeToString(body)} }

func sum(body []byte) string {
	s := sha256.Sum256(body)
	return hex.EncodeToString(s[:])
}
