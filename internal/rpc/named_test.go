package rpc

import (
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/telemetry"
)

func TestACallOfAServiceThatWasNotNamedIsRefusedInTests(t *testing.T) {
	s := defaults()
	r := s.start(t, succeed)
	s.services = []protoreflect.ServiceDescriptor{grpc_testing.File_grpc_testing_test_proto.Services().ByName("UnimplementedService")}
	conn, err := NewClient(s.client, telemetry.Discard(), r.address, s.services)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			err := mode.call(testContext(t), grpc_testing.NewTestServiceClient(conn), 1)
			if status.Code(err) != codes.Internal ||
				!strings.Contains(err.Error(), "grpc.testing.TestService") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSeveralServicesShareOneConnection(t *testing.T) {
	s := defaults()
	s.services = append(s.services,
		grpc_testing.File_grpc_testing_test_proto.Services().ByName("UnimplementedService"))
	r := s.start(t, succeed)
	if _, err := r.stub.UnaryCall(testContext(t), &grpc_testing.SimpleRequest{}); err != nil {
		t.Error(err)
	}
	_, err := grpc_testing.NewUnimplementedServiceClient(r.conn).UnimplementedCall(testContext(t),
		&grpc_testing.Empty{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}

func TestACallOfAServiceThatWasNotNamedIsLoggedOnce(t *testing.T) {
	var log strings.Builder
	n := newNamed(slog.New(slog.NewTextHandler(&log, nil)), nil)
	n.inTest = false
	for range 3 {
		if err := n.check("/shop.v1.OrderService/GetOrder"); err != nil {
			t.Error(err)
		}
	}
	if err := n.check("/grpc.health.v1.Health/Check"); err != nil {
		t.Error(err)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 ||
		!strings.Contains(log.String(), "/shop.v1.OrderService/GetOrder") {
		t.Errorf("logged:\n%s", &log)
	}
}
