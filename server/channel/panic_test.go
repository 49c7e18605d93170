package channel

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

// fragile panics when it decodes or encodes what says so.
type fragile struct{ encoding.CodecV2 }

func (f fragile) Unmarshal(data mem.BufferSlice, v any) error {
	err := f.CodecV2.Unmarshal(data, v)
	request, ok := v.(*quartetv1.ExchangeRequest)
	if ok && (request.GetJoin().GetChannel() == "panic" ||
		string(request.GetMessage().GetBody()) == "panic") {
		panic("decoding")
	}
	return err
}

func (f fragile) Marshal(v any) (mem.BufferSlice, error) {
	reply, ok := v.(*quartetv1.ExchangeResponse)
	if ok && string(reply.GetMessage().GetBody()) == "panic later" {
		panic("encoding")
	}
	return f.CodecV2.Marshal(v)
}

func TestAPanicEndsOneConversationAndNotTheServer(t *testing.T) {
	service := Service()
	open := service.Open
	service.Open = func(ctx context.Context, host app.Host) (app.Opened, error) {
		opened, err := open(ctx, host)
		opened.Codec = fragile{encoding.GetCodecV2("proto")}
		return opened, err
	}
	s := apptest.Start(t, telemetry.Discard(), []app.Service{service},
		"TEST_CHANNEL_DIR="+t.TempDir())
	ts := &testServer{s, quartetv1.NewChannelServiceClient(s.Conn)}
	other := ts.join(t, "elsewhere", "bob", nil)
	for where, requests := range map[string][]*quartetv1.ExchangeRequest{
		"the join":        {joinRequest("panic", "alice", nil)},
		"what is said":    {joinRequest("room", "alice", nil), sendRequest("1", "panic")},
		"what is sent on": {joinRequest("room", "alice", nil), sendRequest("2", "panic later")},
	} {
		t.Run(where, func(t *testing.T) {
			p := ts.exchange(t, requests...)
			var err error
			for err == nil {
				_, err = p.Recv()
			}
			apptest.WantStatus(t, err, codes.Internal, "")
		})
	}
	other.say(t, "3", "still here")
}
