package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"granary/internal/db"
	"granary/internal/plugin"
	"granary/internal/server"
	"granary/internal/settings"
	"granary/internal/telemetry"
)

const defaultListen = "127.0.0.1:8080"

// options are what every command takes.
type options struct {
	data   string
	config []string
}

func commands() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use: "granary", Short: "A package repository server, a drop-in replacement for Pulp 3",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&o.data, "data", "", "data folder (default $GRANARY_DATA, or ./granary-data where no settings name one)")
	root.PersistentFlags().StringSliceVar(&o.config, "config", nil, "settings file, Python literals or TOML (default $PULP_SETTINGS)")
	root.AddCommand(
		o.serve("server", "Run everything: API, content and workers", defaultListen, server.Roles{API: true, Content: true, Workers: -1}),
		o.serve("api", "Run the REST API", "127.0.0.1:24817", server.Roles{API: true}),
		o.serve("content", "Run the content server", "127.0.0.1:24816", server.Roles{Content: true}),
		o.serve("worker", "Run tasks", "", server.Roles{Workers: -1}),
		o.migrate(), o.manager(), o.settings(), ready(), showVersion(),
	)
	return root
}

// load reads the settings and prints what is odd about them.
func (o *options) load(stderr io.Writer) (*settings.Settings, error) {
	data := o.data
	environ := os.Environ()
	if data == "" && !slices.ContainsFunc(environ, func(kv string) bool {
		return strings.HasPrefix(kv, "GRANARY_DATA=") || strings.HasPrefix(kv, "PULP_DEPLOY_ROOT=") || strings.HasPrefix(kv, "PULP_SETTINGS=")
	}) && len(o.config) == 0 {
		data = "granary-data"
	}
	if data != "" {
		abs, err := filepath.Abs(data)
		if err != nil {
			return nil, err
		}
		data = abs
	}
	names := make([]string, 0, len(plugins()))
	for _, p := range plugins() {
		names = append(names, "pulp_"+p.Name)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	s, err := settings.Load(settings.Options{Environ: environ, Files: o.config, DataDir: data, Plugins: names, Hostname: host})
	if err != nil {
		return nil, fmt.Errorf("settings:\n%w", err)
	}
	for _, w := range s.Warnings() {
		fmt.Fprintln(stderr, "granary: warning:", w)
	}
	return s, nil
}

func (o *options) open(ctx context.Context, stderr io.Writer, roles server.Roles) (*server.Server, error) {
	set, err := o.load(stderr)
	if err != nil {
		return nil, err
	}
	return openWith(ctx, set, stderr, roles, false)
}

func openWith(ctx context.Context, set *settings.Settings, stderr io.Writer, roles server.Roles, migrate bool) (*server.Server, error) {
	if roles.Workers < 0 {
		roles.Workers = max(1, set.Workers)
	}
	enabled := slices.DeleteFunc(plugins(), func(p plugin.Plugin) bool { return !set.PluginEnabled(p.Name) })
	return server.Open(ctx, server.Config{
		Settings: set, Plugins: enabled, Version: version, Roles: roles, Now: time.Now, Migrate: migrate,
		Log: telemetry.NewLogger(telemetry.LogConfig{Output: stderr, Levels: set.LogLevels()}), AccessLog: stderr,
	})
}

func (o *options) serve(use, short, listen string, roles server.Roles) *cobra.Command {
	var at server.Addresses
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) (err error) {
		ctx := cmd.Context()
		s, err := o.open(ctx, cmd.ErrOrStderr(), roles)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		password := ""
		if roles.API {
			if password, err = s.EnsureAdmin(ctx); err != nil {
				return fmt.Errorf("make the user admin: %w", err)
			}
		}
		return s.Run(ctx, at, func(addr string) {
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "Granary %s listens on http://%s%s (data in %s)\n", version, shown(addr), s.Settings.APIRoot, s.Settings.Data)
			if password != "" {
				fmt.Fprintf(out, "The user admin was made, with the password %s (shown this once)\n", password)
			}
		})
	}}
	cmd.Flags().StringVarP(&at.Main, "listen", "l", listen, "address for clients; port 0 takes a free one")
	cmd.Flags().StringVar(&at.Debug, "debug", "", "address for profiles (/debug/pprof/) and Prometheus (/metrics); keep it local")
	return cmd
}

// shown is an address that a client on this machine can use.
func shown(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return addr
}

const upToDate = "The tables are up to date."

func (o *options) migrate() *cobra.Command {
	var check bool
	cmd := &cobra.Command{Use: "migrate", Short: "Bring the database's tables up to date", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) (err error) {
		ctx := cmd.Context()
		set, err := o.load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		if set.Database.Engine == settings.SQLite {
			if ok, err := server.Manage(ctx, set.Data, []string{"check"}, io.Discard); ok { // a server that runs has done it
				if err == nil {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), upToDate)
				}
				return err
			}
			if _, err := os.Stat(set.Database.File); check && errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("pending: everything, there is no %s", set.Database.File)
			}
		}
		if check {
			d, err := db.Open(ctx, db.Config{File: set.Database.File, DSN: string(set.Database.DSN)})
			if err != nil {
				return err
			}
			pending, err := d.Pending(ctx, server.Schemas(plugins()))
			if err = errors.Join(err, d.Close()); err != nil {
				return err
			}
			if len(pending) > 0 {
				return fmt.Errorf("pending: %s", strings.Join(pending, ", "))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), upToDate)
			return err
		}
		s, err := openWith(ctx, set, cmd.ErrOrStderr(), server.Roles{}, true)
		if err != nil {
			return err
		}
		return s.Close()
	}}
	cmd.Flags().BoolVar(&check, "check", false, "only say what is pending, and fail if something is")
	return cmd
}

