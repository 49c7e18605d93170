package object

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/test/bench/child"
)

// Server is the server of an anchor, as its parent sees it.
type Server struct {
	address string
	*store
}

// Address is where it listens.
func (s *Server) Address(_ Nothing, answer *string) error {
	*answer = s.address
	return nil
}

// Clean removes what was uploaded.
func (s *Server) Clean(_ Nothing, _ *Nothing) error { return s.clean() }

// serve is the whole life of an anchor's process.
func serve(v variant, folder string) error {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &store{folder: folder}
	answer, err := v.answer(s)
	if err != nil {
		return err
	}
	go func() { _ = answer(listener) }() // It ends with the process.
	return child.Serve(&Server{listener.Addr().String(), s})
}

// answer is what serves an anchor's connections.
func (v variant) answer(s *store) (func(net.Listener) error, error) {
	switch v.kind {
	case kindRaw:
		return rawServer{s}.serve, nil
	case kindH1, kindH2C:
		//nolint:gosec // The only client is a child of the same parent.
		server := &http.Server{Handler: httpHandler{s}, Protocols: protocols(v.kind == kindH2C)}
		return server.Serve, nil
	case kindNaive:
		server := grpc.NewServer()
		grpc_testing.RegisterTestServiceServer(server, &naiveServer{store: s})
		return server.Serve, nil
	case kindBare:
		server, err := newBareServer()
		if err != nil {
			return nil, err
		}
		return server.Serve, nil
	default:
		return nil, fmt.Errorf("%s has no server here", v.name)
	}
}
