// Command record runs scenarios against the reference and keeps its answers.
//
//	go run ./test/sidebyside/record -url http://localhost:9080 [scenario...]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"granary/test/sidebyside"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := record(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func record(ctx context.Context) error {
	address := flag.String("url", "http://localhost:9080", "the reference")
	user := flag.String("user", "admin password", "an administrator's name and password")
	scenarios := flag.String("scenarios", "test/sidebyside/scenarios", "folder of the scenarios")
	answers := flag.String("answers", "testdata/pulp", "folder of the recorded answers")
	domains := flag.Bool("domains", false, "the reference has domains on: record the scenarios that need them")
	show := flag.Bool("show", false, "print the answers instead of keeping them")
	flag.Parse()

	paths, err := filepath.Glob(filepath.Join(*scenarios, "*.txt"))
	if err != nil {
		return err
	}
	if flag.NArg() > 0 {
		paths = nil
		for _, name := range flag.Args() {
			paths = append(paths, filepath.Join(*scenarios, strings.TrimSuffix(filepath.Base(name), ".txt")+".txt"))
		}
	}
	runner := &sidebyside.Runner{
		URL: strings.TrimSuffix(*address, "/"), User: *user, Fixtures: os.Getenv("GRANARY_FIXTURES"),
		Client: sidebyside.NewClient(), Timeout: time.Minute,
	}
	for _, path := range paths {
		s, err := sidebyside.Load(path)
		if err != nil {
			return err
		}
		if s.Requires("fixtures") && runner.Fixtures == "" {
			fmt.Fprintf(os.Stderr, "%s: skipped: GRANARY_FIXTURES is not set\n", s.Name)
			continue
		}
		if s.Requires("domains") != *domains {
			continue // for the other server
		}
		begun := time.Now()
		t, err := runner.Run(ctx, s)
		if t == nil {
			return err
		}
		t.Note = "Answers of the reference, recorded by: go run ./test/sidebyside/record " + map[bool]string{true: "-domains "}[*domains] + s.Name
		if *show {
			fmt.Print(t)
		}
		if err != nil {
			return err
		}
		if !*show {
			if err := os.WriteFile(filepath.Join(*answers, s.Name+".golden"), []byte(t.String()), 0o644); err != nil {
				return err
			}
		}
		fmt.Fprintf(os.Stderr, "%s: %d answers in %v\n", s.Name, len(t.Answers), time.Since(begun).Round(time.Millisecond))
	}
	return nil
}
