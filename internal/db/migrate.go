package db

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// A Schema is one component's numbered migrations, for each engine in a folder of its name
// ("sqlite/0001_first.sql", "postgres/0001_first.sql").
type Schema struct {
	Component string // "core", or a plugin's name
	Files     fs.FS
}

// Dir is the part of an embedded file system below a folder that is there.
func Dir(files fs.FS, folder string) fs.FS {
	sub, err := fs.Sub(files, folder)
	if err != nil {
		panic(err) // the folder's name is not one
	}
	return sub
}

// Migrate brings the components' tables up to date, in the given order. On PostgreSQL it holds a lock meanwhile,
// so that it may be started on many machines at once. It returns the names of the migrations that it ran.
func (d *DB) Migrate(ctx context.Context, schemas []Schema) (ran []string, err error) {
	for _, s := range schemas {
		p, err := d.provider(s)
		if err != nil {
			return ran, fmt.Errorf("migrations of %s: %w", s.Component, err)
		}
		results, err := p.Up(ctx)
		if err != nil {
			return ran, fmt.Errorf("migrate %s: %w", s.Component, err)
		}
		for _, r := range results {
			ran = append(ran, s.Component+" "+r.Source.Path)
		}
	}
	return ran, nil
}

// Pending names the migrations that Migrate would run.
func (d *DB) Pending(ctx context.Context, schemas []Schema) ([]string, error) {
	var list []string
	for _, s := range schemas {
		p, err := d.provider(s)
		if err != nil {
			return nil, fmt.Errorf("migrations of %s: %w", s.Component, err)
		}
		state, err := p.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("migrations of %s: %w", s.Component, err)
		}
		for _, m := range state {
			if m.State == goose.StatePending {
				list = append(list, s.Component+" "+m.Source.Path)
			}
		}
	}
	return list, nil
}

// A Migration is one step of a component's.
type Migration struct {
	Name    string // as "0001_core"
	Pending bool
}

// Migrations lists a component's migrations in their order.
func (d *DB) Migrations(ctx context.Context, s Schema) ([]Migration, error) {
	p, err := d.provider(s)
	if err != nil {
		return nil, fmt.Errorf("migrations of %s: %w", s.Component, err)
	}
	state, err := p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrations of %s: %w", s.Component, err)
	}
	list := make([]Migration, len(state))
	for i, m := range state {
		list[i] = Migration{strings.TrimSuffix(m.Source.Path, ".sql"), m.State == goose.StatePending}
	}
	return list, nil
}

func (d *DB) provider(s Schema) (*goose.Provider, error) {
	files, err := fs.Sub(s.Files, string(d.engine))
	if err != nil {
		return nil, err
	}
	opts := []goose.ProviderOption{goose.WithTableName("goose_" + s.Component), goose.WithLogger(goose.NopLogger())}
	dialect, pool := goose.DialectSQLite3, (*sql.DB)(nil)
	if d.engine == PostgreSQL {
		dialect, pool = goose.DialectPostgres, d.read
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	} else {
		pool = d.lite.Write
	}
	return goose.NewProvider(dialect, pool, files, opts...)
}
