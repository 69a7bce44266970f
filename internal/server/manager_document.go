package server

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"github.com/spf13/cobra"
)

func documentCommands(add adder) {
	c := add("openapi", "Print the document of the API", cobra.NoArgs, openAPI)
	c.Flags().String("component", "", "only these components' part, separated by commas")
	c.Flags().Bool("bindings", false, "operation ids as generators of clients want them")
	c.Flags().Bool("pk-path", false, "paths with keys instead of hrefs")
	c.Flags().String("format", "openapi", "openapi (YAML) or openapi-json")
	c.Flags().String("file", "", "where to write it")
	c.Flags().Bool("validate", false, "as always")
	c = add("collectstatic", "Does nothing: the server has no files beside itself", cobra.ArbitraryArgs, func(context.Context, *Server, *cobra.Command, []string) error { return nil })
	c.FParseErrWhitelist.UnknownFlags = true
}

func openAPI(_ context.Context, s *Server, cmd *cobra.Command, _ []string) error {
	flags := cmd.Flags()
	query := url.Values{}
	if v, err := flags.GetString("component"); err != nil {
		return err
	} else if v != "" {
		query.Set("component", v)
	}
	for flag, name := range map[string]string{"bindings": "bindings", "pk-path": "pk_path"} {
		if on, err := flags.GetBool(flag); err != nil {
			return err
		} else if on {
			query.Set(name, "1")
		}
	}
	format, err := flags.GetString("format")
	if err != nil {
		return err
	}
	render := s.HTTP.Document.YAML
	switch format {
	case "openapi":
	case "openapi-json":
		render = s.HTTP.Document.JSON
	default:
		return fmt.Errorf("argument --format: invalid choice: '%s' (choose from 'openapi', 'openapi-json')", format)
	}
	text, err := render(query, "http://localhost:24817/")
	if err != nil {
		return err
	}
	if file, err := flags.GetString("file"); err != nil {
		return err
	} else if file != "" {
		return os.WriteFile(file, text, 0o644) //nolint:gosec // no secret is in it
	}
	_, err = cmd.OutOrStdout().Write(append(text, '\n'))
	return err
}
