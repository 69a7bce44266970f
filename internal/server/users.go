package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"granary/internal/errs"
)

// addUserCommands adds the manager's commands for users and what they may do.
func addUserCommands(add func(use, short string, args cobra.PositionalArgs, run managerRun) *cobra.Command) {
	create := add("createsuperuser", "Make a user who may do everything", cobra.NoArgs, createSuperuser)
	create.Flags().String("username", "", "the user's name")
	create.Flags().String("email", "", "the user's address")
	create.Flags().Bool("noinput", false, "ask nothing: take DJANGO_SUPERUSER_USERNAME, _EMAIL and _PASSWORD from the environment")
	create.Flags().Bool("no-input", false, "the same")
	change := add("changepassword USERNAME", "Give a user the password that is read from standard input", cobra.ExactArgs(1), changePassword)
	for _, c := range []*cobra.Command{create, change} {
		c.Flags().String("password", "", "the password")
		_ = c.Flags().MarkHidden("password") // other processes see arguments; the flag is how the answer gets to the server
	}
	dump := add("dump-permissions", "List the permissions that users and groups have without roles", cobra.NoArgs, dumpPermissions)
	dump.Flags().Bool("tabular", false, "as tables")
}

func createSuperuser(ctx context.Context, s *Server, cmd *cobra.Command, _ []string) error {
	var name, email, password string
	for flag, to := range map[string]*string{"username": &name, "email": &email, "password": &password} {
		var err error
		if *to, err = cmd.Flags().GetString(flag); err != nil {
			return err
		}
	}
	if strings.TrimSpace(name) == "" {
		return errors.New("You must use --username with --noinput.") //nolint:revive,staticcheck // Django's words
	}
	if len(name) > 150 {
		return errors.New("the username has more than 150 characters")
	}
	if err := s.Access.NewSuperuser(ctx, name, email, password); errs.Is(err, errs.Conflict) {
		return errors.New("Error: That username is already taken.") //nolint:revive,staticcheck // Django's words
	} else if err != nil {
		return err
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "Superuser created successfully.")
	return err
}

func changePassword(ctx context.Context, s *Server, cmd *cobra.Command, args []string) error {
	password, err := cmd.Flags().GetString("password")
	if err != nil {
		return err
	}
	if password == "" {
		return errors.New("no password given")
	}
	if problems := s.Access.CheckPassword(password); problems != nil {
		return errors.New(strings.Join(problems, " "))
	}
	if err := s.Access.SetPassword(ctx, args[0], password); errs.Is(err, errs.NotFound) {
		return fmt.Errorf("user '%s' does not exist", args[0])
	} else if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Password changed successfully for user '%s'\n", args[0])
	return err
}

// dumpPermissions tells that nobody has permissions other than by roles, as Pulp's users had before there were roles.
func dumpPermissions(_ context.Context, _ *Server, cmd *cobra.Command, _ []string) error {
	tabular, err := cmd.Flags().GetBool("tabular")
	if err != nil {
		return err
	}
	text := `{"user_model_permissions": [], "group_model_permissions": []}`
	if tabular {
		text = "Users and groups have permissions by roles alone."
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}
