package repository

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

const (
	taskScan    = "pulpcore.app.tasks.vulnerability_report.check_content"
	reportLabel = "core.vulnerabilityreport"
)

// A Package is how databases of vulnerabilities know a unit.
type Package struct {
	Content                  pulp.ID
	Ecosystem, Name, Version string // as https://osv.dev spells them
}

// A VulnerabilityReport is what is known to be unsafe about a unit: one for each unit of which anything is.
type VulnerabilityReport struct {
	rest.Base
	Vulns    json.RawMessage `api:"vulns,req,out"`
	Versions []pulp.Ref      `api:"repo_versions,out" db:"-"`
	Content  pulp.ID         `api:"content,ro,ref=content"`
}

func (s *Service) defineReports() rest.Typed[VulnerabilityReport] {
	return rest.Define(rest.Resource[VulnerabilityReport]{
		App: "core", Model: "VulnerabilityReport", Path: "vuln_report", Table: "core_vulnerabilityreport", Delete: rest.Now,
		Filters: []rest.Filter{
			rest.LinkWhere("repo_versions", Versions.Name, "m.id IN (SELECT rv.report FROM core_vulnerabilityreport_versions rv WHERE rv.version = ?)"),
		},
		Ordering: []string{"pk", "pulp_created", "pulp_id", "pulp_last_updated", "vulns"},
		Expand: func(ctx context.Context, q db.Querier, list []*VulnerabilityReport) error {
			byID := make(map[pulp.ID]*VulnerabilityReport, len(list))
			ids := make([]pulp.ID, len(list))
			for i, r := range list {
				ids[i], byID[r.ID] = r.ID, r
			}
			marks, args := db.In(ids)
			return db.Each(ctx, q, func(rows *sql.Rows) error {
				var report, version pulp.ID
				err := rows.Scan(&report, &version)
				byID[report].Versions = append(byID[report].Versions, pulp.RefTo(versionLabel, version))
				return err
			}, "SELECT report, version FROM core_vulnerabilityreport_versions WHERE report IN "+marks+" ORDER BY version", args...)
		},
	})
}

// common gives what all content has, of a type's own struct.
func (c *Content) common() *Content { return c }

// expandReports fills in the reports of units.
func (s *Service) expandReports(ctx context.Context, q db.Querier, list []*Content) error {
	byID := make(map[pulp.ID]*Content, len(list))
	ids := make([]pulp.ID, len(list))
	for i, c := range list {
		ids[i], byID[c.ID] = c.ID, c
	}
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var content, report pulp.ID
		err := rows.Scan(&content, &report)
		byID[content].VulnReport = "vuln_report/" + report.String() + "/"
		return err
	}, "SELECT content, id FROM core_vulnerabilityreport WHERE content IN "+marks, args...)
}

type scanArgs struct {
	Version pulp.ID `json:"version"`
}

// scanRequest dispatches the look-up of what is known of a version's units.
func (s *Service) scanRequest(ctx context.Context, _ *rest.Request, v *Version) (*rest.Response, error) {
	ref, err := s.RepositoryRef(ctx, s.DB, v.Repository)
	if err != nil {
		return nil, err
	}
	return s.API.Dispatch(ctx, task.Spec{Name: taskScan, Args: scanArgs{v.ID}, Shared: []string{ref.PRN()}})
}

// A scan is a version's being looked up.
type scan struct {
	*Service
	version                   *Version
	created, updated, scanned *task.Progress
}

