package access

import "granary/internal/rest"

// RoleActions implements [rest.Authoriser].
func (a *Access) RoleActions(*rest.Type) []rest.Action { return nil }
