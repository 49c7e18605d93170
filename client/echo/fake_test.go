package echo

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// fake is a server that answers by the contract, unless a test has a stream answered otherwise.
type fake struct {
	quartetv1.UnimplementedEchoServiceServer

	// mistake changes what is sent back; nil for nothing.
	mistake func(string) string
	// expand, collect and chat answer in place of the fake. n counts the streams of the kind, from 1.
	expand  func(n int, r *quartetv1.ExpandRequest, s grpc.ServerStreamingServer[quartetv1.ExpandResponse]) error
	collect func(n int, s grpc.ClientStreamingServer[quartetv1.CollectRequest, quartetv1.CollectResponse]) error
	chat    func(n int, s grpc.BidiStreamingServer[quartetv1.ChatRequest, quartetv1.ChatResponse]) error

	streams atomic.Int32
}

// start has the fake listen and returns where it is.
func (f *fake) start(t *testing.T) string {
	t.Helper()
	address, _ := clienttest.Serve(t, "", func(r grpc.ServiceRegistrar) { quartetv1.RegisterEchoServiceServer(r, f) })
	return address
}

// client starts the fake and makes a client of it, which is connected and gives up soon.
func (f *fake) client(t *testing.T) *Client {
	t.Helper()
	return f.clientWith(t, clienttest.FewRetries())
}

func (f *fake) clientWith(t *testing.T, resumption rpc.Resumption) *Client {
	t.Helper()
	conn := clienttest.Dial(t, telemetry.Discard(), f.start(t), descriptor)
	// A stream may count as stalled already while it waits for a connection.
	if err := rpc.WaitReady(clienttest.Deadline(t), conn, nil); err != nil {
		t.Fatal(err)
	}
	return NewClient(conn, Options{Resumption: resumption})
}

func (f *fake) back(text string) string {
	if f.mistake != nil {
		return f.mistake(text)
	}
	return text
}

func (f *fake) Echo(_ context.Context, r *quartetv1.EchoRequest) (*quartetv1.EchoResponse, error) {
	return quartetv1.EchoResponse_builder{Text: f.back(r.GetText())}.Build(), nil
}

func (f *fake) Expand(r *quartetv1.ExpandRequest, s grpc.ServerStreamingServer[quartetv1.ExpandResponse]) error {
	if n := int(f.streams.Add(1)); f.expand != nil {
		return f.expand(n, r, s)
	}
	return f.expandUpTo(1<<30, r, s)
}

// expandUpTo sends at most so many words.
func (f *fake) expandUpTo(most int, r *quartetv1.ExpandRequest, s grpc.ServerStreamingServer[quartetv1.ExpandResponse]) error {
	words := strings.Split(r.GetText(), " ")
	if int(r.GetOffset()) > len(words) {
		return status.Error(codes.OutOfRange, "no such word")
	}
	for i, w := range words[r.GetOffset():] {
		if i == most {
			return errBroken
		}
		if err := s.Send(word(f.back(w), r.GetOffset()+uint32(i))); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) Collect(s grpc.ClientStreamingServer[quartetv1.CollectRequest, quartetv1.CollectResponse]) error {
	if n := int(f.streams.Add(1)); f.collect != nil {
		return f.collect(n, s)
	}
	return f.collectAll(s)
}

func (f *fake) collectAll(s grpc.ClientStreamingServer[quartetv1.CollectRequest, quartetv1.CollectResponse]) error {
	var words []string
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			text := f.back(strings.Join(words, " "))
			return s.SendAndClose(quartetv1.CollectResponse_builder{Text: text, Count: uint32(len(words))}.Build())
		}
		if err != nil {
			return err
		}
		words = append(words, r.GetWord())
	}
}

func (f *fake) Chat(s grpc.BidiStreamingServer[quartetv1.ChatRequest, quartetv1.ChatResponse]) error {
	if n := int(f.streams.Add(1)); f.chat != nil {
		return f.chat(n, s)
	}
	return f.chatUpTo(1<<30, s)
}

// chatUpTo sends so many replies and ends with the message after them.
func (f *fake) chatUpTo(most int, s grpc.BidiStreamingServer[quartetv1.ChatRequest, quartetv1.ChatResponse]) error {
	for replies := 0; ; replies++ {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if replies == most {
			return errBroken
		}
		if err := s.Send(reply(r.GetSequence(), f.back(r.GetText()))); err != nil {
			return err
		}
	}
}

// errBroken is how a stream ends whose server is about to stop.
var errBroken = status.Error(codes.Unavailable, "the server is stopping")

func word(text string, offset uint32) *quartetv1.ExpandResponse {
	return quartetv1.ExpandResponse_builder{Word: text, Offset: offset}.Build()
}

func reply(sequence uint64, text string) *quartetv1.ChatResponse {
	return quartetv1.ChatResponse_builder{Sequence: sequence, Text: text}.Build()
}
