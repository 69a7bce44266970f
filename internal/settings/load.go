// Package settings reads every setting of the server from where Pulp reads it: defaults, the data folder,
// settings files and PULP_ variables. Start with [Settings], the table of all of them, and [Load].
package settings

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"granary/internal/settings/dynaconf"
	"granary/internal/settings/pyliteral"
)

// Options say where settings come from.
type Options struct {
	Environ  []string // NAME=value, as os.Environ returns; nil: none
	Files    []string // settings files of the command line; they replace those of PULP_SETTINGS
	DataDir  string   // the data folder of the command line; it wins over GRANARY_DATA
	Plugins  []string // the plugins that are built in, as pulp_rpm, to check ENABLED_PLUGINS; nil: don't
	Hostname string   // the machine's full name; empty: localhost
}

// Problems are all the reasons why settings cannot be used.
type Problems []Problem

// A Problem is one thing that is wrong.
type Problem struct {
	Setting string // its name; empty where it is a file that cannot be read
	Source  string // the variable's name, or file:line
	Text    string // what was expected and what was found
}

func (p Problem) String() string {
	switch {
	case p.Setting == "":
		return p.Source + ": " + p.Text
	case p.Source == "" || strings.EqualFold(p.Source, p.Setting):
		return p.Setting + ": " + p.Text
	}
	return p.Setting + " (" + p.Source + "): " + p.Text
}

// Error has a line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// store is what Settings keep for [Settings.Get] and the like.
type store struct {
	values   map[string]any
	history  map[string][]given
	secret   map[string]bool
	warnings []string
	levels   map[string]slog.Level
}

// given is what one source says of one setting.
type given struct {
	path   []string
	value  any
	source string
}

type loader struct {
	Options
	store
	env      map[string]string
	fields   []field
	known    map[string]bool
	broken   map[string]bool // settings whose value could not be read, so that checking it makes no sense
	problems Problems
}

// Load reads all settings. From low to high: defaults, the data folder, settings files in their order, each
// followed by the one beside it that has ".local" in its name, DYNACONF_ variables, PULP_ variables. A later source
// replaces a value unless it names a part of it (A__b) or has a marker that merges. The error is [Problems]: everything that is wrong, not just the first.
func Load(o Options) (*Settings, error) {
	l := &loader{Options: o, fields: fields(), known: map[string]bool{}, env: map[string]string{}, store: store{
		values: map[string]any{}, history: map[string][]given{}, secret: map[string]bool{},
	}}
	for _, kv := range o.Environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			l.env[name] = value
		}
	}
	s := &Settings{raw: &l.store}
	l.defaults()
	l.dataFolder()
	for _, f := range l.files() {
		l.file(f, false)
		ext := filepath.Ext(f)
		l.file(strings.TrimSuffix(f, ext)+".local"+ext, true)
	}
	l.variables("DYNACONF_")
	l.variables("PULP_")
	l.resolve()
	l.derive(s)
	l.decode(s)
	l.broken = map[string]bool{}
	for _, p := range l.problems {
		name, _, _ := strings.Cut(p.Setting, ".")
		l.broken[name] = true
	}
	l.check(s)
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	return s, nil
}

func (l *loader) warn(format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf(format, args...))
}

// fail reports a problem with the setting, or part of one, at path; its source is the last that had a say in it.
func (l *loader) fail(path, format string, args ...any) {
	name, _, _ := strings.Cut(path, ".")
	if l.broken[name] {
		return
	}
	source := ""
	for _, g := range slices.Backward(l.history[name]) {
		if concerns(g.path, dynaconf.SplitKey(path)) {
			source = g.source
			break
		}
	}
	l.problems = append(l.problems, Problem{path, source, fmt.Sprintf(format, args...)})
}

// concerns says whether one path leads to the other.
func concerns(a, b []string) bool {
	for i := range min(len(a), len(b)) {
		if !strings.EqualFold(a[i], b[i]) {
			return false
		}
	}
	return true
}

// give takes what a source says of a setting.
func (l *loader) give(path []string, v any, source string) {
	path = slices.Clone(path)
	path[0] = strings.ToUpper(path[0])
	l.history[path[0]] = append(l.history[path[0]], given{path, v, source})
	dynaconf.Set(l.values, path, v)
	if _, ok := l.values[path[0]]; !ok { // deleted: back to the default
		for _, g := range l.history[path[0]] {
			if g.source == defaultSource {
				dynaconf.Set(l.values, path[:1], g.value)
			}
		}
	}
}

