package sidebyside

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// A Transcript holds what a server answered to a scenario, with everything that changes from run to run replaced.
type Transcript struct {
	Note    string    // how it was made
	Answers []*Answer // one for each step, nil where none came
}

// An Answer belongs to one step.
type Answer struct {
	Step   int
	Label  string // the request line, as the scenario has it
	Title  string
	Status string // "200 OK"
	Header []Field
	Body   Value // a string when Text
	Text   bool  // the body is not JSON
	Empty  bool  // there is no body
	Task   Value // the task or task group that the step waited for
	Waited bool
}

const (
	answerMark = "=== "
	taskMark   = "--- task"
	textMark   = "| "
)

// String is the form of a transcript in which it is kept; ParseTranscript reads it.
func (t *Transcript) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", t.Note)
	for _, a := range t.Answers {
		if a == nil {
			continue
		}
		fmt.Fprintf(&b, "\n%s%d %s\n", answerMark, a.Step, a.Label)
		if a.Title != "" {
			fmt.Fprintf(&b, "# %s\n", a.Title)
		}
		fmt.Fprintln(&b, a.Status)
		for _, f := range a.Header {
			fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
		}
		switch {
		case a.Empty:
		case a.Text:
			for line := range strings.SplitSeq(a.Body.(string), "\n") {
				fmt.Fprintln(&b, textMark+line)
			}
		default:
			fmt.Fprintln(&b, EncodeJSON(a.Body))
		}
		if a.Waited {
			fmt.Fprintf(&b, "%s\n%s\n", taskMark, EncodeJSON(a.Task))
		}
	}
	return b.String()
}

// ParseTranscript reads what [Transcript.String] wrote.
func ParseTranscript(text string) (*Transcript, error) {
	head, rest, _ := strings.Cut(text, "\n"+answerMark)
	t := &Transcript{Note: strings.TrimSpace(strings.TrimPrefix(head, "#"))}
	if rest == "" {
		return t, nil
	}
	for block := range strings.SplitSeq(rest, "\n"+answerMark) {
		a, err := parseAnswer(block)
		if err != nil {
			return nil, fmt.Errorf("transcript, answer %d: %w", len(t.Answers)+1, err)
		}
		t.Answers = append(t.Answers, a)
	}
	return t, nil
}

