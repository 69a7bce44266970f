package server

import (
	"fmt"

	"github.com/spf13/cobra"
)

// frameworkFlags are taken by every command of Pulp's, and mean nothing here.
func frameworkFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.IntP("verbosity", "v", 1, "as always")
	f.String("settings", "", "as always")
	f.String("pythonpath", "", "as always")
	for _, name := range []string{"traceback", "no-color", "force-color", "skip-checks"} {
		f.Bool(name, false, "as always")
	}
	for _, name := range []string{"verbosity", "settings", "pythonpath", "traceback", "no-color", "force-color", "skip-checks"} {
		_ = f.MarkHidden(name) // it is there
	}
}

// none are the commands of Pulp's that have no meaning without Python, and what to use instead.
var none = map[string]string{
	"compilemessages":           "there is nothing to translate",
	"createcachetable":          "the cache is in the process",
	"datarepair-2327":           "secrets are encrypted once here; rotate-db-key reads each of them",
	"dbshell":                   "use sqlite3 or psql",
	"diffsettings":              "use \"granary config list\"",
	"dumpdata":                  "copy the database as its engine does it",
	"findstatic":                "the server has no files beside itself",
	"flush":                     "stop the server, and remove the data folder or the database",
	"generateschema":            "use openapi",
	"inspectdb":                 "there are no models to make",
	"loaddata":                  "copy the database as its engine does it",
	"makemessages":              "there is nothing to translate",
	"makemigrations":            "migrations are written as SQL",
	"migrationstat":             "migrations are written as SQL",
	"optimizemigration":         "migrations are written as SQL",
	"rebasemigrations":          "migrations are written as SQL",
	"remove_stale_contenttypes": "there are no content types",
	"runserver":                 "use \"granary server\"",
	"sendtestemail":             "the server sends no mail",
	"shell":                     "there is no Python; use the API",
	"spectacular":               "use openapi",
	"sqlflush":                  "stop the server, and remove the data folder or the database",
	"sqlmigrate":                "migrations are written as SQL",
	"sqlsequencereset":          "there is nothing to reset",
	"squashmigrations":          "migrations are written as SQL",
	"startapp":                  "see docs/adding-a-plugin.md",
	"startproject":              "see docs/adding-a-plugin.md",
	"test":                      "use \"go test\"",
	"testserver":                "use \"granary server\" with an empty data folder",
}

func noCommands(root *cobra.Command) {
	for name, instead := range none {
		root.AddCommand(&cobra.Command{Use: name, Hidden: true, DisableFlagParsing: true, RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("%s has no meaning here: %s", name, instead)
		}})
	}
}
