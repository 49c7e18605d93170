package main

import (
	"context"
	"fmt"
	"net"
	"slices"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// row is an attack.
type row struct {
	name string
	// does says what the attacker does, in a sentence without a subject.
	does string
	load load
	// flood is true for attacks that are nothing but many calls: on few processors those of the
	// neighbour take longer.
	flood bool
	// disk is the size in MiB of the server's file system, if it is to be small, and set what the
	// chart would set for it.
	disk int64
	set  []string
	// keeps says which limit counts the data that stays after the attack, if an honest caller would
	// leave it as well.
	keeps string
	// prepare has the server hold what the attack needs, as much of it as the amount says.
	prepare func(ctx context.Context, t target, amount int) error
	amount  int
	// run attacks until the context ends.
	run func(ctx context.Context, by *attacker)

	// holds is true for rows that are expected to meet the goals: make test tries them with one
	// connection for a moment.
	holds bool
	// refused is true if the attacker is told that it takes more than its share, which then is wanted
	// in make test.
	refused bool
	// worst is true for the few rows that are tried in a cluster too.
	worst bool
}

// load is how many connections the attacker has, and how many calls at once on each.
type load struct{ connections, streams int }

func (l load) String() string { return fmt.Sprintf("%d × %d", l.connections, l.streams) }

// or takes what is zero from another load.
func (l load) or(other load) load {
	if l.connections == 0 {
		l.connections = other.connections
	}
	if l.streams == 0 {
		l.streams = other.streams
	}
	return l
}

// target is a server: the addresses of its ports.
type target struct{ GRPC, Probe, HTTP, Web string }

// service is what attacks have to know of a service, and what its rows are. Each has files of its
// own, one of which registers it: deleting them deletes its rows.
type service struct {
	name string
	// unary is a method that takes one message; streams are those that take several, and keep nothing
	// for one that is silent.
	unary   string
	streams []string
	rows    []row
	// neighbour is what a quiet caller does with the service.
	neighbour neighbourly
}

// neighbourly is what a quiet caller does: lookups, which are timed, and the rest. Any of it may be
// nil.
type neighbourly struct {
	// prepare makes what is looked up.
	prepare func(ctx context.Context, conn *grpc.ClientConn) error
	lookup  func(ctx context.Context, conn *grpc.ClientConn) error
	steady  []steady
}

// services are those that are registered, in the order of their files.
var services []service

// register is called to initialize a variable, so that a service needs no line outside its own
// files.
func register(s service) service {
	services = append(services, s)
	return s
}

// allRows are those of the host and of its services.
func allRows() []row {
	rows := slices.Concat(wireRows, portRows, webRows)
	for _, s := range services {
		rows = append(rows, s.rows...)
	}
	return rows
}

// unaryMethods and streamMethods are those of all services, or else what every server has.
func unaryMethods() (methods []string) {
	for _, s := range services {
		if s.unary != "" {
			methods = append(methods, s.unary)
		}
	}
	if methods == nil {
		methods = []string{healthpb.Health_Check_FullMethodName}
	}
	return methods
}

func streamMethods() (methods []string) {
	for _, s := range services {
		methods = append(methods, s.streams...)
	}
	if methods == nil {
		methods = []string{healthpb.Health_Watch_FullMethodName}
	}
	return methods
}

// local is an address of this machine to call from, or none if the server is elsewhere.
func (t target) local(address string) string {
	host, _, err := net.SplitHostPort(t.GRPC)
	if ip := net.ParseIP(host); err != nil || !ip.IsLoopback() || ip.To4() == nil {
		return ""
	}
	return address
}
