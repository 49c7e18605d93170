package cost

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/test/bench/child"
	"example.com/quartet/test/bench/measure"
)

// Server is the server of one variant, as its parent sees it.
type Server struct {
	address string
	*instruments
}

// Nothing is the argument of a question that needs none.
type Nothing int

// Address is where it listens.
func (s *Server) Address(_ Nothing, answer *string) error {
	*answer = s.address
	return nil
}

// Used is what the process has used so far.
func (s *Server) Used(_ Nothing, answer *measure.Usage) (err error) {
	*answer, err = measure.Used()
	return err
}

// Counts is what its instruments saw so far.
func (s *Server) Counts(_ Nothing, answer *Counts) (err error) {
	*answer, err = s.counts(context.Background())
	return err
}

// serve is the whole life of a server's process.
func serve(v variant) error {
	i, err := v.instrument()
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	options := append([]grpc.ServerOption{grpc.Creds(insecure.NewCredentials())}, i.server...)
	server := grpc.NewServer(options...)
	grpc_testing.RegisterTestServiceServer(server, handlers{})
	go func() { _ = server.Serve(listener) }() // It ends with Stop.
	defer server.Stop()
	return child.Serve(&Server{listener.Addr().String(), i})
}
