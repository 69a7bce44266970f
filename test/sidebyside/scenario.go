package sidebyside

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// A Scenario is a list of requests with the files that they use. README.md describes its text form.
type Scenario struct {
	Name  string // the file's name without .txt
	About string // the comment at its top
	Needs []string
	Later string // what Granary can't do yet; "" when it must pass
	Steps []*Step
	Files []File
}

// A File is uploaded by steps or, when its name begins with "upstream/", served to the server as that of a remote.
type File struct {
	Name string
	Data string // before variables are put in
}

// A Step is one request and what to do with its answer.
type Step struct {
	Number int // from 1
	Line   int // in the scenario's file
	Title  string
	Method string
	Target string // path and query
	User   string // "name password", "none", or "" for the administrator
	Header []Field
	Body   string
	Type   string // media type of Body, "" when there is none
	Parts  []Part
	After  []Action
	Quiet  bool // only the status is recorded

	Volatile  []Mark // differs from run to run
	Unordered []Mark // a list or an object whose order means nothing
	Differs   []Difference
	Ours      *Ours
}

// Ours is what Granary answers where the reference's answer is of no use: its own 500, mostly.
type Ours struct {
	Status  int
	Body    Value
	HasBody bool // false: any body
	Reason  string
}

// A Field is a header field.
type Field struct{ Name, Value string }

// A Part is a part of a multipart form: a value or a file.
type Part struct {
	Name string
	Text string // the value, or the file's name, or that with a range "[0:10]"
	File bool
}

// An Action takes place after the answer: a wait for a task, or the capture of a variable.
type Action struct {
	Wait bool
	Name string // the variable's
	Path string // what the variable is set to; of a wait the task's href, or "" for the one that the answer names
}

// A Mark names a part of an answer, and why it is treated apart.
type Mark struct {
	Path   string
	Reason string
}

// A Difference is a part of an answer in which Granary differs from the reference on purpose.
type Difference struct {
	Mark
	Want    Value // what Granary answers instead
	HasWant bool  // false: anything
}

var (
	requestLine   = regexp.MustCompile(`^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|PURGE) (\S.*)$`)
	directiveLine = regexp.MustCompile(`^([a-z]+):(?: (.*))?$`)
	headerLine    = regexp.MustCompile(`^([A-Z][A-Za-z0-9-]*):(?: (.*))?$`)
	variableName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	answerPath    = regexp.MustCompile(`^(status|(header|cookie)\.[A-Za-z0-9-]+|(body|task)(\.[^.\s]+)*)$`)
)

// Parse reads a scenario. Errors name the line.
func Parse(name string, text []byte) (*Scenario, error) {
	archive := txtar.Parse(text)
	s := &Scenario{Name: name}
	for _, f := range archive.Files {
		s.Files = append(s.Files, File{f.Name, string(f.Data)})
	}
	p := parser{scenario: s}
	for i, line := range strings.Split(string(archive.Comment), "\n") {
		if err := p.line(i+1, strings.TrimRight(line, " \t\r")); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	if len(s.Steps) == 0 {
		return nil, fmt.Errorf("%s: no steps", name)
	}
	return s, nil
}

// A parser reads a scenario line by line.
type parser struct {
	scenario *Scenario
	step     *Step    // being read, nil between steps
	comment  []string // comment lines since the last blank line or step
	body     bool     // the last line belongs to the body
}

func (p *parser) line(number int, line string) error {
	inBody := p.body
	p.body = false
	switch {
	case line == "":
		if p.step == nil && len(p.scenario.Steps) == 0 && p.scenario.About == "" {
			p.scenario.About = strings.Join(p.comment, "\n")
		}
		p.step, p.comment = nil, nil
		return nil
	case strings.HasPrefix(line, "#"):
		p.comment = append(p.comment, strings.TrimSpace(strings.TrimPrefix(line, "#")))
		return nil
	case inBody && strings.HasPrefix(line, "  "):
		p.step.Body += "\n" + line
		p.body = true
		return nil
	}
	if m := requestLine.FindStringSubmatch(line); m != nil {
		p.step = &Step{
			Number: len(p.scenario.Steps) + 1, Line: number,
			Title: strings.Join(p.comment, " "), Method: m[1], Target: m[2],
		}
		p.comment = nil
		p.scenario.Steps = append(p.scenario.Steps, p.step)
		return nil
	}
	if m := directiveLine.FindStringSubmatch(line); m != nil && len(p.scenario.Steps) == 0 {
		switch m[1] {
		case "needs":
			p.scenario.Needs = append(p.scenario.Needs, strings.Fields(m[2])...)
			return nil
		case "later":
			p.scenario.Later = m[2]
			return nil
		}
	}
	if p.step == nil {
		return fmt.Errorf("want a request, got %q", line)
	}
	return p.detail(line)
}

// detail reads a line below a request.
func (p *parser) detail(line string) error {
	s := p.step
	switch line {
	case "quiet":
		s.Quiet = true
		return nil
	case "wait":
		s.After = append(s.After, Action{Wait: true})
		return nil
	}
	if strings.ContainsRune("{[\"", rune(line[0])) {
		return p.setBody("application/json", line)
	}
	if m := headerLine.FindStringSubmatch(line); m != nil {
		s.Header = append(s.Header, Field{http.CanonicalHeaderKey(m[1]), m[2]})
		return nil
	}
	m := directiveLine.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("not understood: %q", line)
	}
	word, rest := m[1], m[2]
	switch word {
	case "user":
		s.User = rest
	case "json":
		return p.setBody("application/json", rest)
	case "data":
		return p.setBody("application/x-www-form-urlencoded", rest)
	case "text":
		return p.setBody("text/plain", rest)
	case "form", "file":
		name, value, ok := strings.Cut(rest, "=")
		if !ok || s.Type != "" {
			return fmt.Errorf("want NAME=VALUE and no other body, got %q", rest)
		}
		s.Parts = append(s.Parts, Part{Name: name, Text: value, File: word == "file"})
	case "wait":
		s.After = append(s.After, Action{Wait: true, Path: rest})
	case "capture":
		name, path, ok := strings.Cut(rest, " = ")
		if !ok || !variableName.MatchString(name) || !answerPath.MatchString(path) {
			return fmt.Errorf("want NAME = PATH, got %q", rest)
		}
		s.After = append(s.After, Action{Name: name, Path: path})
	case "volatile", "unordered", "differs":
		return s.mark(word, rest)
	case "ours":
		return s.ours(rest)
	default:
		return fmt.Errorf("unknown directive %q", word)
	}
	return nil
}

