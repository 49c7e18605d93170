package channel

import (
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/server/channel/broker"
)

// FuzzEnvelopes has a client begin a conversation with any two messages: the server refuses them
// with a code that says what is wrong with them, never as a fault of its own, or confirms that it
// keeps what was said.
func FuzzEnvelopes(f *testing.F) {
	envelope := func(b quartetv1.ExchangeRequest_builder) []byte {
		encoded, err := proto.Marshal(b.Build())
		if err != nil {
			f.Fatal(err)
		}
		return encoded
	}
	join := func(b quartetv1.Join_builder) []byte {
		return envelope(quartetv1.ExchangeRequest_builder{Join: b.Build()})
	}
	good := join(quartetv1.Join_builder{Channel: "c", Participant: "ada"})
	publish := envelope(quartetv1.ExchangeRequest_builder{Message: quartetv1.SendMessage_builder{
		MessageId: "id", Body: []byte("hello"),
	}.Build()})
	f.Add(good, publish)
	f.Add(publish, good)
	f.Add(good, good)
	f.Add([]byte(nil), []byte(nil))
	f.Add(good, publish[:len(publish)-2])
	f.Add(join(quartetv1.Join_builder{Channel: "a.b *>", Participant: "\x7f"}), publish)
	f.Add(join(quartetv1.Join_builder{
		Channel: "c", Participant: "ada", FromSequence: new(uint64(1 << 63)),
	}), publish)
	f.Add(join(quartetv1.Join_builder{
		Channel: "c", Participant: "ada",
		After: quartetv1.Position_builder{History: "h", Sequence: 9}.Build(),
	}), publish)
	ts := startServer(f, f.TempDir())
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var messages [2]quartetv1.ExchangeRequest
		for i, encoded := range [][]byte{first, second} {
			if proto.Unmarshal(encoded, &messages[i]) != nil {
				return
			}
		}
		stream, err := ts.channels.Exchange(apptest.Deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		for i := range messages {
			if stream.Send(&messages[i]) != nil {
				break // What the server answers says why.
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		said := false
		for {
			reply, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF):
				if messages[1].HasMessage() && !said {
					t.Errorf("%v and %v: the message is gone", &messages[0], &messages[1])
				}
				return
			case status.Code(err) == codes.Internal, status.Code(err) == codes.Unknown:
				t.Fatalf("%v and %v: %v", &messages[0], &messages[1], err)
			case err != nil:
				return
			}
			said = said || reply.HasReceipt() &&
				reply.GetReceipt().GetMessageId() == messages[1].GetMessage().GetMessageId()
		}
	})
}

// FuzzPrefixes expects that prefixes with which the service would start are as the broker takes
// them, and no text makes it panic.
func FuzzPrefixes(f *testing.F) {
	f.Add(`[{"prefix": "shop/", "retention": "24h", "maxBytes": "100MiB"}]`)
	f.Add(`[{"prefix": "shop/", "retention": "24h", "maxBytes": "100MiB"}] []`)
	f.Add(`[{"prefix": "\u0000", "retention": "-1s", "maxBytes": 7}, null]`)
	f.Fuzz(func(t *testing.T, text string) {
		var p Prefixes
		if p.UnmarshalText([]byte(text)) != nil || p.validate(time.Minute) != nil {
			return
		}
		seen := map[string]bool{}
		for _, e := range p {
			if broker.CheckPrefix(e.Name) != nil || seen[e.Name] || e.Retention < time.Minute ||
				e.MaxBytes < int64(minPrefixBytes) {
				t.Errorf("%s is accepted: %+v", text, e)
			}
			seen[e.Name] = true
		}
	})
}
