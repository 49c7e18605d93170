package echo

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/server/echo/text"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts the host with this service alone. The client has none of the comforts of ours.
func start(t *testing.T) (*apptest.Server, quartetv1.EchoServiceClient) {
	t.Helper()
	s := apptest.Start(t, telemetry.Discard(), []app.Service{Service()})
	return s, quartetv1.NewEchoServiceClient(s.Conn)
}

func expandRequest(text string, offset uint32) *quartetv1.ExpandRequest {
	return quartetv1.ExpandRequest_builder{Text: text, Offset: offset}.Build()
}

// expand returns the words that come, which have to be numbered in their order.
func expand(t *testing.T, client quartetv1.EchoServiceClient, text string, offset uint32) ([]string, error) {
	t.Helper()
	stream, err := client.Expand(apptest.Deadline(t), expandRequest(text, offset))
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return words, nil
		}
		if err != nil {
			return words, err
		}
		if response.GetOffset() != offset+uint32(len(words)) {
			t.Errorf("word %d has the offset %d", len(words), response.GetOffset())
		}
		words = append(words, response.GetWord())
	}
}

func collect(t *testing.T, client quartetv1.EchoServiceClient, words ...string) (*quartetv1.CollectResponse, error) {
	t.Helper()
	stream, err := client.Collect(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range words {
		if err := stream.Send(quartetv1.CollectRequest_builder{Word: word}.Build()); err != nil {
			break // The answer says why.
		}
	}
	return stream.CloseAndRecv()
}

// chat sends messages from a sequence on, and returns the replies as text.
func chat(t *testing.T, client quartetv1.EchoServiceClient, messages ...*quartetv1.ChatRequest) (string, error) {
	t.Helper()
	stream, err := client.Chat(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			break // The answer says why.
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for i := 0; ; i++ {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return got.String(), nil
		}
		if err != nil {
			return got.String(), err
		}
		if response.GetSequence() != messages[i].GetSequence() {
			t.Errorf("reply %d has the sequence %d", i, response.GetSequence())
		}
		got.WriteString(response.GetText())
	}
}

func message(sequence uint64, text string) *quartetv1.ChatRequest {
	return quartetv1.ChatRequest_builder{Sequence: sequence, Text: text}.Build()
}

func TestTheFourModes(t *testing.T) {
	_, client := start(t)
	t.Run("unary: the text comes back", func(t *testing.T) {
		got, err := client.Echo(apptest.Deadline(t), quartetv1.EchoRequest_builder{Text: "héllo"}.Build())
		if err != nil || got.GetText() != "héllo" {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("server streaming: the text comes back word by word", func(t *testing.T) {
		if got, err := expand(t, client, "one two three", 0); err != nil || strings.Join(got, "|") != "one|two|three" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("client streaming: the words come back as a text", func(t *testing.T) {
		if got, err := collect(t, client, "one", "two", "three"); err != nil || got.GetText() != "one two three" || got.GetCount() != 3 {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("bidirectional: each message comes back", func(t *testing.T) {
		if got, err := chat(t, client, message(7, "a"), message(8, "b"), message(9, "c")); err != nil || got != "abc" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestExpandGoesOnFromAnOffset(t *testing.T) {
	_, client := start(t)
	for offset, want := range []string{"a|b|c", "b|c", "c", ""} {
		if got, err := expand(t, client, "a b c", uint32(offset)); err != nil || strings.Join(got, "|") != want {
			t.Errorf("from %d: got %q, %v", offset, got, err)
		}
	}
	for _, offset := range []uint32{4, 1<<32 - 1} {
		_, err := expand(t, client, "a b c", offset)
		apptest.WantStatus(t, err, codes.OutOfRange, "OUT_OF_RANGE")
	}
}

func TestEmptyStreamsAreAnswered(t *testing.T) {
	_, client := start(t)
	if got, err := collect(t, client); err != nil || got.GetText() != "" || got.GetCount() != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := chat(t, client); err != nil || got != "" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestATextAboveTheLimitIsRefusedInFourModes(t *testing.T) {
	_, client := start(t)
	large := strings.Repeat("x", text.MaxBytes+1)
	for mode, call := range map[string]func(t *testing.T) error{
		"unary": func(t *testing.T) error {
			_, err := client.Echo(apptest.Deadline(t), quartetv1.EchoRequest_builder{Text: large}.Build())
			return err
		},
		"server streaming": func(t *testing.T) error { _, err := expand(t, client, large, 0); return err },
		"client streaming": func(t *testing.T) error { _, err := collect(t, client, large[1:], "x"); return err },
		"bidirectional":    func(t *testing.T) error { _, err := chat(t, client, message(1, large)); return err },
	} {
		t.Run(mode, func(t *testing.T) {
			apptest.WantStatus(t, call(t), codes.InvalidArgument, "TEXT_TOO_LARGE")
		})
	}
}

func TestAMessageOutOfOrderIsRefused(t *testing.T) {
	_, client := start(t)
	for name, second := range map[string]uint64{"the same": 5, "one before": 4, "one left out": 7} {
		t.Run(name, func(t *testing.T) {
			got, err := chat(t, client, message(5, "a"), message(second, "b"))
			apptest.WantStatus(t, err, codes.InvalidArgument, "MESSAGE_ORDER")
			if got != "a" {
				t.Errorf("before it came %q", got)
			}
		})
	}
	if got, err := chat(t, client, message(1<<64-1, "a"), message(0, "b")); err != nil || got != "ab" {
		t.Errorf("over the highest sequence: got %q, %v", got, err)
	}
}

// TestADrainTellsEveryStream has streams that would not end by themselves: one whose client does
// not send, one whose client does not read, and one whose client does neither.
func TestADrainTellsEveryStream(t *testing.T) {
	s, client := start(t)
	ctx := apptest.Deadline(t)
	ends := map[string]func() error{}
	collecting, err := client.Collect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := collecting.Send(quartetv1.CollectRequest_builder{Word: "a"}.Build()); err != nil {
		t.Fatal(err)
	}
	ends["client streaming"] = func() error { return collecting.RecvMsg(&quartetv1.CollectResponse{}) }
	chatting, err := client.Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := chatting.Send(message(1, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := chatting.Recv(); err != nil {
		t.Fatal(err)
	}
	ends["bidirectional"] = func() error { _, err := chatting.Recv(); return err }
	// That the chat was answered says nothing of the other stream.
	apptest.Eventually(t, func() bool { return inFlight(t, s, "Collect") == 1 }, func() string { return "the server has not begun to collect" })

	ended := make(chan error, 1)
	go func() { ended <- s.Stop() }()
	for mode, end := range ends {
		t.Run(mode, func(t *testing.T) {
			err := end()
			apptest.WantStatus(t, err, codes.Unavailable, "STOPPING")
			if rpc.RetryDelay(err) <= 0 {
				t.Errorf("%v does not say when to come back", err)
			}
		})
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// inFlight is how many calls of a method the server works on.
func inFlight(t *testing.T, s *apptest.Server, method string) float64 {
	t.Helper()
	families, err := s.Telemetry.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if family.GetName() == "grpc_server_in_flight" && label.GetName() == "grpc_method" && label.GetValue() == method {
					return m.GetGauge().GetValue()
				}
			}
		}
	}
	return 0
}

func TestACallThatIsCancelledEndsItsStream(t *testing.T) {
	s, client := start(t)
	ctx, cancel := context.WithCancel(apptest.Deadline(t))
	stream, err := client.Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(message(1, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	apptest.Eventually(t, func() bool { return inFlight(t, s, "Chat") == 0 }, func() string { return "the server goes on" })
}
