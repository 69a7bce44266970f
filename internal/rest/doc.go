// Package rest is the engine behind the REST API: a resource is declared once, as a Go struct and a short
// description, and its table access, JSON, validation, filters, hrefs, routes and part of the OpenAPI document
// follow from it.
//
// Start with [Resource], which is what a plugin writes, and [Engine], which serves what was declared.
// Structs use the tag `api:"name,flag,…"`; [Field] lists the flags.
package rest
