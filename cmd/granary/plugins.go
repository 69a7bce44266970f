package main

import (
	"granary/internal/plugin"
	"granary/plugins/certguard"
	"granary/plugins/file"
)

// plugins lists what is built in; it is the only place that knows every plugin.
func plugins() []plugin.Plugin {
	return []plugin.Plugin{
		certguard.Plugin(),
		file.Plugin(),
	}
}
