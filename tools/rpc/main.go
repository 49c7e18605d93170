// Command rpc adds an RPC to a service of the project: to its contract, both programs, check and
// the steady traffic, with a test that fails until it says what the RPC promises. `make rpc` runs
// it.
//
//	go -C tools run ./rpc -service Order -name Cancel -mode unary
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
	log.SetPrefix("rpc: ")
	var r scaffold.RPC
	project := flag.String("project", "..", "the `folder` of the project")
	flag.StringVar(&r.Service, "service", "", "the `name` of the service: Order")
	flag.StringVar(&r.Name, "name", "", "the `name` of the RPC: Cancel")
	flag.StringVar(&r.Mode, "mode", "unary", "the `mode`: "+strings.Join(scaffold.Modes, ", "))
	flag.Parse()
	// A signal ends the commands that AddRPC runs, and it takes back what it has written.
	ctx, stop := signal.NotifyContext(
		context.Background(),
		syscall.SIGINT,
		syscall.SIGTERM,
		syscall.SIGHUP,
	)

	created, err := scaffold.AddRPC(ctx, *project, r, os.Stderr)
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
