// Package telemetry tells operators what the server does: log lines as Pulp writes them, access logs, metrics
// and profiles. Start with [NewLogger] and [Observer].
package telemetry
