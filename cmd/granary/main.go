// Command granary is a package repository server: REST API, content server and workers in one binary. What it does
// is its first argument, or the name it was called by (pulpcore-manager, pulpcore-api, pulpcore-content, pulpcore-worker).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// version is set when a release is built.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "granary:", err)
		os.Exit(1)
	}
}

// roleOf maps the names that Pulp's processes have to subcommands.
var roleOf = map[string]string{"pulpcore-manager": "manager", "pulpcore-api": "api", "pulpcore-content": "content", "pulpcore-worker": "worker"}

func run(ctx context.Context, argv []string) error {
	args := argv[1:]
	if role, ok := roleOf[filepath.Base(argv[0])]; ok {
		args = append([]string{role}, args...)
	}
	cmd := commands()
	cmd.SetArgs(args)
	return cmd.ExecuteContext(ctx)
}
