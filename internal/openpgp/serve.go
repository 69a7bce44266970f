package openpgp

import (
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"granary/format/openpgp"
	"granary/internal/content"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// fileName is what keys are served as.
var fileName = regexp.MustCompile(`^[0-9a-fA-F]{16}\.pub$`)

const (
	// served joins the content of a version to a unit d. Its arguments are those of where.
	served    = " JOIN core_repositorycontent rc ON rc.content = d.id AND rc.repository = ? AND rc.added <= ? AND rc.removed > ?"
	published = "application/pgp-keys; charset=us-ascii"
)

func where(s content.Served) []any { return []any{s.Repository, s.Number, s.Number} }

// list names the files of a version's keys.
func (k *keyrings) list(ctx context.Context, _ *content.Distribution, s content.Served, dir string) ([]string, error) {
	if dir != "" || s.Version.IsZero() {
		return nil, nil
	}
	ids, err := db.Column[string](ctx, k.DB, "SELECT d.key_id FROM core_openpgppublickey d"+served, where(s)...)
	for i := range ids {
		ids[i] += ".pub"
	}
	return ids, err
}

// serve answers with a key, and with those of its parts that the version has.
func (k *keyrings) serve(ctx context.Context, r *content.Request) (_ *content.Answer, err error) {
	if !fileName.MatchString(r.Rel) || r.Served.Version.IsZero() {
		return nil, nil
	}
	defer errs.Wrap(&err, "serve a key")
	id := strings.ToLower(strings.TrimSuffix(r.Rel, ".pub"))
	keys, err := k.packets(ctx, r.Served, openpgp.TagPublicKey, k.keys.content.Table, "d.key_id = ?", id)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	var out []byte
	for _, key := range keys { // as good as always one
		parts := []signedPacket{key}
		for _, part := range []struct {
			tag   byte
			table string
		}{
			{openpgp.TagUserID, k.userIDs.content.Table}, {openpgp.TagUserAttribute, k.attributes.content.Table}, {openpgp.TagPublicSubkey, k.subkeys.content.Table},
		} {
			list, err := k.packets(ctx, r.Served, part.tag, part.table, "d.public_key = ?", key.id)
			if err != nil {
				return nil, err
			}
			parts = append(parts, list...)
		}
		signatures, err := k.signaturesIn(ctx, r.Served, parts)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			out = openpgp.AppendPacket(out, p.tag, p.body)
			for _, s := range signatures[p.id] {
				out = openpgp.AppendPacket(out, openpgp.TagSignature, s)
			}
		}
	}
	return &content.Answer{Header: http.Header{"Content-Type": {published}}, Body: openpgp.Armor(out)}, nil
}

// A signedPacket is one that signatures may follow.
type signedPacket struct {
	id   pulp.ID
	tag  byte
	body []byte
}

// packets loads those packets of a table that a version has.
func (k *keyrings) packets(ctx context.Context, s content.Served, tag byte, table, cond string, arg any) ([]signedPacket, error) {
	return db.All(ctx, k.DB, func(rows *sql.Rows) (signedPacket, error) {
		p := signedPacket{tag: tag}
		var text string
		err := rows.Scan(&p.id, &text)
		if err == nil {
			p.body, err = base64.StdEncoding.DecodeString(text)
		}
		return p, err
	}, fmt.Sprintf("SELECT d.id, d.raw_data FROM %s d%s WHERE %s ORDER BY d.id", table, served, cond), append(where(s), arg)...)
}

// signaturesIn loads the signatures of packets that a version has.
func (k *keyrings) signaturesIn(ctx context.Context, s content.Served, of []signedPacket) (map[pulp.ID][][]byte, error) {
	const batch = 500
	all := map[pulp.ID][][]byte{}
	for list := range slices.Chunk(of, batch) {
		ids := make([]pulp.ID, len(list))
		for i, p := range list {
			ids[i] = p.id
		}
		marks, args := db.In(ids)
		err := db.Each(ctx, k.DB, func(rows *sql.Rows) error {
			var signed pulp.ID
			var text string
			if err := rows.Scan(&signed, &text); err != nil {
				return err
			}
			body, err := base64.StdEncoding.DecodeString(text)
			all[signed] = append(all[signed], body)
			return err
		}, "SELECT d.signed_content, d.raw_data FROM core_openpgpsignature d"+served+" WHERE d.signed_content IN "+marks+" ORDER BY d.id", append(where(s), args...)...)
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
