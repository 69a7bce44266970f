package access

import (
	"context"
	"strings"
)

// maxExpression bounds the nesting of a condition_expression.
const maxExpression = 64

// expression evaluates a condition_expression: conditions with "and", "or", "not" and parentheses. One that can't be read does not hold.
func (e *evaluation) expression(ctx context.Context, text string) (bool, error) {
	p := &expressionParser{tokens: tokens(text), eval: func(condition string) (bool, error) { return e.condition(ctx, condition) }}
	holds, err := p.or(true, 0)
	if err != nil {
		return false, err
	}
	if p.bad || len(p.tokens) > 0 {
		e.Log.WarnContext(ctx, "an access policy's condition_expression can't be read", "viewset", e.request.Viewset(), "expression", text)
		return false, nil
	}
	return holds, nil
}

// tokens splits an expression into parentheses and words.
func tokens(text string) []string {
	return strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text))
}

// An expressionParser evaluates while it reads: what can't change the outcome is read and not evaluated.
type expressionParser struct {
	tokens []string
	eval   func(condition string) (bool, error)
	bad    bool
}

func (p *expressionParser) next(word string) bool {
	if len(p.tokens) > 0 && p.tokens[0] == word {
		p.tokens = p.tokens[1:]
		return true
	}
	return false
}

func (p *expressionParser) or(live bool, depth int) (bool, error) {
	v, err := p.and(live, depth)
	for err == nil && p.next("or") {
		var w bool
		w, err = p.and(live && !v, depth)
		v = v || w
	}
	return v, err
}

func (p *expressionParser) and(live bool, depth int) (bool, error) {
	v, err := p.not(live, depth)
	for err == nil && p.next("and") {
		var w bool
		w, err = p.not(live && v, depth)
		v = v && w
	}
	return v, err
}

func (p *expressionParser) not(live bool, depth int) (bool, error) {
	switch {
	case depth > maxExpression || len(p.tokens) == 0:
		p.bad, p.tokens = true, nil
		return false, nil
	case p.next("not"):
		v, err := p.not(live, depth+1)
		return !v, err
	case p.next("("):
		v, err := p.or(live, depth+1)
		if !p.next(")") {
			p.bad = true
		}
		return v, err
	}
	word := p.tokens[0]
	p.tokens = p.tokens[1:]
	if word == ")" || word == "and" || word == "or" {
		p.bad = true
		return false, nil
	}
	if !live || p.bad {
		return false, nil
	}
	return p.eval(word)
}
