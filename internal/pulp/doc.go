// Package pulp is the vocabulary of the house: the names that every other package shares.
// It knows no database, no HTTP and no plugin. Start with [ID], [Ref] and [Call].
package pulp
