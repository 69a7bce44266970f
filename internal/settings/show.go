package settings

import (
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"

	"granary/internal/settings/dynaconf"
)

// Warnings returns what is odd but does not keep the server from starting, for the caller to print.
func (s *Settings) Warnings() []string { return slices.Clone(s.raw.warnings) }

// LogLevels returns the level of each logger of LOGGING; "" is the root logger. CRITICAL is above slog.LevelError.
func (s *Settings) LogLevels() map[string]slog.Level { return maps.Clone(s.raw.levels) }

// PluginEnabled says whether a plugin, as pulp_rpm, is to be used.
func (s *Settings) PluginEnabled(name string) bool {
	return s.EnabledPlugins == nil || slices.Contains(s.EnabledPlugins, name)
}

// RedisConfigured says whether a Redis is named: by URL, or by host and port.
func (s *Settings) RedisConfigured() bool {
	return s.RedisURL != "" || s.RedisHost != "" && s.RedisPort != 0
}

// String keeps secrets out of logs.
func (s *Settings) String() string { return "settings of " + s.Data }

// LogValue keeps secrets out of logs.
func (s *Settings) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Get returns the raw value of a setting, also of a part, as DATABASES.default.HOST or DATABASES__default__HOST;
// case does not matter. It must not be changed. Secrets are not masked.
func (s *Settings) Get(key string) (value any, ok bool) {
	value = s.raw.values
	for _, part := range dynaconf.SplitKey(key) {
		table, isTable := value.(map[string]any)
		if !isTable {
			return nil, false
		}
		if value, ok = table[dynaconf.FindKey(table, part)]; !ok {
			return nil, false
		}
	}
	return value, true
}

// Show returns the value that [Settings.Get] finds as people read it. Secrets are masked unless showSecrets.
func (s *Settings) Show(key string, showSecrets bool) (text string, ok bool) {
	v, ok := s.Get(key)
	if ok && !showSecrets {
		path := dynaconf.SplitKey(key)
		path[0] = strings.ToUpper(path[0])
		v = s.raw.mask(path, v)
	}
	if !ok {
		return "", false
	}
	return Format(v), true
}

// An Entry is what is known of one setting, or what one source says of it.
type Entry struct {
	Name   string // with a dot before each part, as DATABASES.default.HOST
	Value  any    // masked where it is secret; see [Format]
	Source string // what gave the value: "default", "data folder", "derived", a variable's name, file:line
	How    string // "set", or what the source does to the earlier value: merge, merge_unique, insert, delete
}

// List returns all settings, sorted by name. Secrets are masked unless showSecrets.
func (s *Settings) List(showSecrets bool) []Entry {
	var out []Entry
	for _, name := range slices.Sorted(maps.Keys(s.raw.values)) {
		e := Entry{Name: name, Value: s.raw.values[name], How: "set"}
		if h := s.raw.history[name]; len(h) > 0 {
			e.Source = h[len(h)-1].source
		}
		if !showSecrets {
			e.Value = s.raw.mask([]string{name}, e.Value)
		}
		out = append(out, e)
	}
	return out
}

// Inspect returns what each source says of a setting or a part of one, the one that wins last; nil for a key that none speaks of.
func (s *Settings) Inspect(key string, showSecrets bool) []Entry {
	path := dynaconf.SplitKey(key)
	var out []Entry
	for _, g := range s.raw.history[strings.ToUpper(path[0])] {
		if !concerns(g.path, path) {
			continue
		}
		e := Entry{Name: strings.Join(g.path, "."), Value: g.value, Source: g.source, How: "set"}
		if o, ok := g.value.(dynaconf.Op); ok {
			e.How, e.Value = o.Kind, o.Value
		}
		at := slices.Clone(g.path)
		missing := false
		for i := len(g.path); i < len(path) && !missing; i++ { // the source gives a whole of which path is a part
			table, _ := e.Value.(map[string]any)
			k := dynaconf.FindKey(table, path[i])
			v, ok := table[k]
			e.Value, missing = v, !ok
			at = append(at, k)
			e.Name = strings.Join(at, ".")
		}
		if missing {
			continue
		}
		if !showSecrets {
			e.Value = s.raw.mask(at, e.Value)
		}
		out = append(out, e)
	}
	return out
}

// mask returns the value with secrets replaced.
func (s *store) mask(path []string, v any) any {
	known, isKnown := s.secret[path[0]]
	for i, part := range path {
		if i == 0 && isKnown {
			if known && v != nil && v != "" {
				return Mask
			}
			continue
		}
		if isSecretKey(part) && v != nil && v != "" {
			return Mask
		}
	}
	return maskValue(v)
}

var (
	secretKey = regexp.MustCompile(`(?i)pass(word|wd|phrase|code)|^pass$|secret|token|credential|private|connection_string|api_?key|_key$|^key$|^dsn$|_dsn$`)
	urlSecret = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s/?#:@]*):\S*@`)
)

// isSecretKey says whether what has this name, alone or as the last part of a path, should not be shown.
func isSecretKey(name string) bool {
	return secretKey.MatchString(name[strings.LastIndexByte(name, '.')+1:])
}

// maskURL hides the password of URLs in a text.
func maskURL(s string) string { return urlSecret.ReplaceAllString(s, "$1:"+Mask+"@") }

func maskValue(v any) any {
	switch v := v.(type) {
	case string:
		return maskURL(v)
	case *dynaconf.Lazy:
		return maskURL(v.String())
	case dynaconf.Op:
		return maskValue(v.Value)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			if isSecretKey(k) && x != nil && x != "" {
				x = Mask
			}
			out[k] = maskValue(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = maskValue(x)
		}
		return out
	}
	return v
}

// String prints the table as JSON, with secrets masked.
func (d Dict) String() string { return Format(maskValue(map[string]any(d))) }

// GoString is String, for %#v.
func (d Dict) GoString() string { return d.String() }

// LogValue is String, for logs.
func (d Dict) LogValue() slog.Value { return slog.StringValue(d.String()) }

// Format writes a raw value as the reference's tool does: texts as they are, True, False and None, lists and tables as JSON.
func Format(v any) string {
	if d, ok := v.(Dict); ok {
		v = map[string]any(d)
	}
	return dynaconf.Format(v)
}
