// Package repository holds the domain's rules: artifacts and uploads, content, repositories and their versions,
// remotes, publications, distributions, alternate content sources, and the upkeep of all these.
// Plugins declare their types on top of the structs here; start with [Service] and [Draft].
package repository

import (
	"granary/internal/pulp"
	"granary/internal/rest"
)

// The families whose types plugins add.
var (
	Repositories  = &rest.Family{Name: "repository", Table: "core_repository", Master: true, Struct: Repository{}, Identify: identify("core_repository")}
	Remotes       = &rest.Family{Name: "remote", Table: "core_remote", Master: true, Struct: Remote{}, Identify: identify("core_remote")}
	Contents      = &rest.Family{Name: "content", Table: "core_content", Master: true, Struct: Content{}, Identify: identify("core_content")}
	Publications  = &rest.Family{Name: "publication", Table: "core_publication", Master: true, Struct: Publication{}, Identify: identify("core_publication")}
	Distributions = &rest.Family{Name: "distribution", Table: "core_distribution", Master: true, Struct: Distribution{}, Identify: identify("core_distribution")}
	Sources       = &rest.Family{Name: "acs", Table: "core_acs", Master: true, Struct: Source{}, Identify: identify("core_acs")}
	Guards        = &rest.Family{Name: "content_guard", Table: "core_contentguard", Master: true, Struct: Guard{}, Identify: identify("core_contentguard")}
	Versions      = &rest.Family{
		Name: "repository_version", Table: "core_repositoryversion",
		Identify: "SELECT v.id, r.pulp_type, v.repository, v.number FROM core_repositoryversion v JOIN core_repository r ON r.id = v.repository WHERE v.id",
	}
)

func identify(table string) string {
	return "SELECT id, pulp_type, NULL, 0 FROM " + table + " WHERE id"
}

// A Repository is what all repositories have.
type Repository struct {
	rest.Base
	VersionsHref string      `api:"versions_href,ro,href,computed,format=uri"`
	Labels       rest.Labels `api:"pulp_labels" db:"labels"`
	LatestHref   string      `api:"latest_version_href,ro,href,computed,format=uri"`
	Name         string      `api:"name,req,unique"`
	Description  *string     `api:"description,null"`
	Retain       *int64      `api:"retain_repo_versions,null,min=1"`
	Remote       pulp.ID     `api:"remote,null,ref=remote"`
	PulpType     string      `api:"-" db:"pulp_type"`
	NextVersion  int64       `api:"-" db:"next_version"`
	Hidden       bool        `api:"-" db:"user_hidden"`
}

// A Version is the set of content that a repository had at one time.
type Version struct {
	ID          pulp.ID   `api:"pulp_href,key" db:"id"`
	Created     pulp.Time `api:"pulp_created,ro" db:"created"`
	Updated     pulp.Time `api:"pulp_last_updated,ro" db:"updated"`
	Number      int64     `api:"number,ro"`
	Repository  pulp.ID   `api:"repository,ro,ref=repository"`
	BaseVersion pulp.ID   `api:"base_version,ref=repository_version"`
	Summary     *Summary  `api:"content_summary,ro,computed,schema=ContentSummary"`
	VulnReport  string    `api:"vuln_report,ro,href,computed"`
	Complete    bool      `api:"-" db:"complete"`
}

// A Remote is what all remotes have. [Service.Remote] gives it in the form that the downloader takes.
type Remote struct {
	rest.Base
	Name               string            `api:"name,req,unique"`
	URL                string            `api:"url,req"`
	CACert             *string           `api:"ca_cert,null"`
	ClientCert         *string           `api:"client_cert,null"`
	ClientKey          *string           `api:"client_key,null,secret"`
	TLSValidation      bool              `api:"tls_validation,start=true"`
	ProxyURL           *string           `api:"proxy_url,null"`
	ProxyUsername      *string           `api:"proxy_username,null,secret"`
	ProxyPassword      *string           `api:"proxy_password,null,secret,notrim"`
	Username           *string           `api:"username,null,secret"`
	Password           *string           `api:"password,null,secret,notrim"`
	Labels             rest.Labels       `api:"pulp_labels" db:"labels"`
	Concurrency        *int64            `api:"download_concurrency,null,min=1"`
	MaxRetries         *int64            `api:"max_retries,null"`
	Policy             string            `api:"policy,def=immediate,choices=immediate|on_demand|streamed,enum=Policy692Enum"`
	TotalTimeout       *float64          `api:"total_timeout,null,min=0"`
	ConnectTimeout     *float64          `api:"connect_timeout,null,min=0"`
	SockConnectTimeout *float64          `api:"sock_connect_timeout,null,min=0"`
	SockReadTimeout    *float64          `api:"sock_read_timeout,null,min=0"`
	Headers            []map[string]any  `api:"headers,sealed"`
	RateLimit          *int64            `api:"rate_limit,null"`
	HiddenFields       rest.HiddenFields `api:"hidden_fields,ro" db:"-"`
	PulpType           string            `api:"-" db:"pulp_type"`
}

// Content is what all content units have.
type Content struct {
	rest.Base
	Labels     rest.Labels `api:"pulp_labels" db:"labels"`
	VulnReport string      `api:"vuln_report,ro,href,computed,format=uri"`
	PulpType   string      `api:"-" db:"pulp_type"`
	Touched    pulp.Time   `api:"-" db:"timestamp_of_interest"` // when it was last made or met: orphan cleanup spares the young
}

// A Publication is what all publications have.
type Publication struct {
	rest.Base
	Version     pulp.ID `api:"repository_version,ref=repository_version"`
	Repository  pulp.ID `api:"repository,ref=repository" db:"-"`
	PulpType    string  `api:"-" db:"pulp_type"`
	Complete    bool    `api:"-" db:"complete"`
	PassThrough bool    `api:"-" db:"pass_through"`
}

// A Distribution is what all distributions have.
type Distribution struct {
	rest.Base
	BasePath   string      `api:"base_path,req,unique"`
	BaseURL    string      `api:"base_url,ro,computed"`
	Guard      pulp.ID     `api:"content_guard,null,ref=content_guard"`
	NoChange   *string     `api:"no_content_change_since,ro,computed"`
	Hidden     bool        `api:"hidden,def=false"`
	Labels     rest.Labels `api:"pulp_labels" db:"labels"`
	Name       string      `api:"name,req,unique"`
	Repository pulp.ID     `api:"repository,null,ref=repository"`
	PulpType   string      `api:"-" db:"pulp_type"`
}

// A Source is what all alternate content sources have.
type Source struct {
	rest.Base
	Name          string    `api:"name,req,unique"`
	LastRefreshed pulp.Time `api:"last_refreshed,null"`
	Paths         []string  `api:"paths,computed"`
	Remote        pulp.ID   `api:"remote,req,ref=remote"`
	PulpType      string    `api:"-" db:"pulp_type"`
}

// A Guard is what all content guards have.
type Guard struct {
	rest.Base
	Name        string  `api:"name,req,unique"`
	Description *string `api:"description,null"`
	PulpType    string  `api:"-" db:"pulp_type"`
}
