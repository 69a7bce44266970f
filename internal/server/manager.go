package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/task"
)

// managed is a command's call and its outcome, on the control socket.
type managed struct {
	Args   []string `json:"args,omitempty"`
	Dir    string   `json:"dir,omitempty"` // that the command was called in
	Output string   `json:"output,omitempty"`
	Error  string   `json:"error,omitempty"`
}

// Manage runs a command of the manager in the server that owns the data folder. ok is false where none runs.
func Manage(ctx context.Context, data string, args []string, out io.Writer) (ok bool, err error) {
	path, done, err := socketPath(data)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, done()) }()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	dir, err := os.Getwd()
	if err != nil {
		return false, err
	}
	body, err := json.Marshal(managed{Args: args, Dir: dir})
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://granary/", bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	resp, err := client.Do(req)
	if _, refused := errors.AsType[*net.OpError](err); refused {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	defer func() { _ = resp.Body.Close() }()
	var m managed
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		return true, fmt.Errorf("answer of the server: %w", err)
	}
	if _, err := io.WriteString(out, m.Output); err != nil {
		return true, err
	}
	if m.Error != "" {
		return true, errors.New(m.Error)
	}
	return true, nil
}

// control runs the manager's commands that come over the control socket, which only the data folder's owner can reach.
func (s *Server) control(ctx context.Context) (err error) {
	path, done, err := socketPath(s.Settings.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	return serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m managed
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var out bytes.Buffer
		err := s.Manager(context.WithValue(r.Context(), dirKey{}, m.Dir), m.Args, &out)
		answer := managed{Output: out.String()}
		if err != nil {
			answer.Error = err.Error()
		}
		_ = json.NewEncoder(w).Encode(answer)
	}), s.Log)
}

// Manager runs one command of the manager, as "reset-admin-password --random".
func (s *Server) Manager(ctx context.Context, args []string, out io.Writer) error {
	root := ManagerCommands(func(context.Context) (*Server, func() error, error) { return s, func() error { return nil }, nil })
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(out)
	return root.ExecuteContext(ctx)
}

// A managerRun carries one of the manager's commands out.
type managerRun = func(ctx context.Context, s *Server, cmd *cobra.Command, args []string) error

// An adder adds a command to the manager's. What one prints is what was asked for, and nothing else.
type adder = func(use, short string, args cobra.PositionalArgs, run managerRun) *cobra.Command

// ManagerCommands returns the manager's commands. open gives them the server to work on.
func ManagerCommands(open func(ctx context.Context) (*Server, func() error, error)) *cobra.Command {
	root := &cobra.Command{Use: "pulpcore-manager", Short: "Administer a server", SilenceUsage: true, SilenceErrors: true}
	frameworkFlags(root)
	add := func(use, short string, args cobra.PositionalArgs, run managerRun) *cobra.Command {
		c := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) (err error) {
			s, done, err := open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, done()) }()
			ctx, err := s.managerCall(cmd.Context())
			if err != nil {
				return err
			}
			return run(ctx, s, cmd, args)
		}}
		root.AddCommand(c)
		return c
	}
	reset := add("reset-admin-password", "Make the superuser admin, or give it a new password", cobra.NoArgs, resetAdminPassword)
	reset.Flags().StringP("password", "p", "", "the new password")
	reset.Flags().Bool("random", false, "make one up and print it")
	addUserCommands(add)
	add("dispatch-task JSON", "Dispatch a task and print its href", cobra.ExactArgs(1), dispatchTask)
	add("create-task-group", "Make a task group and print its href", cobra.NoArgs, createTaskGroup)
	addSigning(add)
	check := add("check", "Check settings, database and data folder", cobra.ArbitraryArgs, func(_ context.Context, s *Server, cmd *cobra.Command, _ []string) error {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "System check identified no issues: %s, %s.\n", s.DB.Engine(), s.Settings.MediaRoot)
		return err
	})
	check.FParseErrWhitelist.UnknownFlags = true // as --deploy: all is checked always
	keyCommands(add)
	databaseCommands(add)
	documentCommands(add)
	noCommands(root)
	return root
}

