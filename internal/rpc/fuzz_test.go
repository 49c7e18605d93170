package rpc

import (
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	spb "google.golang.org/genproto/googleapis/rpc/status"
)

// FuzzServiceConfig sets deadlines of unary calls: gRPC takes every service config that is made
// with one that the configuration accepts.
func FuzzServiceConfig(f *testing.F) {
	for _, timeout := range []time.Duration{0, -1, 1, time.Second, time.Second/3 + 1, 1<<63 - 1,
		123456789012345678} {
		f.Add(int64(timeout))
	}
	services := []protoreflect.ServiceDescriptor{
		grpc_testing.File_grpc_testing_test_proto.Services().ByName("TestService"),
	}
	f.Fuzz(func(t *testing.T, timeout int64) {
		cfg := defaults().client
		cfg.UnaryTimeout = time.Duration(timeout)
		if cfg.Validate() != nil {
			return
		}
		conn, err := grpc.NewClient("passthrough:///host:1",
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultServiceConfig(serviceConfig(services, cfg.UnaryTimeout)))
		if err != nil {
			t.Fatalf("UNARY_TIMEOUT=%v: %v", cfg.UnaryTimeout, err)
		}
		_ = conn.Close()
	})
}

// FuzzRetryPolicy has a server end calls with any status: what it asks for keeps a client from
// trying again for 30 s at most, and a server is busy only if it asks to come back.
func FuzzRetryPolicy(f *testing.F) {
	for _, err := range []error{
		Overloaded("full"), Stopping("bye"), RetryAfter(8, "", "R", -time.Hour),
		RetryAfter(8, "", "R", 1<<63-1),
	} {
		encoded, err := proto.Marshal(status.Convert(err).Proto())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		var answer spb.Status
		if proto.Unmarshal(encoded, &answer) != nil {
			return
		}
		err := status.ErrorProto(&answer)
		delay := RetryDelay(err)
		if delay < 0 || delay > maxDelay || IsBusy(err) && delay == 0 {
			t.Errorf("%v has a client wait for %v", &answer, delay)
		}
		_ = Reason(err)
		if err != nil && (Resumption{}).mayRetry(Final(err)) {
			t.Errorf("%v is tried again though it is final", &answer)
		}
	})
}
