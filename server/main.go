// Server answers the services that are listed here. What a service does is in the folder of its
// name.
package main

import (
	"os"

	"example.com/quartet"
	"example.com/quartet/internal/app"
	"example.com/quartet/server/channel"
	"example.com/quartet/server/echo"
	"example.com/quartet/server/object"
)

// version is set by the linker.
var version = "dev"

var services = []app.Service{
	echo.Service(),
	object.Service(),
	channel.Service(),
}

func main() {
	server := app.Server{Identity: quartet.Identity, Version: version, Services: services}
	os.Exit(server.Main(os.Args, os.Environ(), os.Stdout, os.Stderr))
}