// managerCall is the call that the manager's commands work under: nobody's, in the default domain.
func (s *Server) managerCall(ctx context.Context) (context.Context, error) {
	d := pulp.Domain{Name: pulp.DefaultDomain}
	err := s.DB.QueryRow(ctx, "SELECT id, redirect_to_object_storage, hide_guarded_distributions FROM core_domain WHERE name = ?", d.Name).Scan(&d.ID, &d.Redirect, &d.HideGuarded)
	return pulp.WithCall(ctx, &pulp.Call{Domain: d, Root: s.Settings.APIRoot, CID: strings.ReplaceAll(pulp.NewID().String(), "-", "")}), err
}

func resetAdminPassword(ctx context.Context, s *Server, cmd *cobra.Command, _ []string) error {
	password, err := cmd.Flags().GetString("password")
	if err != nil {
		return err
	}
	random, err := cmd.Flags().GetBool("random")
	if err != nil {
		return err
	}
	if random == (password != "") {
		return errors.New("give one of --password and --random")
	}
	if random {
		password = randomPassword()
	}
	if err := s.Access.SetSuperuser(ctx, "admin", password); err != nil {
		return err
	}
	text := `Successfully set password for "admin" user.`
	if random {
		text = fmt.Sprintf(`Successfully set "admin" user's password to "%s".`, password)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

func randomPassword() string {
	raw := make([]byte, 15)
	_, _ = rand.Read(raw) // never fails
	return base64.RawURLEncoding.EncodeToString(raw)
}

// EnsureAdmin makes the user admin where there is no superuser, and returns its password if that was made up.
func (s *Server) EnsureAdmin(ctx context.Context) (password string, err error) {
	have, err := db.Exists(ctx, s.DB, "SELECT 1 FROM auth_user WHERE is_superuser")
	if err != nil || have {
		return "", err
	}
	if p := s.Settings.DefaultAdminPassword; p != "" {
		return "", s.Access.SetSuperuser(ctx, "admin", string(p))
	}
	password = randomPassword()
	return password, s.Access.SetSuperuser(ctx, "admin", password)
}

// dispatchTask dispatches any registered task; tests use it for tasks that no request makes.
func dispatchTask(ctx context.Context, s *Server, cmd *cobra.Command, args []string) error {
	var in struct {
		Name      string            `json:"name"`
		Args      []any             `json:"args"`
		Kwargs    map[string]any    `json:"kwargs"`
		Group     *pulp.ID          `json:"task_group"`
		Exclusive []string          `json:"exclusive_resources"`
		Shared    []string          `json:"shared_resources"`
		User      *string           `json:"user"`
		CID       string            `json:"correlation_id"`
		Immediate bool              `json:"immediate"`
		Deferred  *bool             `json:"deferred"`
		Versions  map[string]string `json:"versions"`
	}
	if err := json.Unmarshal([]byte(args[0]), &in); err != nil {
		return fmt.Errorf("task: %w", err)
	}
	call := *pulp.CallOf(ctx)
	if in.CID != "" {
		call.CID = in.CID
	}
	if in.User != nil {
		u, err := s.Access.User(ctx, *in.User)
		if err != nil {
			return err
		}
		call.User = u
	}
	spec := task.Spec{
		Name: in.Name, Args: map[string]any{"args": in.Args, "kwargs": in.Kwargs}, Exclusive: in.Exclusive, Shared: in.Shared,
		Immediate: in.Immediate, NoDefer: in.Deferred != nil && !*in.Deferred, Versions: in.Versions,
	}
	if in.Group != nil {
		spec.Group = *in.Group
	}
	t, err := s.Tasks.Dispatch(pulp.WithCall(ctx, &call), spec)
	if err != nil {
		return err
	}
	return s.printHref(ctx, cmd, t.Ref())
}

func createTaskGroup(ctx context.Context, s *Server, cmd *cobra.Command, _ []string) error {
	id, err := s.Tasks.NewGroup(ctx, "Made by the manager")
	if err != nil {
		return err
	}
	return s.printHref(ctx, cmd, pulp.RefTo("core.taskgroup", id))
}

func (s *Server) printHref(ctx context.Context, cmd *cobra.Command, r pulp.Ref) error {
	href, err := s.API.Href(ctx, s.DB, r)
	if err != nil {
		return err
	}
	if href == "" {
		return errs.E(errs.NotFound, "There is no "+r.PRN()+".")
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), href)
	return err
}

// Wait waits until the server at url answers, at most for the given time.
func Wait(ctx context.Context, url string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ask(ctx, url)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func ask(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
