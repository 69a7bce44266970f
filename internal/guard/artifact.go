package guard

import (
	"context"
	"strings"

	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
)

// ArtifactType is the pulp_type of the distribution that serves artifacts by their ids.
const ArtifactType = "core.artifact"

// An ArtifactDistribution serves the artifacts of a domain by their ids, to those who have a signed link. There is at most one in a
// domain, with a random name; the server makes it.
type ArtifactDistribution struct {
	rest.Base
	BasePath string             `api:"base_path,req" db:"m.base_path"`
	BaseURL  string             `api:"base_url,ro,computed"`
	Guard    pulp.ID            `api:"content_guard,null,ref=content_guard" db:"m.content_guard"`
	NoChange *string            `api:"no_content_change_since,ro,computed"`
	Hidden   bool               `api:"hidden,def=false" db:"m.hidden"`
	Labels   map[string]*string `api:"pulp_labels" db:"m.labels"`
	Name     string             `api:"name,req" db:"m.name"`
	PulpType string             `api:"-" db:"m.pulp_type"`
}

func (s *Service) defineArtifacts() rest.Typed[ArtifactDistribution] {
	return rest.Define(rest.Resource[ArtifactDistribution]{
		App: "core", Model: "ArtifactDistribution", Path: "distributions/core/artifacts", PulpType: ArtifactType,
		Family: repository.Distributions, Filters: s.Repos.DistributionFilters(), Ordering: repository.DistributionOrdering,
		Expand: func(ctx context.Context, _ db.Querier, list []*ArtifactDistribution) error {
			for _, d := range list {
				d.BaseURL = s.baseURL(pulp.CallOf(ctx).Domain, d.BasePath)
			}
			return nil
		},
	})
}

func (s *Service) baseURL(d pulp.Domain, basePath string) string {
	domain := ""
	if s.API.Domains() {
		domain = d.Name + "/"
	}
	return s.ContentOrigin + s.ContentPrefix + domain + basePath + "/"
}

// Prepare makes the artifact distribution of the default domain where it is not there.
func (s *Service) Prepare(ctx context.Context) error {
	d := pulp.Domain{Name: pulp.DefaultDomain}
	err := s.DB.QueryRow(ctx, "SELECT id FROM core_domain WHERE name = ?", d.Name).Scan(&d.ID)
	if err != nil {
		return err
	}
	_, err = s.artifactDistribution(ctx, d)
	return err
}

// artifactDistribution returns the domain's, and makes it where it is not there.
func (s *Service) artifactDistribution(ctx context.Context, d pulp.Domain) (*ArtifactDistribution, error) {
	find := func(q db.Querier) (*ArtifactDistribution, error) {
		list, err := s.artifacts.Select(ctx, q, "m.domain = ? AND m.pulp_type = '"+ArtifactType+"' AND m.content_guard IS NOT NULL ORDER BY m.created, m.id LIMIT 1", d.ID)
		if err != nil || len(list) == 0 {
			return nil, err
		}
		return list[0], nil
	}
	if found, err := find(s.DB); found != nil || err != nil {
		return found, err
	}
	var made *ArtifactDistribution
	ctx = pulp.WithCall(ctx, &pulp.Call{Domain: d, Root: s.API.APIRoot()})
	err := s.DB.Update(ctx, func(tx *db.Tx) error {
		if err := tx.Lock(ctx, "artifact distribution "+d.ID.String()); err != nil {
			return err
		}
		var err error
		if made, err = find(tx); made != nil || err != nil {
			return err
		}
		// One without a guard, which somebody has deleted, would be open to everybody.
		if _, err := tx.Exec(ctx, "DELETE FROM core_distribution WHERE domain = ? AND pulp_type = '"+ArtifactType+"'", d.ID); err != nil {
			return err
		}
		name := s.fresh()
		guard := &Redirect{Guard: repository.Guard{Name: name}, Secret: s.fresh()}
		if err := s.redirects.Insert(ctx, tx, guard); err != nil {
			return err
		}
		made = &ArtifactDistribution{BasePath: name, Name: name, Guard: guard.ID, Labels: map[string]*string{}}
		if err := s.artifacts.Insert(ctx, tx, made); err != nil {
			return err
		}
		return notice.Changed(ctx, tx, notice.Distribution, made.ID)
	})
	return made, err
}

// ArtifactURL returns a link to a stored artifact that whoever has it may follow for an hour. The error is of kind NotFound where there
// is no such artifact. Without a content origin the link is a path.
func (s *Service) ArtifactURL(ctx context.Context, artifact pulp.ID) (string, error) {
	var d pulp.Domain
	err := s.DB.QueryRow(ctx, "SELECT d.id, d.name FROM core_artifact a JOIN core_domain d ON d.id = a.domain WHERE a.id = ?", artifact).Scan(&d.ID, &d.Name)
	if errs.Is(err, errs.NotFound) {
		return "", errs.NotFoundModel("Artifact")
	}
	if err != nil {
		return "", err
	}
	at, err := s.artifactDistribution(ctx, d)
	if err != nil {
		return "", err
	}
	return s.Sign(ctx, s.DB, at.Guard, s.baseURL(d, at.BasePath)+artifact.String())
}

// Artifact returns the artifact that a path below the artifact distribution is of; the zero ID for other paths. It is refused where
// nothing guards the distribution.
func Artifact(path string, guard pulp.ID) pulp.ID {
	id, err := pulp.ParseID(path)
	if err != nil || guard.IsZero() || strings.ToLower(path) != id.String() {
		return pulp.ID{}
	}
	return id
}
