// Package schema holds the tables of the core.
package schema

import (
	"embed"

	"granary/internal/db"
)

//go:embed sqlite postgres
var files embed.FS

// Core returns the core's migrations; plugins' come after them.
func Core() db.Schema { return db.Schema{Component: "core", Files: files} }
