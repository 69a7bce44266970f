// Command record puts the plans to the reference and keeps its answers.
//
//	go run ./test/permissions/record -url http://localhost:9080 -domains-url http://localhost:9090 [PLAN...]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"granary/test/permissions"
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
	address := flag.String("url", "http://localhost:9080", "the reference with domains off")
	domains := flag.String("domains-url", "http://localhost:9090", "the reference with domains on")
	user := flag.String("user", "admin password", "an administrator's name and password")
	dir := flag.String("plans", "test/permissions/plans", "folder of the plans")
	answers := flag.String("answers", "testdata/pulp/permissions", "folder of the recorded answers")
	only := flag.String("section", "", "ask the sections whose names begin so, and leave the others as they are")
	show := flag.Bool("show", false, "print the answers instead of keeping them")
	flag.Parse()

	plans, err := permissions.Load(*dir)
	if err != nil {
		return err
	}
	for _, p := range plans {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), p.Name) {
			continue
		}
		a := &permissions.Asker{URL: *address, User: *user, Domains: p.Domains, Apps: permissions.Apps(plans)}
		if p.Domains {
			a.URL = *domains
		}
		a.URL = strings.TrimSuffix(a.URL, "/")
		keep := keeper{plan: p, file: filepath.Join(*answers, p.Name+".golden"), show: *show}
		if err := keep.read(); err != nil {
			return err
		}
		if err := ask(ctx, a, p, *only, keep.add); err != nil {
			return err
		}
	}
	return nil
}

// ask puts a plan's sections to a server.
func ask(ctx context.Context, a *permissions.Asker, p *permissions.Plan, only string, keep func(*permissions.Table) error) (err error) {
	if err := a.Begin(ctx); err != nil {
		return err
	}
	defer func() {
		if eerr := a.End(context.WithoutCancel(ctx)); err == nil {
			err = eerr
		}
	}()
	for _, s := range p.Sections {
		if !strings.HasPrefix(s.Name, only) {
			continue
		}
		begun := time.Now()
		t, err := a.Ask(ctx, s)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s %s: %d answers in %v\n", p.Name, s.Name, len(t.Rows)*len(t.Columns), time.Since(begun).Round(time.Second))
		if err := keep(t); err != nil {
			return err
		}
	}
	return nil
}

// A keeper has the tables of a plan and writes them to their file whenever one is new.
type keeper struct {
	plan   *permissions.Plan
	file   string
	show   bool
	tables map[string]*permissions.Table
}

func (k *keeper) read() error {
	k.tables = map[string]*permissions.Table{}
	text, err := os.ReadFile(k.file)
	if k.show || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := permissions.ParseTables(string(text))
	for _, t := range list {
		k.tables[t.Name] = t
	}
	return err
}

func (k *keeper) add(t *permissions.Table) error {
	k.tables[t.Name] = t
	list := []*permissions.Table{t}
	if !k.show {
		list = nil
		for _, s := range k.plan.Sections {
			if t := k.tables[s.Name]; t != nil {
				list = append(list, t)
			}
		}
	}
	text := permissions.Format("Answers of the reference, recorded by: go run ./test/permissions/record "+k.plan.Name, list)
	if k.show {
		fmt.Println(text)
		return nil
	}
	return os.WriteFile(k.file, []byte(text), 0o644)
}