const (
	defaultSource = "default"
	dataSource    = "data folder"
	derivedSource = "derived"
)

func (l *loader) defaults() {
	host := strings.ReplaceAll(cmp.Or(l.Hostname, "localhost"), "'", "")
	for _, f := range l.fields {
		l.secret[f.Name] = f.Secret
		if f.Env {
			continue
		}
		l.known[f.Name] = true
		v, err := (&dynaconf.Typer{}).Variable(strings.ReplaceAll(f.Default, "{fqdn}", host))
		if err != nil {
			l.problems = append(l.problems, Problem{f.Name, defaultSource, err.Error()}) // a mistake in the table
		}
		l.give([]string{f.Name}, v, defaultSource)
	}
}

func (l *loader) dataFolder() {
	dir := cmp.Or(l.DataDir, l.env["GRANARY_DATA"])
	if dir == "" {
		return
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		l.problems = append(l.problems, Problem{Source: dir, Text: err.Error()})
		return
	}
	l.DataDir = abs
	l.give([]string{"DEPLOY_ROOT"}, abs, dataSource)
	l.give([]string{"DB_ENCRYPTION_KEY"}, filepath.Join(abs, "certs", "database_fields.symmetric.key"), dataSource)
}

// files returns the settings files to read.
func (l *loader) files() []string {
	if len(l.Files) > 0 {
		return l.Files
	}
	list := l.env["PULP_SETTINGS"]
	sep := ","
	if strings.Contains(list, ";") {
		sep = ";"
	}
	var out []string
	for f := range strings.SplitSeq(list, sep) {
		if f = strings.TrimSpace(f); f != "" {
			out = append(out, f)
		}
	}
	return out
}

const maxFile = 1 << 20

// file reads a settings file; a missing one is a warning, or nothing where it is optional.
func (l *loader) file(path string, optional bool) {
	src, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if !optional {
			l.warn("%s: there is no such settings file", path)
		}
		return
	case err != nil:
		l.problems = append(l.problems, Problem{Source: path, Text: err.Error()})
		return
	}
	var bindings []pyliteral.Binding
	var errs []pyliteral.Error
	switch filepath.Ext(path) {
	case ".py":
		bindings, errs = pyliteral.Parse(src)
	case ".toml":
		bindings, errs = parseTOMLFile(src)
	default:
		errs = []pyliteral.Error{{Text: "settings files end in .py or .toml"}}
	}
	at := func(line int) string {
		if line == 0 {
			return path
		}
		return path + ":" + strconv.Itoa(line)
	}
	for _, e := range errs {
		l.problems = append(l.problems, Problem{Source: at(e.Line), Text: e.Text})
	}
	mergeAll := slices.ContainsFunc(bindings, func(b pyliteral.Binding) bool {
		on, _ := boolOf(b.Value)
		return on && strings.EqualFold(b.Name, dynaconf.MergeKey)
	})
	var list []assignment
	for _, b := range bindings {
		name, _, _ := strings.Cut(b.Name, "__")
		private := filepath.Ext(path) == ".py" && (strings.HasPrefix(b.Name, "_") || name != strings.ToUpper(name))
		if private || strings.EqualFold(b.Name, dynaconf.MergeKey) {
			continue
		}
		list = append(list, assignment{b.Name, at(b.Line), func(t *dynaconf.Typer) (any, error) {
			v, err := t.Nested(b.Value)
			switch v.(type) {
			case []any, map[string]any:
				if mergeAll {
					v = dynaconf.Op{Kind: "merge", Value: v}
				}
			}
			return v, err
		}})
	}
	l.assign(list)
}

// readFile reads a small text file. Errors do not repeat the path.
func readFile(path string) (string, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return "", cause(err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = errors.New("the file is larger than 1 MiB")
	}
	return string(b), cause(err)
}

