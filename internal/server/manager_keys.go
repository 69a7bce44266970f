package server

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"granary/internal/db"
	"granary/internal/keyring"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

func keyCommands(add adder) {
	c := add("rotate-db-key", "Encrypt all secrets in the database with the first key of DB_ENCRYPTION_KEY", cobra.NoArgs, rotateKey)
	c.Flags().Bool("dry-run", false, "change nothing")
}

// rotateKey encrypts what is encrypted with another key than the first one anew. It may be interrupted and repeated.
func rotateKey(ctx context.Context, s *Server, cmd *cobra.Command, _ []string) error {
	dry, err := cmd.Flags().GetBool("dry-run")
	if err != nil {
		return err
	}
	keys, err := keyring.Load(s.Settings.DBEncryptionKey)
	if err != nil {
		return err
	}
	if !s.Keys.Has(keys) {
		return errors.New("the server that runs has not read the first key of DB_ENCRYPTION_KEY: restart it, then rotate")
	}
	columns := append(s.API.SealedColumns(), rest.SealedColumn{Model: "Task", Field: task.SealedColumn, Table: task.SealedTable, Column: task.SealedColumn})
	for len(columns) > 0 {
		var fields []string
		table := columns[0].Table
		n := 0
		for n < len(columns) && columns[n].Table == table {
			fields = append(fields, columns[n].Field)
			n++
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "Updating %s on %s.\n", strings.Join(fields, ","), columns[0].Model); err != nil {
			return err
		}
		for _, c := range columns[:n] {
			if err := s.reseal(ctx, keys, c, dry); err != nil {
				return fmt.Errorf("%s of %s: %w", c.Column, c.Table, err)
			}
		}
		columns = columns[n:]
	}
	return nil
}

// reseal encrypts a column's values with the first key, in transactions that are short.
func (s *Server) reseal(ctx context.Context, keys keyring.Keys, c rest.SealedColumn, dry bool) error {
	const batch = 1024
	type row struct {
		id    pulp.ID
		token string
	}
	for last := (pulp.ID{}); ; {
		list, err := db.All(ctx, s.DB, func(rows *sql.Rows) (r row, err error) { err = rows.Scan(&r.id, &r.token); return r, err },
			"SELECT id, "+c.Column+" FROM "+c.Table+" WHERE "+c.Column+" IS NOT NULL AND id > ? ORDER BY id LIMIT ?", last[:], batch)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		last = list[len(list)-1].id
		fresh := make(map[pulp.ID]string, len(list))
		for _, r := range list {
			if keys.Newest(r.token) {
				continue
			}
			text, err := keys.Decrypt(r.token)
			if err != nil {
				return fmt.Errorf("%s: %w", r.id, err)
			}
			if fresh[r.id], err = keys.Encrypt(text); err != nil {
				return err
			}
		}
		if dry || len(fresh) == 0 {
			continue
		}
		err = s.DB.Update(ctx, func(tx *db.Tx) error {
			for _, r := range list {
				if fresh[r.id] == "" {
					continue
				}
				// what has been changed meanwhile was encrypted then
				if _, err := tx.Exec(ctx, "UPDATE "+c.Table+" SET "+c.Column+" = ? WHERE id = ? AND "+c.Column+" = ?", fresh[r.id], r.id, r.token); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}
