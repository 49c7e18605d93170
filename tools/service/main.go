// Command service adds a service with one RPC to the project. `make service` runs it.
//
//	go -C tools run ./service -name Customer -rpc GetCustomer -mode unary
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"example.com/quartet/tools/internal/scaffold"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("service: ")
	var r scaffold.RPC
	project := flag.String("project", "..", "the `folder` of the project")
	flag.StringVar(&r.Service, "name", "", "the `name` of the service: Customer")
	flag.StringVar(
		&r.Name,
		"rpc",
		"",
		"the `name` of its first RPC; by default Get and the name of the service",
	)
	flag.StringVar(&r.Mode, "mode", "unary", "the `mode`: "+strings.Join(scaffold.Modes, ", "))
	flag.Parse()
	// A signal ends the commands that AddService runs, and it takes back what it has written.
	ctx, stop := signal.NotifyContext(
		context.Background(),
		syscall.SIGINT,
		syscall.SIGTERM,
		syscall.SIGHUP,
	)
	if r.Name == "" {
		r.Name = "Get" + strings.TrimSuffix(r.Service, "Service")
	}
	created, err := scaffold.AddService(ctx, *project, r, os.Stderr)
	// Before Fatal, which ends the process without deferred calls.
	stop()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf(
		"New are\n\n  %s\n\nSay in proto/ what %s promises, then in the test, then write it: make generate test.\n",
		strings.Join(created, "\n  "),
		r.Name,
	)
}