func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// parseTOMLFile reads a settings file in TOML, in the terms of one in Python.
func parseTOMLFile(src string) ([]pyliteral.Binding, []pyliteral.Error) {
	if dynaconf.TooDeep(src) {
		return nil, []pyliteral.Error{{Line: 1, Text: dynaconf.ErrDepth.Error()}}
	}
	var doc map[string]any
	if _, err := toml.Decode(src, &doc); err != nil {
		if e, ok := errors.AsType[toml.ParseError](err); ok {
			return nil, []pyliteral.Error{{Line: e.Position.Line, Text: e.Message}}
		}
		return nil, []pyliteral.Error{{Text: err.Error()}}
	}
	lines := tomlLines(src)
	var out []pyliteral.Binding
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		out = append(out, pyliteral.Binding{Name: name, Value: doc[name], Line: lines[name]})
	}
	return out, nil
}

var (
	tomlKey   = regexp.MustCompile(`^\s*["']?([\w-]+)["']?\s*[.=]`)
	tomlTable = regexp.MustCompile(`^\s*\[\[?\s*["']?([\w-]+)`)
)

// tomlLines says on which line each key of the top level is first seen; the decoder does not tell.
func tomlLines(src string) map[string]int {
	lines := map[string]int{}
	inTable := false
	n := 0
	for line := range strings.SplitSeq(src, "\n") {
		n++
		g := tomlTable.FindStringSubmatch(line)
		if g != nil {
			inTable = true
		} else if !inTable {
			g = tomlKey.FindStringSubmatch(line)
		}
		if g != nil && lines[g[1]] == 0 {
			lines[g[1]] = n
		}
	}
	return lines
}

// variables reads the variables with the prefix.
func (l *loader) variables(prefix string) {
	var list []assignment
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		rest, ok := strings.CutPrefix(name, prefix)
		_, isOurs := l.secret[name]
		if !ok || isOurs || containerVariables[name] || serviceLink(name, l.env[name]) {
			continue
		}
		text := l.env[name]
		if text == "None" || text == "null" || text == "none" {
			l.warn(`%s: the value is the text %q; write "@none" for no value`, name, text)
		}
		list = append(list, assignment{rest, name, func(t *dynaconf.Typer) (any, error) { return t.Variable(text) }})
	}
	l.assign(list)
}

// serviceLink says whether Kubernetes has set the variable, for a service whose name begins with pulp.
func serviceLink(name, value string) bool {
	return serviceVariable.MatchString(name) || strings.HasSuffix(name, "_PORT") && (strings.HasPrefix(value, "tcp://") || strings.HasPrefix(value, "udp://"))
}

