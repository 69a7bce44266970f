// Package openpgp is the core's keyrings: repositories of OpenPGP public keys, packet by packet, and the distributions that
// give the keys away. It is built like a plugin, but its types are the core's, and so are its tables.
package openpgp

import (
	"granary/internal/content"
	"granary/internal/plugin"
	"granary/internal/repository"
	"granary/internal/rest"
)

// pulpType is the name of keyrings and of their distributions within their families.
const pulpType = "core.openpgp"

// Plugin describes the keyrings.
func Plugin() plugin.Plugin {
	return plugin.Plugin{Name: "core", New: func(h plugin.Host) plugin.Parts { return newKeyrings(h).parts() }}
}

// keyrings are they within one server.
type keyrings struct {
	plugin.Host
	keys          unit[PublicKey]
	subkeys       unit[Subkey]
	userIDs       unit[UserID]
	attributes    unit[Attribute]
	signatures    unit[Signature]
	keyrings      rest.Typed[Keyring]
	keyringType   *repository.RepositoryType
	distributions rest.Typed[Distribution]
}

// A unit is a type of content.
type unit[T any] struct {
	rest.Typed[T]
	content *repository.ContentType
}

func newKeyrings(h plugin.Host) *keyrings {
	k := &keyrings{Host: h}
	k.keys = k.defineKeys()
	k.subkeys = k.defineSubkeys()
	k.userIDs = k.defineUserIDs()
	k.attributes = k.defineAttributes()
	k.signatures = k.defineSignatures()
	k.keyrings, k.keyringType = k.defineKeyrings()
	k.distributions = k.defineDistributions()
	return k
}

func (k *keyrings) parts() plugin.Parts {
	return plugin.Parts{
		Types: []*rest.Type{
			k.keys.Type, k.subkeys.Type, k.userIDs.Type, k.attributes.Type, k.signatures.Type,
			k.keyrings.Type, k.keyringType.Versions(), k.distributions.Type,
		},
		Serving: map[string]content.Serving{pulpType: {Handle: k.serve, Listing: k.list}},
	}
}
