// Package settings reads every setting of the server from where Pulp reads it: defaults, the data folder,
// settings files and PULP_ variables. Start with [Settings], the table of all of them, and [Load].
package settings

import "log/slog"

// Options say where settings come from.
type Options struct {
	Environ  []string // NAME=value, as os.Environ returns; nil: none
	Files    []string // settings files of the command line; they replace those of PULP_SETTINGS
	DataDir  string   // the data folder of the command line; it wins over GRANARY_DATA
	Plugins  []string // the plugins that are built in, as pulp_rpm, to check ENABLED_PLUGINS; nil: don't
	Hostname string   // the machine's full name; empty: localhost
}

// Load reads all settings. Its error is [Problems]: everything that is wrong, not just the first.
func Load(o Options) (*Settings, error) { return nil, Problems{{Text: "not written yet"}} }

// Problems are all the reasons why settings cannot be used.
type Problems []Problem

// A Problem is one thing that is wrong.
type Problem struct {
	Setting string // its name; empty where it is a file that cannot be read
	Source  string // the variable's name, or file:line
	Text    string // what was expected and what was found
}

// Error has a line for each problem.
func (p Problems) Error() string { return p[0].Text }

// Warnings returns what is odd but does not keep the server from starting, for the caller to print.
func (s *Settings) Warnings() []string { return nil }

// Get returns the raw value of a setting, also of a part, as DATABASES.default.HOST; case does not matter.
func (s *Settings) Get(key string) (value any, ok bool) { return nil, false }

// An Entry is one setting as people see it.
type Entry struct {
	Name   string
	Value  any    // masked where it is secret
	Source string // what gave the value: "default", "data folder", a variable's name, file:line
}

// List returns all settings that have a value, by name. Secrets are masked unless showSecrets.
func (s *Settings) List(showSecrets bool) []Entry { return nil }

// Inspect returns what each source says of a setting, the one that wins last; nil for an unknown key.
func (s *Settings) Inspect(key string, showSecrets bool) []Entry { return nil }

// LogLevels returns the level of each logger of LOGGING; "" is the root logger.
func (s *Settings) LogLevels() map[string]slog.Level { return nil }

// PluginEnabled says whether a plugin, as pulp_rpm, is to be used.
func (s *Settings) PluginEnabled(name string) bool { return false }

// RedisConfigured says whether a Redis is named: by URL, or by host and port.
func (s *Settings) RedisConfigured() bool { return false }

// A Def is one line of the table of settings.
type Def struct {
	Name    string
	Type    string // boolean, integer, ...
	Default string // as the text of a variable
	Doc     string
	Secret  bool
	Env     bool // not a setting but a variable of this name: files cannot give it
}

// Table returns all settings in the order of [Settings].
func Table() []Def { return nil }

// Format writes a value: text as it is, the rest as JSON.
func Format(v any) string { return "" }

type store struct{}