// runScan asks what is known to be unsafe about a version's units, and keeps that: one report for each unit, which is brought up to
// date where there is one. Of units about which nothing is known, there is none.
func (s *Service) runScan(ctx context.Context, j *task.Job) (_ any, err error) {
	var in scanArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	x := scan{
		Service: s, created: j.Progress("created", "Vulnerability Reports created"), updated: j.Progress("updated", "Vulnerability Reports updated"),
		scanned: j.Progress("total_scanned", "Content scanned"),
	}
	defer x.created.End(&err)
	defer x.updated.End(&err)
	defer x.scanned.End(&err)
	if x.version, err = s.Version(ctx, s.DB, in.Version); err != nil {
		return nil, err
	}
	for _, ct := range s.contents {
		if ct.Packages == nil {
			continue
		}
		var last pulp.ID
		for {
			ids, err := db.Column[pulp.ID](ctx, s.DB, "SELECT rc.content FROM core_repositorycontent rc JOIN core_content m ON m.id = rc.content"+
				" WHERE rc.repository = ? AND rc.added <= ? AND rc.removed > ? AND m.pulp_type = ? AND rc.content > ? ORDER BY rc.content LIMIT ?",
				x.version.Repository, x.version.Number, x.version.Number, ct.Type.PulpType, last[:], orphanBatch)
			if err != nil {
				return nil, err
			}
			if len(ids) == 0 {
				break
			}
			last = ids[len(ids)-1]
			list, err := ct.Packages(ctx, s.DB, ids)
			if err != nil {
				return nil, err
			}
			if err := x.check(ctx, list); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// check asks about some units and keeps the answers.
func (x *scan) check(ctx context.Context, list []Package) error {
	var mu sync.Mutex
	known := map[pulp.ID]json.RawMessage{}
	g, asking := errgroup.WithContext(ctx)
	g.SetLimit(max(1, x.ScanLimit))
	for _, p := range list {
		g.Go(func() error {
			vulns, err := x.vulnerabilities(asking, p)
			if err != nil {
				return fmt.Errorf("ask about %s %s: %w", p.Name, p.Version, err)
			}
			mu.Lock()
			defer mu.Unlock()
			known[p.Content] = vulns
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var created, updated int64
	err := x.DB.Update(ctx, func(tx *db.Tx) error {
		created, updated = 0, 0 // a transaction may be run again
		for _, p := range list {
			fresh, old, err := x.report(ctx, tx, p.Content, known[p.Content])
			if err != nil {
				return err
			}
			created, updated = created+fresh, updated+old
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.created.Add(created)
	x.updated.Add(updated)
	x.scanned.Add(int64(len(list)))
	return nil
}

// report keeps what is known of a unit, and says how many reports were made and changed by that.
func (x *scan) report(ctx context.Context, tx *db.Tx, content pulp.ID, vulns json.RawMessage) (created, updated int64, err error) {
	now := x.Now.Now()
	id, err := db.Value[pulp.ID](ctx, tx, "UPDATE core_vulnerabilityreport SET vulns = ?, updated = ? WHERE content = ? RETURNING id", string(vulns), now, content)
	switch {
	case err == nil:
		updated = 1
	case !errs.Is(err, errs.NotFound):
		return 0, 0, err
	case len(vulns) <= len("[]"):
		return 0, 0, nil
	default:
		r := &VulnerabilityReport{Vulns: vulns, Content: content}
		if err := x.reports.Insert(ctx, tx, r); err != nil {
			return 0, 0, err
		}
		id, created = r.ID, 1
	}
	_, err = tx.Insert(ctx, "core_vulnerabilityreport_versions", []string{"report", "version"}, [][]any{{id, x.version.ID}}, "ON CONFLICT DO NOTHING")
	return created, updated, err
}

// Bounds of what the database of vulnerabilities may answer.
const (
	maxAnswer = 32 << 20 // bytes of one page
	maxPages  = 100      // about one unit
	maxAsked  = 3        // how often a page is asked for
)

// vulnerabilities asks the database of vulnerabilities about a package, and returns its list.
func (s *Service) vulnerabilities(ctx context.Context, p Package) (json.RawMessage, error) {
	type name struct {
		Name      string `json:"name"`
		Ecosystem string `json:"ecosystem"`
	}
	query := struct {
		Package name   `json:"package"`
		Version string `json:"version"`
		Page    string `json:"page_token,omitempty"`
	}{Package: name{p.Name, p.Ecosystem}, Version: p.Version}
	var all []json.RawMessage
	for range maxPages {
		var answer struct {
			Vulns []json.RawMessage `json:"vulns"`
			Next  string            `json:"next_page_token"`
		}
		if err := s.askOSV(ctx, query, &answer); err != nil {
			return nil, err
		}
		all = append(all, answer.Vulns...)
		if query.Page = answer.Next; answer.Next == "" {
			return json.Marshal(append([]json.RawMessage{}, all...))
		}
	}
	return nil, fmt.Errorf("more than %d pages", maxPages)
}

// askOSV sends a query, again where the other side is busy.
func (s *Service) askOSV(ctx context.Context, query, answer any) error {
	body, err := json.Marshal(query)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		again, err := s.askOnce(ctx, body, answer)
		if err == nil || !again || try == maxAsked {
			return err
		}
		wait := time.NewTimer(time.Duration(try) * s.ScanPause)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		}
	}
}

func (s *Service) askOnce(ctx context.Context, body []byte, answer any) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.OSV, "/")+"/v1/query", bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.HTTP.Do(req)
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError, fmt.Errorf("%s answers %s", req.URL.Host, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return true, err
	case len(b) > maxAnswer:
		return false, fmt.Errorf("%s answers more than %d bytes", req.URL.Host, maxAnswer)
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return false, fmt.Errorf("%s does not answer as expected: %w", req.URL.Host, err)
	}
	return false, nil
}

// scannable says whether there is any type of content that databases of vulnerabilities know.
func (s *Service) scannable() bool {
	for _, ct := range s.contents {
		if ct.Packages != nil {
			return true
		}
	}
	return false
}
