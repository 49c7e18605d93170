package e2e

var _ = register(service{
	name:            "echo",
	clusteredValues: "client.config.ECHO_TRAFFIC_ECHOES=30",
})
