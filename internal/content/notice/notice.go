// Package notice tells content servers, on every process, that something changed of what they serve. Whoever changes it
// calls [Changed] in the same transaction; the content server, which listens, is in another package above.
package notice

import (
	"context"
	"strings"

	"granary/internal/db"
	"granary/internal/pulp"
)

// Channel is the database's notification channel that notices are sent on.
const Channel = "content"

// A Kind says what the ids of a notice are of, and what happened to it.
type Kind string

// The kinds of notice.
const (
	Distribution Kind = "distribution" // made, changed or deleted
	Repository   Kind = "repository"   // deleted, or one of its versions or publications was completed or deleted
	Version      Kind = "version"      // deleted; its repository is told of too
	Publication  Kind = "publication"  // deleted; its repository is told of too
	Remote       Kind = "remote"       // deleted
	Guard        Kind = "guard"        // changed or deleted
	Domain       Kind = "domain"       // made, changed or deleted
	Files        Kind = "files"        // a repository: stored files of its content were removed, or replaced by others
)

// maxIDs keeps a payload well below the 7,000 bytes that a notification can have.
const maxIDs = 100

// Changed tells of a change, once the transaction is durable. Without an id, it concerns every object of the kind.
func Changed(ctx context.Context, tx *db.Tx, kind Kind, ids ...pulp.ID) error {
	for {
		n := min(len(ids), maxIDs)
		var b strings.Builder
		b.WriteString(string(kind))
		for _, id := range ids[:n] {
			b.WriteByte(' ')
			b.WriteString(id.String())
		}
		if err := tx.Notify(ctx, Channel, b.String()); err != nil {
			return err
		}
		if ids = ids[n:]; len(ids) == 0 {
			return nil
		}
	}
}

// Parse reads a payload. One that cannot be read, perhaps of a newer release, has no kind: anything may have changed.
func Parse(payload string) (Kind, []pulp.ID) {
	words := strings.Fields(payload)
	if len(words) == 0 {
		return "", nil
	}
	switch kind := Kind(words[0]); kind {
	case Distribution, Repository, Version, Publication, Remote, Guard, Domain, Files:
		ids := make([]pulp.ID, len(words)-1)
		for i, w := range words[1:] {
			id, err := pulp.ParseID(w)
			if err != nil {
				return "", nil
			}
			ids[i] = id
		}
		return kind, ids
	}
	return "", nil
}
