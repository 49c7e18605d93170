package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errSorry = errors.New("the service is sorry")

// service answers in each mode with what it is sent.
type service struct {
	grpc_testing.UnimplementedTestServiceServer
	draining <-chan struct{}
	// entered has a value for each stream whose handler has begun, if it is not nil; a stream that is
	// held waits for release.
	entered, release chan struct{}
	// named says that the payload of a request is the name of a book.
	named bool
}

func (s *service) permit(ctx context.Context, name *grpc_testing.Payload) error {
	if !s.named {
		return nil
	}
	return rpc.PermitName(ctx, "book", string(name.GetBody()))
}

// UnaryCall fails if it is asked for a status, waits for its deadline if it is asked for a user
// name, and else returns the payload, or one of the size that it is asked for.
func (s *service) UnaryCall(
	ctx context.Context, r *grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	if err := s.permit(ctx, r.GetPayload()); err != nil {
		return nil, err
	}
	switch {
	case r.GetResponseStatus().GetCode() != 0:
		return nil, fmt.Errorf("%w: %s", errSorry, r.GetResponseStatus().GetMessage())
	case r.GetFillUsername():
		<-ctx.Done()
		return nil, ctx.Err()
	case r.GetResponseSize() > 0:
		return &grpc_testing.SimpleResponse{Payload: payload(int(r.GetResponseSize()))}, nil
	}
	return &grpc_testing.SimpleResponse{Payload: r.GetPayload()}, nil
}

// StreamingOutputCall sends a message for each of the sizes, holds the stream after the first one
// if the test does, and fails if it is asked for a status.
func (s *service) StreamingOutputCall(r *grpc_testing.StreamingOutputCallRequest,
	stream grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse]) error {
	if err := s.permit(stream.Context(), r.GetPayload()); err != nil {
		return err
	}
	for i, parameters := range r.GetResponseParameters() {
		if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: payload(int(parameters.GetSize()))}); err != nil {
			return err
		}
		if i == 0 {
			if err := s.hold(stream.Context()); err != nil {
				return err
			}
		}
	}
	if r.GetResponseStatus().GetCode() != 0 {
		return fmt.Errorf("%w: %s", errSorry, r.GetResponseStatus().GetMessage())
	}
	return nil
}

func (s *service) hold(ctx context.Context) error {
	if s.entered == nil {
		return nil
	}
	s.entered <- struct{}{}
	select {
	case <-s.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *service) StreamingInputCall(stream grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
	if err := s.hold(stream.Context()); err != nil {
		return err
	}
	size := 0
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: int32(size)})
		}
		if err != nil {
			return err
		}
		size += len(request.GetPayload().GetBody())
	}
}

// FullDuplexCall ends with the drain, as a stream that would not end by itself has to.
func (s *service) FullDuplexCall(stream grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
	requests := rpc.Receive(stream.Context(), stream.Recv)
	for {
		select {
		case <-s.draining:
			return rpc.Stopping("bye")
		case request := <-requests:
			if errors.Is(request.Err, io.EOF) {
				return nil
			}
			if request.Err != nil {
				return request.Err
			}
			if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: request.Message.GetPayload()}); err != nil {
				return err
			}
		}
	}
}

func payload(size int) *grpc_testing.Payload {
	return &grpc_testing.Payload{Body: bytes.Repeat([]byte("x"), size)}
}

// start starts a server with a web port.
func start(t testing.TB, s *service, environ ...string) *apptest.Server {
	t.Helper()
	return startWith(t, telemetry.Discard(), s, environ...)
}

func startWith(
	t testing.TB, tel *telemetry.Telemetry, s *service, environ ...string,
) *apptest.Server {
	t.Helper()
	guest := app.Service{Name: "guest",
		Open: func(_ context.Context, host app.Host) (app.Opened, error) {
			s.draining = host.Draining
			return app.Opened{Service: rpc.Service{
				Register:     func(r grpc.ServiceRegistrar) { grpc_testing.RegisterTestServiceServer(r, s) },
				Errors:       rpc.ErrorTable{Rules: []rpc.ErrorRule{{Is: errSorry, Code: 9, Reason: "SORRY"}}},
				MessageBytes: map[string]int{"UnaryCall": 100_000},
				NameKinds:    []string{"book"},
			}}, nil
		}}
	return apptest.Start(t, tel, []app.Service{guest},
		append([]string{"TEST_WEB_ADDRESS=127.0.0.1:0"}, environ...)...)
}

