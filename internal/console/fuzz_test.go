package console_test

import (
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
)

// FuzzFrames sends two texts over the WebSocket of a call: the console ends the call with a status
// that is not the fault of the console or the server, unless the server was asked for one.
func FuzzFrames(f *testing.F) {
	begin := `{"type": "start", "method": "` + service + `FullDuplexCall"`
	for _, frames := range [][2]string{
		{begin + `}`, `{"type": "message", "message": {"payload": {"body": "AAAA"}}}`},
		{begin + `, "messages": -1}`, `{"type": "more", "messages": 9223372036854775807}`},
		{begin + `, "messages": 1, "resume": true}`, `{"type": "half_close"}`},
		{begin + `, "deadline": "1ns", "metadata": [["x-a", "b"], ["a-bin", "!"]]}`, `{"type": "cancel"}`},
		{begin + `, "messages": 1e99}`, `[]`},
		{`{"type": "start", "method": "/"}`, `null`},
		{`{"type": "start", "method": "` + service + `UnaryCall"}`, `{"type": "message", "message": {"nonsense": 1}}`},
	} {
		f.Add(frames[0], frames[1])
	}
	s := start(f)
	f.Fuzz(func(t *testing.T, first, second string) {
		var p *page
		eventually(t, "a connection beside those of before, which are closed", func() bool {
			var err error
			p, _, err = s.dial(t, nil)
			return err == nil
		})
		for _, text := range []string{first, second, `{"type": "cancel"}`} {
			if p.Write(p.ctx, websocket.MessageText, []byte(text)) != nil {
				break // The call has ended.
			}
		}
		for {
			e, err := p.read()
			if err != nil {
				t.Fatalf("%q and %q: no status, but %v", first, second, err)
			}
			if e.Type != "status" {
				continue
			}
			switch e.Status.Code {
			case codes.Internal, codes.Unknown, codes.DataLoss, codes.Unavailable:
				if strings.Contains(first+second, "tatus") {
					return
				}
				t.Errorf("%q and %q: %+v", first, second, e)
			default: // The bridge or the server says what is wrong with the frames.
			}
			return
		}
	})
}
