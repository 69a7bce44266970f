package repository

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// fewPaths is up to how many new units a version's paths are looked up one by one instead of all being read.
const fewPaths = 200

// checkPaths refuses a version in which two files have one path, or one's path is a folder of another's.
func (d *Draft) checkPaths(ctx context.Context) error {
	if !d.Type.PathCheck {
		return nil
	}
	problems, err := d.pathProblems(ctx)
	if err != nil {
		return fmt.Errorf("check paths: %w", err)
	}
	if problems != "" {
		return errs.E(errs.Invalid, "Repository version errors : "+problems)
	}
	return nil
}

func (d *Draft) pathProblems(ctx context.Context) (string, error) {
	const (
		columns = "SELECT ca.relative_path, ca.artifact FROM "
		fresh   = columns + "core_repositorycontent rc JOIN core_contentartifact ca ON ca.content = rc.content" +
			" WHERE rc.repository = ? AND rc.added = ? AND rc.removed >= " + current // which no index has: what is new is found by added
		all  = columns + "core_repositorycontent rc JOIN core_contentartifact ca ON ca.content = rc.content WHERE rc.repository = ? AND rc.removed = " + current
		near = columns + "core_contentartifact ca CROSS JOIN core_repositorycontent rc" + // in this order: a path is rarer than a place in the version
			" WHERE rc.repository = ? AND rc.content = ca.content AND rc.removed = " + current + " AND (ca.relative_path IN %s OR ca.relative_path >= ? AND ca.relative_path < ?)"
	)
	q := d.svc.DB
	type file struct {
		path     string
		artifact pulp.ID
	}
	scan := func(rows *sql.Rows) (f file, err error) {
		err = rows.Scan(&f.path, &f.artifact)
		return f, err
	}
	list, err := db.All(ctx, q, scan, fresh+" LIMIT ?", d.Repository, d.Number, fewPaths+1)
	if err != nil {
		return "", err
	}
	var p PathChecker
	if len(list) > fewPaths {
		err := db.Each(ctx, q, func(rows *sql.Rows) error {
			f, err := scan(rows)
			p.Add(f.path, f.artifact.String())
			return err
		}, all+" ORDER BY ca.relative_path", d.Repository)
		return p.Problems(), err
	}
	var around []file
	for _, f := range list {
		var folders []string
		for i, c := range f.path {
			if c == '/' {
				folders = append(folders, f.path[:i])
			}
		}
		marks, args := db.In(append(folders, f.path))
		some, err := db.All(ctx, q, scan, fmt.Sprintf(near, marks), append(append([]any{d.Repository}, args...), f.path+"/", f.path+"0")...) // "0" follows "/"
		if err != nil {
			return "", err
		}
		around = append(around, some...)
	}
	slices.SortFunc(around, func(a, b file) int { return strings.Compare(a.path, b.path) })
	for _, f := range around {
		p.Add(f.path, f.artifact.String())
	}
	return p.Problems(), nil
}

// A PathChecker finds files that cannot be in one tree. The zero value is ready; paths must come sorted.
type PathChecker struct {
	open      []string // the paths that began the current one, shortest first
	last      string   // the identity of the file at the current path
	started   bool
	twice     []string
	overlaps  map[string][]string
	overOrder []string
}

const maxProblems = 100 // in one message

// Add takes the next path. Equal paths of files with one identity are one file.
func (p *PathChecker) Add(path, identity string) {
	if n := len(p.open); p.started && n > 0 && p.open[n-1] == path {
		if identity != p.last && !slices.Contains(p.twice, path) && len(p.twice) < maxProblems {
			p.twice = append(p.twice, path)
		}
		return
	}
	p.started, p.last = true, identity
	for n := len(p.open); n > 0 && !strings.HasPrefix(path, p.open[n-1]); n-- {
		p.open = p.open[:n-1]
	}
	for _, o := range p.open {
		if path[len(o)] == '/' && len(p.overOrder) < maxProblems {
			if p.overlaps == nil {
				p.overlaps = map[string][]string{}
			}
			if p.overlaps[path] == nil {
				p.overOrder = append(p.overOrder, path)
			}
			p.overlaps[path] = append(p.overlaps[path], o)
		}
	}
	p.open = append(p.open, path)
}

// Problems describes what was found; empty if nothing was.
func (p *PathChecker) Problems() string {
	if p.twice == nil && p.overOrder == nil {
		return ""
	}
	var dups string
	if p.twice != nil {
		dups = "Paths are duplicated: " + strings.Join(p.twice, ",")
	}
	lines := make([]string, len(p.overOrder))
	for i, path := range p.overOrder {
		lines[i] = "The path for file '" + path + "' overlaps: " + strings.Join(p.overlaps[path], ", ")
	}
	return "Path errors found. " + dups + "\n" + strings.Join(lines, "\n")
}
