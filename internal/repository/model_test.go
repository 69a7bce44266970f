package repository_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/task"
)

// A set is a version's content: units by their number in the pool.
type set map[int]bool

func (s set) minus(o set) set {
	d := set{}
	for u := range s {
		if !o[u] {
			d[u] = true
		}
	}
	return d
}

// A modelRepo is what a repository should be.
type modelRepo struct {
	href     string
	versions map[int]set
	next     int
	retain   int // 0: all
}

func (r *modelRepo) numbers() []int { return slices.Sorted(maps.Keys(r.versions)) }

func (r *modelRepo) latest() int {
	n := r.numbers()
	return n[len(n)-1]
}

// before returns the content of the version before one, nothing for the first.
func (r *modelRepo) before(number int) set {
	n := r.numbers()
	if i := slices.Index(n, number); i > 0 {
		return r.versions[n[i-1]]
	}
	return set{}
}

// expire removes the oldest versions, as far as the repository is set to keep only some.
func (r *modelRepo) expire() {
	n := r.numbers()
	if r.retain > 0 && len(n) > r.retain {
		for _, v := range n[:len(n)-r.retain] {
			delete(r.versions, v)
		}
	}
}

const (
	modelPaths    = 5
	modelVariants = 3
	modelUnits    = modelPaths * modelVariants // unit u has path u/modelVariants
)

// modify says what a modification of these makes of the repository; false where it is refused.
func (r *modelRepo) modify(base set, star bool, remove, add set) (set, bool) {
	latest := r.versions[r.latest()]
	draft := maps.Clone(latest)
	if base != nil {
		draft = maps.Clone(base)
	}
	if star {
		draft = draft.minus(latest)
	}
	draft = draft.minus(remove)
	maps.Copy(draft, add)
	fresh := draft.minus(latest)
	byPath := map[int]int{}
	for u := range fresh {
		if byPath[u/modelVariants]++; byPath[u/modelVariants] > 1 {
			return nil, false
		}
	}
	for u := range draft {
		if !fresh[u] && byPath[u/modelVariants] > 0 {
			delete(draft, u)
		}
	}
	return draft, true
}

// A model runs random operations on two repositories and on what they should be.
type model struct {
	*world
	rnd   *rand.Rand
	units []string
	repos []*modelRepo
	log   []string
}

func (m *model) some(most int) set {
	s := set{}
	for range m.rnd.IntN(most + 1) {
		s[m.rnd.IntN(modelUnits)] = true
	}
	return s
}

func (m *model) hrefs(s set) []string {
	list := []string{}
	for u := range s {
		list = append(list, m.units[u])
	}
	return list
}

func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *model) step() {
	r := m.repos[m.rnd.IntN(len(m.repos))]
	switch m.rnd.IntN(10) {
	case 0, 1:
		m.deleteVersion(r)
	case 2:
		r.retain = m.rnd.IntN(5)
		var keep any
		if r.retain > 0 {
			keep = r.retain
		}
		m.note("%s: keep %v", r.href, keep)
		m.request("PATCH", r.href, body("retain_repo_versions", keep))
		r.expire()
	default:
		m.modify(r)
	}
	m.check()
}

// request is Run for what may also be answered at once, where nothing changes.
func (m *model) request(method, path string, b any) {
	m.Helper()
	status, text := m.Do(method, path, b)
	if status == 202 {
		_, rest, _ := strings.Cut(text, `"task":"`)
		href, _, _ := strings.Cut(rest, `"`)
		if t := m.Wait(href); t.State != task.Completed {
			m.fail("task %s %s", t.State, t.Error)
		}
	} else if status != 200 {
		m.fail("%s %s: %d %s", method, path, status, text)
	}
}

func (m *model) deleteVersion(r *modelRepo) {
	n := r.numbers()
	number := n[m.rnd.IntN(len(n))]
	m.note("%s: delete %d", r.href, number)
	t := m.Ended("DELETE", version(r.href, number), nil)
	if len(n) == 1 {
		if t.State != task.Failed {
			m.fail("the last version could be deleted")
		}
		return
	}
	if t.State != task.Completed {
		m.fail("task %s %s", t.State, t.Error)
	}
	delete(r.versions, number)
}