// manager runs the manager's commands: in the server that owns the data folder if one runs, else here.
func (o *options) manager() *cobra.Command {
	return &cobra.Command{Use: "manager COMMAND", Short: "Administer a server, as pulpcore-manager does", DisableFlagParsing: true, RunE: func(cmd *cobra.Command, args []string) error {
		ctx, out := cmd.Context(), cmd.OutOrStdout()
		args, err := o.managerFlags(args)
		if err != nil {
			return err
		}
		if len(args) > 0 && args[0] == "migrate" { // with flags that mean nothing here, as --noinput
			migrate := o.migrate()
			migrate.SetArgs(slices.DeleteFunc(args[1:], func(a string) bool { return a != "--check" }))
			migrate.SetOut(out)
			migrate.SetErr(cmd.ErrOrStderr())
			migrate.SilenceUsage, migrate.SilenceErrors = true, true
			return migrate.ExecuteContext(ctx)
		}
		help := len(args) == 0 || slices.ContainsFunc(args, func(a string) bool { return a == "-h" || a == "--help" || a == "help" })
		if !help {
			if args, err = ask(args, cmd.InOrStdin(), cmd.ErrOrStderr(), os.Getenv); err != nil {
				return err
			}
			set, err := o.load(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if set.Database.Engine == settings.SQLite {
				if ok, err := server.Manage(ctx, set.Data, args, out); ok {
					return err
				}
			}
		}
		root := server.ManagerCommands(func(ctx context.Context) (*server.Server, func() error, error) {
			s, err := o.open(ctx, cmd.ErrOrStderr(), server.Roles{})
			if err != nil {
				return nil, nil, err
			}
			return s, s.Close, nil
		})
		root.SetArgs(args)
		root.SetOut(out)
		root.SetErr(cmd.ErrOrStderr())
		return root.ExecuteContext(ctx)
	}}
}

// managerFlags takes our own flags off the arguments, which are otherwise the manager's.
func (o *options) managerFlags(args []string) ([]string, error) {
	rest := []string{} // with nil, cobra would take the process's own
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(args[i], "=")
		if name != "--data" && name != "--config" {
			rest = append(rest, args[i])
			continue
		}
		if !has {
			if i++; i == len(args) {
				return nil, fmt.Errorf("%s needs a value", name)
			}
			value = args[i]
		}
		if name == "--data" {
			o.data = value
		} else {
			o.config = append(o.config, value)
		}
	}
	return rest, nil
}

// settings shows what is set, to what, and by what.
func (o *options) settings() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show settings"}
	var secrets bool
	var key string
	cmd.PersistentFlags().BoolVar(&secrets, "show-secrets", false, "show secrets instead of asterisks")
	keyOf := func(args []string) (string, error) {
		if key == "" && len(args) == 1 {
			key = args[0]
		}
		if key == "" {
			return "", errors.New("which setting?")
		}
		return key, nil
	}
	list := &cobra.Command{Use: "list", Short: "All settings", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		s, err := o.load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return table(cmd.OutOrStdout(), s.List(secrets), false)
	}}
	get := &cobra.Command{Use: "get [KEY]", Short: "One setting's value", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		s, err := o.load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		k, err := keyOf(args)
		if err != nil {
			return err
		}
		text, ok := s.Show(k, secrets)
		if !ok {
			return fmt.Errorf("there is no setting %s", k)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
		return err
	}}
	inspect := &cobra.Command{Use: "inspect [KEY]", Short: "What each source says of a setting, the last one wins", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		s, err := o.load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		k, err := keyOf(args)
		if err != nil {
			return err
		}
		entries := s.Inspect(k, secrets)
		if len(entries) == 0 {
			return fmt.Errorf("there is no setting %s", k)
		}
		return table(cmd.OutOrStdout(), entries, true)
	}}
	get.Flags().StringVarP(&key, "key", "k", "", "the setting")
	inspect.Flags().StringVarP(&key, "key", "k", "", "the setting")
	cmd.AddCommand(list, get, inspect)
	return cmd
}

func table(out io.Writer, entries []settings.Entry, how bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, e := range entries {
		line := e.Name + "\t" + e.Source + "\t"
		if how {
			line += e.How + "\t"
		}
		fmt.Fprintln(w, line+settings.Format(e.Value)) // the longest last
	}
	return w.Flush()
}

func ready() *cobra.Command {
	var at string
	var wait time.Duration
	cmd := &cobra.Command{Use: "ready", Short: "Succeed once a server answers", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		u, err := url.Parse(at)
		if err != nil {
			return err
		}
		return server.Wait(cmd.Context(), u.JoinPath("pulp/api/v3/status/").String(), wait)
	}}
	cmd.Flags().StringVar(&at, "url", "http://"+defaultListen, "where the server listens")
	cmd.Flags().DurationVar(&wait, "wait", time.Second, "how long to try")
	return cmd
}

func showVersion() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Granary's version, and those of Pulp whose API it serves", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		out := cmd.OutOrStdout()
		fmt.Fprintln(out, "granary", version)
		for _, c := range server.Versions(plugins()) {
			fmt.Fprintln(out, c.Name, c.Version)
		}
		return nil
	}}
}
