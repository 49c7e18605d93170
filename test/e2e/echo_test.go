package e2e

import "testing"

var _ = register(service{
	name: "echo",
	embedded: func(e *embedded) []promise {
		return []promise{
			{"connect-web, grpc-js and curl get the same answers", func(t *testing.T) { callFromBrowsers(t, e) }},
		}
	},
	clusteredValues: "client.config.ECHO_TRAFFIC_ECHOES=30",
})