func (p *parser) setBody(mediaType, text string) error {
	if p.step.Type != "" || len(p.step.Parts) > 0 {
		return fmt.Errorf("a second body: %q", text)
	}
	p.step.Type, p.step.Body, p.body = mediaType, text, true
	return nil
}

// splitReason takes "TEXT (REASON)" apart.
func splitReason(text string) (rest, reason string, err error) {
	open := strings.LastIndex(text, " (")
	if open < 0 || !strings.HasSuffix(text, ")") || open+2 == len(text)-1 {
		return "", "", fmt.Errorf("want a reason in brackets, got %q", text)
	}
	return text[:open], text[open+2 : len(text)-1], nil
}

// ours reads "STATUS [BODY] (REASON)".
func (s *Step) ours(text string) error {
	text, reason, err := splitReason(text)
	if err != nil {
		return err
	}
	status, body, hasBody := strings.Cut(text, " ")
	s.Ours = &Ours{HasBody: hasBody, Reason: reason}
	if s.Ours.Status, err = strconv.Atoi(status); err != nil {
		return fmt.Errorf("want a status, got %q", status)
	}
	if hasBody {
		s.Ours.Body, err = DecodeJSON([]byte(body))
	}
	return err
}

// mark reads "PATH (REASON)" and, of a difference, "PATH = VALUE (REASON)".
func (s *Step) mark(word, text string) error {
	text, reason, err := splitReason(text)
	if err != nil {
		return err
	}
	path, value, hasWant := strings.Cut(text, " = ")
	if !answerPath.MatchString(path) {
		return fmt.Errorf("not a part of an answer: %q", path)
	}
	mark := Mark{path, reason}
	switch {
	case word == "differs":
		d := Difference{Mark: mark, HasWant: hasWant}
		if hasWant {
			if d.Want, err = DecodeJSON([]byte(value)); err != nil {
				return err
			}
		}
		s.Differs = append(s.Differs, d)
	case hasWant:
		return fmt.Errorf("%s takes no value: %q", word, text)
	case word == "volatile":
		s.Volatile = append(s.Volatile, mark)
	default:
		s.Unordered = append(s.Unordered, mark)
	}
	return nil
}

// covers tells whether the pattern names the path or something above it. A "*" stands for any one segment.
func covers(pattern, path string) bool {
	want, got := strings.Split(pattern, "."), strings.Split(path, ".")
	if len(want) > len(got) {
		return false
	}
	for i, w := range want {
		if w != "*" && w != got[i] {
			return false
		}
	}
	return true
}

// equals is like covers, without what lies below.
func equals(pattern, path string) bool {
	return strings.Count(pattern, ".") == strings.Count(path, ".") && covers(pattern, path)
}

// Requires tells whether the scenario needs a thing, such as "fixtures".
func (s *Scenario) Requires(thing string) bool { return slices.Contains(s.Needs, thing) }

// label is the request line as the scenario has it.
func (s *Step) label() string { return s.Method + " " + s.Target }

// Load reads a scenario's file.
func Load(file string) (*Scenario, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("load scenario: %w", err)
	}
	return Parse(strings.TrimSuffix(filepath.Base(file), ".txt"), text)
}