func parseAnswer(block string) (*Answer, error) {
	lines := strings.Split(strings.TrimRight(block, "\n"), "\n")
	a := &Answer{Empty: true}
	number, label, _ := strings.Cut(lines[0], " ")
	if _, err := fmt.Sscanf(number, "%d", &a.Step); err != nil {
		return nil, fmt.Errorf("number of the step: %w", err)
	}
	a.Label = label
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "# ") {
		a.Title, lines = lines[0][2:], lines[1:]
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("no status")
	}
	a.Status, lines = lines[0], lines[1:]
	for len(lines) > 0 && lines[0] != taskMark {
		m := headerLine.FindStringSubmatch(lines[0])
		if m == nil {
			break
		}
		a.Header = append(a.Header, Field{m[1], m[2]})
		lines = lines[1:]
	}
	body, task := lines, []string(nil)
	if i := slices.Index(lines, taskMark); i >= 0 {
		body, task = lines[:i], lines[i+1:]
	}
	var err error
	if len(body) > 0 {
		a.Empty = false
		if a.Text = strings.HasPrefix(body[0], textMark); a.Text {
			for i, line := range body {
				body[i] = strings.TrimPrefix(line, textMark)
			}
			a.Body = strings.Join(body, "\n")
		} else if a.Body, err = DecodeJSON([]byte(strings.Join(body, "\n"))); err != nil {
			return nil, err
		}
	}
	if task != nil {
		a.Waited = true
		if a.Task, err = DecodeJSON([]byte(strings.Join(task, "\n"))); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Compare says in which parts the answers differ from the recorded ones, a line each. With deliberate set the
// differences that the scenario declares are left out, and where it says what Granary answers instead, that is wanted.
func Compare(s *Scenario, recorded, got *Transcript, deliberate bool) []string {
	var out []string
	for i, step := range s.Steps {
		label := fmt.Sprintf("%s.txt:%d: %s %s", s.Name, step.Line, step.Method, step.Target)
		if i >= len(recorded.Answers) || recorded.Answers[i].Label != step.label() {
			return append(out, label+": not what was recorded; record the scenario again")
		}
		if i >= len(got.Answers) || got.Answers[i] == nil {
			out = append(out, label+": not sent")
			continue
		}
		c := comparison{label: label}
		for _, m := range step.Volatile { // where only one of them has it
			c.differs = append(c.differs, Difference{Mark: m})
		}
		if deliberate {
			c.differs = append(c.differs, step.Differs...)
		}
		if deliberate && step.Ours != nil {
			c.ours(step.Ours, got.Answers[i])
		} else {
			c.answer(recorded.Answers[i], got.Answers[i])
		}
		out = append(out, c.found...)
	}
	return out
}

// A comparison collects the differences of one answer.
type comparison struct {
	label    string
	differs  []Difference
	found    []string
	anyOrder bool // of keys
}

func (c *comparison) answer(want, got *Answer) {
	if want.Status != got.Status && !c.declared("status") {
		c.found = append(c.found, fmt.Sprintf("%s: want %s %s, got %s %s", c.label, want.Status, compact(bodyOf(want)), got.Status, compact(bodyOf(got))))
		return
	}
	c.anyOrder = want.Status >= "400" // an error's fields have no order
	wantHeader, gotHeader := headerOf(want), headerOf(got)
	for _, m := range wantHeader.Members {
		g, ok := gotHeader.Get(m.Key)
		if !ok {
			g = missing{}
		}
		if m.Key == "Allow" {
			m.Value, g = essential(m.Value), essential(g)
		}
		c.value("header."+m.Key, m.Value, g)
	}
	for _, m := range gotHeader.Members {
		if _, ok := wantHeader.Get(m.Key); !ok {
			c.value("header."+m.Key, missing{}, m.Value)
		}
	}
	c.value("body", bodyOf(want), bodyOf(got))
	if want.Waited && got.Waited {
		c.value("task", want.Task, got.Task)
	} else if want.Waited != got.Waited {
		c.report("task", waitedOf(want), waitedOf(got))
	}
}

// ours holds an answer against what the scenario wants of Granary in place of the recorded one.
func (c *comparison) ours(want *Ours, got *Answer) {
	c.value("status", fmt.Sprintf("%d %s", want.Status, http.StatusText(want.Status)), got.Status)
	if want.HasBody {
		c.value("body", want.Body, bodyOf(got))
	}
}

// headerOf is an answer's header as an object; what occurs several times is joined.
func headerOf(a *Answer) *Object {
	o := &Object{}
	for _, f := range a.Header {
		if n := len(o.Members); n > 0 && o.Members[n-1].Key == f.Name { // they are sorted
			o.Members[n-1].Value = fmt.Sprint(o.Members[n-1].Value, " and ", f.Value)
			continue
		}
		o.Members = append(o.Members, Member{f.Name, f.Value})
	}
	return o
}

func bodyOf(a *Answer) Value {
	if a.Empty {
		return missing{}
	}
	return a.Body
}

func waitedOf(a *Answer) Value {
	if a.Waited {
		return a.Task
	}
	return missing{}
}

// missing stands for a part that an answer does not have. It prints as what is no JSON.
type missing struct{}

func (missing) String() string { return "nothing" }

func (c *comparison) declared(path string) bool {
	return slices.ContainsFunc(c.differs, func(d Difference) bool { return equals(d.Path, path) })
}

func (c *comparison) value(path string, want, got Value) {
	for _, d := range c.differs {
		if !equals(d.Path, path) {
			continue
		}
		if d.HasWant && EncodeJSON(d.Want) != EncodeJSON(got) {
			c.report(path, d.Want, got)
		}
		return
	}
	switch w := want.(type) {
	case *Object:
		if g, ok := got.(*Object); ok {
			c.object(path, w, g)
			return
		}
	case []Value:
		if g, ok := got.([]Value); ok {
			c.list(path, w, g)
			return
		}
	}
	if EncodeJSON(want) != EncodeJSON(got) {
		c.report(path, want, got)
	}
}

func (c *comparison) object(path string, want, got *Object) {
	var wantOrder, gotOrder []string
	for _, m := range want.Members {
		g, ok := got.Get(m.Key)
		if !ok {
			c.value(path+"."+m.Key, m.Value, missing{})
			continue
		}
		wantOrder = append(wantOrder, m.Key)
		c.value(path+"."+m.Key, m.Value, g)
	}
	for _, m := range got.Members {
		if _, ok := want.Get(m.Key); !ok {
			c.value(path+"."+m.Key, missing{}, m.Value)
			continue
		}
		gotOrder = append(gotOrder, m.Key)
	}
	if !c.anyOrder && !slices.Equal(wantOrder, gotOrder) {
		c.found = append(c.found, fmt.Sprintf("%s: order of the keys of %s: want %v, got %v", c.label, path, wantOrder, gotOrder))
	}
}

func (c *comparison) list(path string, want, got []Value) {
	for i := range max(len(want), len(got)) {
		w, g := Value(missing{}), Value(missing{})
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		c.value(fmt.Sprintf("%s.%d", path, i), w, g)
	}
}

func (c *comparison) report(path string, want, got Value) {
	c.found = append(c.found, fmt.Sprintf("%s: %s: want %s, got %s", c.label, path, compact(want), compact(got)))
}

// essential drops HEAD and OPTIONS from a list of methods: on some paths the reference forgets them, though it has them.
func essential(v Value) Value {
	list, ok := v.(string)
	if !ok {
		return v
	}
	methods := slices.DeleteFunc(strings.Split(list, ", "), func(m string) bool { return m == "HEAD" || m == "OPTIONS" })
	return strings.Join(methods, ", ")
}
