package repository

import (
	"cmp"
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
	const files = "SELECT ca.relative_path, ca.artifact FROM core_repositorycontent rc JOIN core_contentartifact ca ON ca.content = rc.content WHERE rc.repository = ? AND "
	fresh, err := db.All(ctx, d.svc.DB, scanPlaced, files+"rc.added = ? AND rc.removed >= "+current+" LIMIT ?", d.Repository, d.Number, fewPaths+1) // ">=" so that the index of what is current is left alone
	if err != nil {
		return "", err
	}
	var p PathChecker
	if len(fresh) > fewPaths {
		err := db.Each(ctx, d.svc.DB, func(rows *sql.Rows) error {
			f, err := scanPlaced(rows)
			p.Add(f.path, f.identity)
			return err
		}, files+"rc.removed = "+current+" ORDER BY ca.relative_path", d.Repository)
		return p.Problems(), err
	}
	paths := make([]string, len(fresh))
	for i, f := range fresh {
		paths[i] = f.path
	}
	around, err := d.svc.around(ctx, versionRef{repo: d.Repository, number: d.Number}, paths)
	if err != nil {
		return "", err
	}
	p.addAll(around)
	return p.Problems(), nil
}

// A placed is a file at its path.
type placed struct {
	path     string
	identity string // equal files have the same
}

func scanPlaced(rows *sql.Rows) (placed, error) {
	var p placed
	var artifact pulp.ID
	err := rows.Scan(&p.path, &artifact)
	p.identity = artifact.String()
	return p, err
}

// around returns the files of a version, or of a draft, that lie at some paths, in folders that have such a name, or at the names of
// folders that they lie in.
func (s *Service) around(ctx context.Context, v versionRef, paths []string) (list []placed, err error) {
	for _, path := range paths {
		marks, args := db.In(append(folders(path), path))
		// in this order: a path is rarer than a place in the version
		near, err := db.All(ctx, s.DB, scanPlaced, "SELECT ca.relative_path, ca.artifact FROM core_contentartifact ca CROSS JOIN core_repositorycontent rc"+
			" WHERE rc.repository = ? AND rc.content = ca.content AND rc.added <= ? AND rc.removed > ?"+
			" AND (ca.relative_path IN "+marks+" OR ca.relative_path >= ? AND ca.relative_path < ?)",
			slices.Concat([]any{v.repo, v.number, v.number}, args, []any{path + "/", path + "0"})...) // "0" follows "/"
		if err != nil {
			return nil, err
		}
		list = append(list, near...)
	}
	return list, nil
}

// folders are the names of the folders that a path leads through.
func folders(path string) []string {
	var list []string
	for i, c := range path {
		if c == '/' {
			list = append(list, path[:i])
		}
	}
	return list
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

// addAll takes paths in any order, before which there were none.
func (p *PathChecker) addAll(list []placed) {
	slices.SortFunc(list, func(a, b placed) int {
		return cmp.Or(strings.Compare(a.path, b.path), strings.Compare(a.identity, b.identity))
	})
	for _, f := range list {
		p.Add(f.path, f.identity)
	}
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
