package server

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"granary/internal/signing"
)

// addSigning adds the commands for signing services. Paths are those of the server's machine, from the folder that the command was
// called in.
func addSigning(add func(use, short string, args cobra.PositionalArgs, run func(ctx context.Context, s *Server, cmd *cobra.Command, args []string) error) *cobra.Command) {
	const script, key = 1, 2
	register := add("add-signing-service NAME SCRIPT KEYID", "Add a script that signs with a key", cobra.ExactArgs(key+1), func(ctx context.Context, s *Server, cmd *cobra.Command, args []string) error {
		r := signing.Registration{Name: args[0], Script: from(ctx, args[script]), KeyID: args[key]}
		for name, value := range map[string]*string{"class": &r.Class, "gnupghome": &r.Home, "keyring": &r.Keyring} {
			v, err := cmd.Flags().GetString(name)
			if err != nil {
				return err
			}
			if *value = v; name == "gnupghome" {
				*value = from(ctx, v)
			}
		}
		v, err := s.Signing.Register(ctx, r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "Successfully added signing service %s for key %s.\n", v.Name, v.Fingerprint)
		return err
	})
	register.Flags().String("class", signing.Detached, "what the script prints and how that is verified")
	register.Flags().String("gnupghome", "", "gpg's folder")
	register.Flags().String("keyring", "", "gpg's keyring")

	remove := add("remove-signing-service NAME", "Remove a signing service that nothing uses", cobra.ExactArgs(1), func(ctx context.Context, s *Server, cmd *cobra.Command, args []string) error {
		class, err := cmd.Flags().GetString("class")
		if err != nil {
			return err
		}
		if err := s.Signing.Remove(ctx, args[0], class); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "Signing service '%s' has been successfully removed.\n", args[0])
		return err
	})
	remove.Flags().String("class", signing.Detached, "its class")

	add("list-signing-services", "List the signing services", cobra.NoArgs, func(ctx context.Context, s *Server, cmd *cobra.Command, _ []string) error {
		list, err := s.Signing.List(ctx)
		for _, v := range list {
			fmt.Fprintln(cmd.OutOrStdout(), v.Name, v.Class, v.Fingerprint, v.Script)
		}
		return err
	})
}

type dirKey struct{}

// from makes a path absolute that a command of the manager was given.
func from(ctx context.Context, path string) string {
	if dir, _ := ctx.Value(dirKey{}).(string); dir != "" && path != "" && !filepath.IsAbs(path) {
		return filepath.Join(dir, path)
	}
	return path
}
