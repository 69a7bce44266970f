package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"granary/internal/db"
)

func databaseCommands(add adder) {
	c := add("clean-up-progress-reports", "End the progress reports that failed and canceled tasks have left running", cobra.NoArgs, cleanProgress)
	c.Flags().Bool("dry-run", false, "only count them")
	c = add("showmigrations [COMPONENT]...", "List the migrations of the tables, and which of them have run", cobra.ArbitraryArgs, showMigrations)
	c.Flags().BoolP("list", "l", true, "as always")
	c.Flags().BoolP("plan", "p", false, "as always: the list is in the order in which they run")
}

func cleanProgress(ctx context.Context, s *Server, cmd *cobra.Command, _ []string) error {
	dry, err := cmd.Flags().GetBool("dry-run")
	if err != nil {
		return err
	}
	for _, state := range []string{"canceled", "failed"} {
		const which = " FROM core_progressreport WHERE state = 'running' AND task IN (SELECT id FROM core_task WHERE state = ?)"
		n, err := db.Value[int64](ctx, s.DB, "SELECT count(*)"+which, state)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "Number of ProgressReports in inconsistent state for %s tasks: %d\n", state, n); err != nil {
			return err
		}
		if dry || n == 0 {
			continue
		}
		err = s.DB.Update(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE core_progressreport SET state = ? WHERE state = 'running' AND task IN (SELECT id FROM core_task WHERE state = ?)", state, state)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func showMigrations(ctx context.Context, s *Server, cmd *cobra.Command, args []string) error {
	schemas := Schemas(s.Plugins)
	for _, name := range args {
		if !slices.ContainsFunc(schemas, func(c db.Schema) bool { return c.Component == name }) {
			return fmt.Errorf("no installed app with label '%s'", name)
		}
	}
	for _, schema := range schemas {
		if len(args) > 0 && !slices.Contains(args, schema.Component) {
			continue
		}
		list, err := s.DB.Migrations(ctx, schema)
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), schema.Component)
		for _, m := range list {
			mark := "X"
			if m.Pending {
				mark = " "
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), " [%s] %s\n", mark, m.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
