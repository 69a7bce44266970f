package settings

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"granary/internal/settings/dynaconf"
)

// Options of PostgreSQL that go into the connection URL, because our driver or the server knows them.
var postgresOptions = []string{
	"application_name", "channel_binding", "connect_timeout", "krbspn", "krbsrvname", "max_protocol_version", "min_protocol_version",
	"options", "passfile", "require_auth", "search_path", "service", "servicefile", "sslcert", "sslcertmode", "sslkey", "sslmode",
	"sslnegotiation", "sslpassword", "sslrootcert", "sslsni", "statement_timeout", "lock_timeout", "target_session_attrs",
}

// Keys and options that Python's driver knows, and that have no counterpart here.
var databaseKeys = []string{
	"ATOMIC_REQUESTS", "AUTOCOMMIT", "CONN_HEALTH_CHECKS", "CONN_MAX_AGE", "DISABLE_SERVER_SIDE_CURSORS", "ENGINE", "HOST", "NAME",
	"OPTIONS", "PASSWORD", "PORT", "TEST", "TIME_ZONE", "USER",
}

const sqliteEngine = "django.db.backends.sqlite3"

// database sets what DATABASES.default says.
func (l *loader) database(out *Database) {
	const path = "DATABASES.default"
	d := decoder{fail: l.fail}
	all, ok := l.values["DATABASES"].(map[string]any)
	if !ok {
		d.expected("DATABASES", "a table", l.values["DATABASES"])
		return
	}
	table, ok := all[dynaconf.FindKey(all, "default")].(map[string]any)
	if !ok {
		l.fail("DATABASES", `expected a table with the key "default"`)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(table)) {
		if !slices.Contains(databaseKeys, strings.ToUpper(k)) {
			l.warn("%s.%s has no effect", path, k)
		}
	}
	text := func(key string) string {
		switch v := table[dynaconf.FindKey(table, key)].(type) {
		case nil:
			return ""
		case string:
			return v
		default:
			d.expected(path+"."+key, "a text"+quoteAdvice(v), v)
			return ""
		}
	}
	options, ok := table[dynaconf.FindKey(table, "OPTIONS")].(map[string]any)
	if v := table[dynaconf.FindKey(table, "OPTIONS")]; !ok && v != nil && v != "" {
		d.expected(path+".OPTIONS", "a table", v)
	}
	switch engine := text("ENGINE"); engine {
	case "django.db.backends.postgresql", "django.db.backends.postgresql_psycopg2", "":
		*out = Database{Engine: Postgres, Conns: l.poolSize(options)}
		u := l.postgresURL(text, table[dynaconf.FindKey(table, "PORT")], options)
		out.DSN = Secret(u.String())
	case sqliteEngine:
		*out = Database{Engine: SQLite, File: text("NAME")}
		if strings.HasPrefix(out.File, ":") || strings.HasPrefix(out.File, "file:") {
			l.fail(path+".NAME", "expected the path of a file, found %q", out.File)
		}
	default:
		l.fail(path+".ENGINE", `expected "django.db.backends.postgresql" or "django.db.backends.sqlite3", found %q`, engine)
	}
}

// postgresURL puts all but the user and the password into the query, where several hosts and the folder of a socket have a place too.
func (l *loader) postgresURL(text func(string) string, port any, options map[string]any) *url.URL {
	const path = "DATABASES.default"
	name := text("NAME")
	if name == "" {
		name = "pulp"
	}
	u := &url.URL{Scheme: "postgres", Path: "/" + name}
	switch user, password := text("USER"), text("PASSWORD"); {
	case password != "" && user == "":
		l.fail(path+".USER", "expected a name, as there is a PASSWORD")
	case password != "":
		u.User = url.UserPassword(user, password)
	case user != "":
		u.User = url.User(user)
	}
	q := url.Values{}
	if host := text("HOST"); host != "" {
		q.Set("host", host)
	}
	switch p := port.(type) {
	case nil:
	case string:
		if p == "" {
			break
		}
		for one := range strings.SplitSeq(p, ",") {
			n, err := strconv.ParseUint(strings.TrimSpace(one), 10, 16)
			if err != nil || n == 0 {
				l.fail(path+".PORT", "expected a port, found %q", p)
			}
		}
		q.Set("port", strings.ReplaceAll(p, " ", ""))
	case int64:
		if p < 1 || p > 65535 {
			l.fail(path+".PORT", "expected a port, found %d", p)
		}
		q.Set("port", strconv.FormatInt(p, 10))
	default:
		decoder{fail: l.fail}.expected(path+".PORT", "a port", p)
	}
	for _, k := range slices.Sorted(maps.Keys(options)) {
		v := options[k]
		switch {
		case k == "pool":
		case slices.Contains(postgresOptions, k):
			if s, err := dynaconf.Text(v); err != nil {
				decoder{fail: l.fail}.expected(path+".OPTIONS."+k, "a single value", v)
			} else if v != nil {
				q.Set(k, s)
			}
		default:
			l.warn("%s.OPTIONS.%s has no effect", path, k)
		}
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // the driver takes a + for itself
	return u
}

// poolSize returns the size of the pool that OPTIONS.pool asks for, 0 where it asks for none.
func (l *loader) poolSize(options map[string]any) int {
	pool, _ := options["pool"].(map[string]any)
	size, ok := pool["max_size"]
	if !ok {
		return 0
	}
	n, ok := intOf(size)
	if !ok || n < 1 || n > 10000 {
		decoder{fail: l.fail}.expected("DATABASES.default.OPTIONS.pool.max_size", "a whole number from 1 to 10000", size)
		return 0
	}
	return int(n)
}
