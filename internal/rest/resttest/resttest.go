// Package resttest helps tests that need an engine but no users.
package resttest

import (
	"context"

	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// Anybody lets everybody do and see everything.
type Anybody struct{}

var _ rest.Authoriser = Anybody{}

// Allow allows.
func (Anybody) Allow(context.Context, *rest.Request) error { return nil }

// Visible hides nothing.
func (Anybody) Visible(context.Context, *rest.Type) (rest.Cond, error) { return rest.Cond{}, nil }

// May allows.
func (Anybody) May(context.Context, string) (bool, error) { return true, nil }

// Created gives no roles.
func (Anybody) Created(context.Context, *db.Tx, *rest.Type, pulp.Ref) error { return nil }

// Deleted has nothing to delete.
func (Anybody) Deleted(context.Context, *db.Tx, pulp.Ref) error { return nil }

// RoleActions returns none.
func (Anybody) RoleActions(*rest.Type) []rest.Action { return nil }