var serviceVariable = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?$`)

// An assignment is a name with its value, both still as the source has them.
type assignment struct {
	name   string // with __ between the parts
	source string
	value  func(*dynaconf.Typer) (any, error)
}

// assign takes what a source says, whole settings before parts of them.
func (l *loader) assign(list []assignment) {
	slices.SortStableFunc(list, func(a, b assignment) int {
		aPart, bPart := strings.Contains(a.name, "__"), strings.Contains(b.name, "__")
		switch {
		case aPart == bPart:
			return strings.Compare(a.name, b.name)
		case bPart:
			return -1
		}
		return 1
	})
	for _, a := range list {
		path := strings.Split(a.name, "__")
		top := strings.ToUpper(path[0])
		if problem := l.badPath(path); problem != "" {
			l.warn("%s: %s", describe(a), problem)
			continue
		}
		if !l.known[top] && !accepted(top) {
			hint := ""
			if near := l.nearest(top); near != "" {
				hint = "; did you mean " + near + "?"
			}
			l.warn("%s: there is no setting %s%s", a.source, top, hint)
		}
		t := &dynaconf.Typer{}
		v, err := a.value(t)
		if err != nil {
			l.problems = append(l.problems, Problem{strings.Join(append([]string{top}, path[1:]...), "."), a.source, err.Error()})
			continue
		}
		for _, n := range t.Notes {
			l.warn("%s: the value %s", describe(a), n)
		}
		l.give(path, v, a.source)
	}
}

func describe(a assignment) string {
	if strings.HasSuffix(a.source, a.name) {
		return a.source
	}
	return a.source + ": " + a.name
}

// badPath says what is wrong with the parts of a name.
func (l *loader) badPath(path []string) string {
	var old any = l.values
	for i, part := range path {
		_, isList := old.([]any)
		switch {
		case part == "":
			return "a part of the name is empty; it is ignored"
		case i > 0 && listIndex.MatchString(part) && (isList || part[0] == '_'):
			return "items of a list cannot be given by number; it is ignored (use @insert, or write the whole list)"
		}
		table, _ := old.(map[string]any)
		old = table[dynaconf.FindKey(table, part)]
	}
	return ""
}

var listIndex = regexp.MustCompile(`^_?\d+$`)

// nearest returns the setting whose name differs by the least from name, if that is little.
func (l *loader) nearest(name string) string {
	best, least := "", len(name)/4+1
	for _, f := range l.fields {
		if d := distance(name, f.Name, least); !f.Env && d < least {
			best, least = f.Name, d
		}
	}
	return best
}

// distance counts the letters to change, insert or drop between a and b; limit and more is limit.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			n := diagonal
			if a[i] != b[j] {
				n = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], n
		}
	}
	return min(row[len(b)], limit)
}

// resolve works out the values that name others.
func (l *loader) resolve() {
	r := &dynaconf.Resolver{Values: l.values, Env: l.env}
	done := make(map[string]any, len(l.values))
	for _, name := range slices.Sorted(maps.Keys(l.values)) {
		v, err := r.Resolve(l.values[name])
		if err != nil {
			l.fail(name, "%s", err)
			continue
		}
		done[name] = v
	}
	l.values = done
}

// derive works out the defaults that depend on other settings.
func (l *loader) derive(s *Settings) {
	s.Data = cmp.Or(l.DataDir, text(l.values["DEPLOY_ROOT"]))
	s.SecretKeyFile = filepath.Join(s.Data, "db", "secret.key")
	l.history["GRANARY_DATA"] = []given{{[]string{"GRANARY_DATA"}, s.Data, cmp.Or(map[bool]string{true: dataSource}[l.DataDir != ""], derivedSource)}}
	l.values["GRANARY_DATA"] = s.Data

	databases, _ := l.values["DATABASES"].(map[string]any)
	if l.untouched("DATABASES") || databases != nil && len(databases) == 0 {
		l.give([]string{"DATABASES"}, map[string]any{"default": map[string]any{"ENGINE": sqliteEngine}}, derivedSource)
		databases, _ = l.values["DATABASES"].(map[string]any)
	}
	main, _ := databases[dynaconf.FindKey(databases, "default")].(map[string]any)
	if name := text(main[dynaconf.FindKey(main, "NAME")]); main[dynaconf.FindKey(main, "ENGINE")] == sqliteEngine && (name == "" || name == "pulp") { // the latter is PostgreSQL's default
		l.give([]string{"DATABASES", "default", "NAME"}, filepath.Join(s.Data, "db", "pulp.sqlite3"), derivedSource)
	}
	if origin := text(l.values["CONTENT_ORIGIN"]); origin != "" && l.untouched("ANSIBLE_CONTENT_HOSTNAME") {
		l.give([]string{"ANSIBLE_CONTENT_HOSTNAME"}, strings.TrimSuffix(origin, "/")+"/pulp/content", derivedSource)
	}
}

// untouched says whether only the default speaks of a setting.
func (l *loader) untouched(name string) bool { return len(l.history[name]) == 1 }

func text(v any) string {
	s, _ := v.(string)
	return s
}

// decode fills the fields of s.
func (l *loader) decode(s *Settings) {
	out := reflect.ValueOf(s).Elem()
	for _, f := range l.fields {
		d := decoder{fail: l.fail, secret: f.Secret}
		v := out.Field(f.index)
		if !f.Env {
			if f.Name == "DATABASES" {
				l.database(&s.Database)
				continue
			}
			if v.Kind() == reflect.Struct { // parts that are absent keep their defaults
				d.decode(v, l.history[f.Name][0].value, f.Name, f.rules)
			}
			if raw, ok := l.values[f.Name]; ok {
				d.decode(v, raw, f.Name, f.rules)
			}
			continue
		}
		if f.Name == "GRANARY_DATA" {
			continue
		}
		text, ok := l.env[f.Name]
		source := f.Name
		switch blank := strings.TrimSpace(text) == ""; {
		case ok && blank && f.Name == "PULP_WORKERS": // As the images of Pulp do: one worker, while it is two without the variable.
			text = "1"
		case blank:
			text, source = f.Default, defaultSource
		}
		l.values[f.Name] = text
		l.history[f.Name] = []given{{[]string{f.Name}, text, source}}
		d.variable(v, text, f.Name, f.rules)
	}
}