// over is an HTTP client for one version of HTTP, from an address of its own.
func over(t testing.TB, h2c bool, from string) *http.Client {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(!h2c)
	protocols.SetUnencryptedHTTP2(h2c)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{Protocols: &protocols, DialContext: dialer.DialContext,
		DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

const (
	local    = "127.0.0.1"
	methods  = "/grpc.testing.TestService/"
	unary    = methods + "UnaryCall"
	download = methods + "StreamingOutputCall"
	upload   = methods + "StreamingInputCall"
	talk     = methods + "FullDuplexCall"
)

// protocol is a way in which a client speaks.
type protocol struct {
	name    string
	h2c     bool
	options []connect.ClientOption
}

var protocols = []protocol{
	{"Connect binary, HTTP 1.1", false, nil},
	{"Connect binary, h2c", true, nil},
	{"Connect JSON, HTTP 1.1", false, []connect.ClientOption{connect.WithProtoJSON()}},
	{"Connect JSON, h2c", true, []connect.ClientOption{connect.WithProtoJSON()}},
	{"gRPC-Web, HTTP 1.1", false, []connect.ClientOption{connect.WithGRPCWeb()}},
	{"gRPC-Web, h2c", true, []connect.ClientOption{connect.WithGRPCWeb()}},
	{"gRPC-Web JSON, HTTP 1.1", false,
		[]connect.ClientOption{connect.WithGRPCWeb(), connect.WithProtoJSON()}},
	{"gRPC, h2c", true, []connect.ClientOption{connect.WithGRPC()}},
	{"gRPC JSON, h2c", true, []connect.ClientOption{connect.WithGRPC(), connect.WithProtoJSON()}},
}

func clientOf[Q, S any](
	t *testing.T, s *apptest.Server, p protocol, method string,
) *connect.Client[Q, S] {
	t.Helper()
	options := append([]connect.ClientOption{connect.WithAcceptCompression("gzip", nil, nil)},
		p.options...)
	return connect.NewClient[Q, S](over(t, p.h2c, local), "http://"+s.Web+method, options...)
}

func unaryClient(
	t *testing.T, s *apptest.Server, p protocol,
) *connect.Client[grpc_testing.SimpleRequest, grpc_testing.SimpleResponse] {
	t.Helper()
	return clientOf[grpc_testing.SimpleRequest, grpc_testing.SimpleResponse](t, s, p, unary)
}

func downloadClient(t *testing.T, s *apptest.Server,
	p protocol) *connect.Client[grpc_testing.StreamingOutputCallRequest,
	grpc_testing.StreamingOutputCallResponse] {
	t.Helper()
	return clientOf[grpc_testing.StreamingOutputCallRequest,
		grpc_testing.StreamingOutputCallResponse](t, s, p, download)
}

// sizes is a request for messages of these sizes.
func sizes(all ...int32) *grpc_testing.StreamingOutputCallRequest {
	request := &grpc_testing.StreamingOutputCallRequest{}
	for _, size := range all {
		request.ResponseParameters = append(request.ResponseParameters,
			&grpc_testing.ResponseParameters{Size: size})
	}
	return request
}

// wantError checks the code of an error and the reason in its details, as connect has them.
func wantError(t *testing.T, err error, code connect.Code, reason string) {
	t.Helper()
	if connect.CodeOf(err) != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	failure := new(connect.Error)
	if errors.As(err, &failure) {
		for _, detail := range failure.Details() {
			value, err := detail.Value()
			if info, ok := value.(interface{ GetReason() string }); ok && err == nil &&
				info.GetReason() == reason {
				return
			}
		}
	}
	if reason != "" {
		t.Fatalf("got %v without the reason %s", err, reason)
	}
}

// post sends a request as curl does.
func post(t *testing.T, client *http.Client, s *apptest.Server, method, contentType string,
	body io.Reader, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(apptest.Deadline(t), http.MethodPost, "http://"+s.Web+method,
		body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(answer)
}

func wantJSON(t *testing.T, text, key, want string) {
	t.Helper()
	var values map[string]any
	if err := json.Unmarshal([]byte(text), &values); err != nil || fmt.Sprint(values[key]) != want {
		t.Errorf("%s is not %s in %q (%v)", key, want, text, err)
	}
}

// ended calls do with the labels of each series of calls that have ended, and their number.
func ended(t *testing.T, s *apptest.Server, do func(labels map[string]string, calls float64)) {
	t.Helper()
	families, err := s.Telemetry.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "grpc_server_handled_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			do(labels, metric.GetCounter().GetValue())
		}
	}
}

// handled is how many calls of a method have ended with a code.
func handled(t *testing.T, s *apptest.Server, method, code string) (sum float64) {
	t.Helper()
	ended(t, s, func(labels map[string]string, calls float64) {
		if labels["grpc_method"] == strings.TrimPrefix(method, methods) && labels["grpc_code"] == code {
			sum += calls
		}
	})
	return sum
}

// logged is telemetry whose log is at debug.
func logged() (*telemetry.Telemetry, *telemetrytest.Log) {
	tel, log := telemetry.Discard(), &telemetrytest.Log{}
	tel.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return tel, log
}

// failures are the calls of methods which count as failures of the server: those that ended with a
// code which objectives count, and by the fault of nothing else.
func failures(t *testing.T, s *apptest.Server) (found []string) {
	t.Helper()
	ended(t, s, func(labels map[string]string, calls float64) {
		switch labels["grpc_code"] {
		case "Unknown", "DeadlineExceeded", "Unimplemented", "Internal", "Unavailable", "DataLoss",
			"ResourceExhausted":
			if labels["grpc_fault"] == "" && labels["grpc_service"] != "other" && calls > 0 {
				found = append(found, fmt.Sprint(labels["grpc_method"], " ", labels["grpc_code"]))
			}
		}
	})
	return found
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen within a minute: %s", what)
		}
	}
}