func (m *model) modify(r *modelRepo) {
	add, remove, star := m.some(4), m.some(4), m.rnd.IntN(6) == 0
	b := body("add_content_units", m.hrefs(add), "remove_content_units", m.hrefs(remove))
	if star {
		remove = nil
		b["remove_content_units"] = []string{"*"}
	}
	var base set
	if m.rnd.IntN(4) == 0 {
		from := m.repos[m.rnd.IntN(len(m.repos))]
		n := from.numbers()
		number := n[m.rnd.IntN(len(n))]
		base, b["base_version"] = from.versions[number], version(from.href, number)
	}
	m.note("%s: base %v, remove %v, add %v", r.href, b["base_version"], b["remove_content_units"], slices.Sorted(maps.Keys(add)))
	t := m.Ended("POST", r.href+"modify/", b)
	want, ok := r.modify(base, star, remove, add)
	switch {
	case !ok:
		if t.State != task.Failed || !strings.Contains(t.Failure, "More than one file.file content with the duplicate values for relative_path.") || len(t.Created) > 0 {
			m.fail("task %s %s, created %v; want it refused", t.State, t.Failure, t.Created)
		}
	case t.State != task.Completed:
		m.fail("task %s %s", t.State, t.Error)
	case maps.Equal(want, r.versions[r.latest()]):
		if len(t.Created) > 0 {
			m.fail("%v was created though nothing changed", t.Created)
		}
	default:
		if len(t.Created) != 1 || t.Created[0] != version(r.href, r.next) {
			m.fail("%v was created, want version %d", t.Created, r.next)
		}
		r.versions[r.next] = want
		r.next++
		r.expire()
	}
}

// content lists the units that a filter of versions finds.
func (m *model) content(filter, version string) set {
	s := set{}
	for _, href := range m.Names("pulp_href", contents, filter, version, "fields", "pulp_href") {
		s[slices.Index(m.units, href)] = true
	}
	return s
}

func (m *model) check() {
	m.Helper()
	for _, r := range m.repos {
		want := []string{}
		for _, n := range r.numbers() {
			want = append(want, fmt.Sprint(n))
		}
		list := m.List(r.href+"versions/", "ordering", "number")
		var got []string
		for _, v := range list {
			got = append(got, fmt.Sprint(v["number"]))
		}
		if !slices.Equal(got, want) {
			m.fail("versions %v, want %v", got, want)
		}
		for i, n := range r.numbers() {
			now, before := r.versions[n], r.before(n)
			href := version(r.href, n)
			for kind, want := range map[string]set{"present": now, "added": now.minus(before), "removed": before.minus(now)} {
				filter := map[string]string{"present": "repository_version", "added": "repository_version_added", "removed": "repository_version_removed"}[kind]
				if got := m.content(filter, href); !maps.Equal(got, want) {
					m.fail("%s of %s = %v, want %v", kind, href, got, want)
				}
				summary := object{}
				if len(want) > 0 {
					summary["file.file"] = object{"count": float64(len(want)), "href": root + contents + "?" + filter + "=" + href}
				}
				if diff := cmp.Diff(summary, list[i]["content_summary"].(object)[kind]); diff != "" {
					m.fail("summary of %s: %s: %s", href, kind, diff)
				}
			}
		}
		if got := m.Get(r.href)["latest_version_href"]; got != version(r.href, r.latest()) {
			m.fail("latest version is %v, want %d", got, r.latest())
		}
	}
	u := m.rnd.IntN(modelUnits)
	with, latest := []string{}, []string{}
	for _, r := range m.repos {
		for _, v := range r.versions {
			if v[u] && !slices.Contains(with, r.href) {
				with = append(with, r.href)
			}
		}
		if r.versions[r.latest()][u] {
			latest = append(latest, r.href)
		}
	}
	for filter, want := range map[string][]string{"with_content": with, "latest_with_content": latest} {
		got := m.Names("pulp_href", repositories, filter, m.units[u], "ordering", "pulp_created")
		if slices.Sort(want); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			m.fail("%s=%d gives %v, want %v", filter, u, got, want)
		}
	}
}

func (m *model) fail(format string, args ...any) {
	m.Helper()
	m.Fatalf("after\n  %s\n"+format, append([]any{strings.Join(m.log, "\n  ")}, args...)...)
}

// TestModel compares the content, the counts and the filters of versions with plain sets, through random
// modifications, deletions and retentions.
func TestModel(t *testing.T) {
	steps := 60
	if testing.Short() {
		steps = 15
	}
	both(t, func(w *world) {
		m := &model{world: w}
		for u := range modelUnits {
			m.units = append(m.units, w.unit(fmt.Sprintf("p%d", u/modelVariants), fmt.Sprint("unit ", u)))
		}
		for seed := range uint64(2) {
			m.rnd = rand.New(rand.NewPCG(seed, 1))
			m.log = []string{fmt.Sprint("seed ", seed)}
			m.repos = nil
			for i := range 2 {
				href := w.repository(fmt.Sprintf("r%d-%d", seed, i))
				m.repos = append(m.repos, &modelRepo{href: href, versions: map[int]set{0: {}}, next: 1})
			}
			for range steps {
				m.step()
			}
			for _, r := range m.repos { // so that filters find the next seed's only
				w.Run("DELETE", r.href, nil)
			}
		}
	})
}
