// Client calls the services that are listed here: by hand, with commands, and as a service of its
// own that keeps steady traffic going and verifies every answer. How a service is called is in the
// folder of its name.
package main

import (
	"os"

	"example.com/quartet"
	"example.com/quartet/client/channel"
	"example.com/quartet/client/echo"
	"example.com/quartet/client/object"
	"example.com/quartet/internal/cli"
)

// version is set by the linker.
var version = "dev"

var services = []cli.Service{
	echo.Service(),
	object.Service(),
	channel.Service(),
}

func main() {
	program := cli.Program{
		Identity: quartet.Identity,
		Version:  version,
		About:    "Calls services in the four modes of gRPC.",
		Contract: quartet.Contract,
		Services: services,
	}
	os.Exit(program.Main(os.Args, os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}
