package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ask completes a command of the manager with what it takes from the terminal and the environment, which a server that runs already
// does not see: passwords, and the superuser of createsuperuser.
func ask(args []string, in io.Reader, prompt io.Writer, getenv func(string) string) ([]string, error) {
	lines := bufio.NewReader(io.LimitReader(in, 1<<16))
	read := func(text string) (string, error) {
		fmt.Fprint(prompt, text)
		line, err := lines.ReadString('\n')
		if err != nil && line == "" {
			return "", errors.New("no answer given on standard input")
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	twice := func(text string) (string, error) {
		first, err := read(text + ": ")
		if err != nil {
			return "", err
		}
		second, err := read(text + " again: ")
		if err == nil && first != second {
			err = errors.New("the passwords differ")
		}
		return first, err
	}
	switch {
	case args[0] == "reset-admin-password" && len(args) == 1:
		password, err := twice(`Please enter new password for user "admin"`)
		if err != nil {
			return nil, fmt.Errorf("%w: use --password or --random", err)
		}
		return append(args, "--password="+password), nil
	case args[0] == "changepassword" && len(args) == 2:
		password, err := twice("Please enter new password for user \"" + args[1] + "\"")
		return append(args, "--password="+password), err
	case args[0] == "createsuperuser":
		silent := slices.Contains(args, "--noinput") || slices.Contains(args, "--no-input")
		for _, flag := range []string{"username", "email"} {
			if slices.ContainsFunc(args, func(a string) bool { return a == "--"+flag || strings.HasPrefix(a, "--"+flag+"=") }) {
				continue
			}
			value := getenv("DJANGO_SUPERUSER_" + strings.ToUpper(flag))
			if !silent {
				var err error
				if value, err = read(strings.ToUpper(flag[:1]) + flag[1:] + ": "); err != nil {
					return nil, err
				}
			}
			if value != "" {
				args = append(args, "--"+flag+"="+value)
			}
		}
		password := getenv("DJANGO_SUPERUSER_PASSWORD")
		if !silent {
			var err error
			if password, err = twice("Password"); err != nil {
				return nil, err
			}
		}
		return append(args, "--password="+password), nil
	}
	return args, nil
}
