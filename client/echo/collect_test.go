package echo

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
)

type collectStream = grpc.ClientStreamingServer[quartetv1.CollectRequest, quartetv1.CollectResponse]

func TestCollectIsRepeatedAsAWhole(t *testing.T) {
	all := count(10)
	for broken := range len(all) + 1 {
		f := &fake{}
		f.collect = func(n int, s collectStream) error {
			if n > 1 {
				return f.collectAll(s)
			}
			for range broken {
				if _, err := s.Recv(); err != nil {
					return err
				}
			}
			return errBroken
		}
		got, err := f.client(t).Collect(clienttest.Deadline(t), all)
		want(t, strings.Split(got, " "), all, err)
		wantStreams(t, f, 2)
	}
}

func TestCollectStopsSendingToAServerThatHasAnswered(t *testing.T) {
	refused := status.Error(codes.InvalidArgument, "too large")
	f := &fake{collect: func(_ int, s collectStream) error { return refused }}
	// More than any window has room for.
	words := slices.Repeat([]string{strings.Repeat("x", 10_000)}, 10_000)
	if _, err := f.client(t).Collect(clienttest.Deadline(t), words); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
	wantStreams(t, f, 1)
}

func TestCollectGivesUp(t *testing.T) {
	for what, test := range map[string]struct {
		resumption rpc.Resumption
		answer     func(collectStream) error
		// least is how many streams reach the server: one that stalls may have been cut before.
		least int32
	}{
		"a server that breaks": {clienttest.FewRetries(), func(collectStream) error { return errBroken }, 3},
		"a server that hangs": {clienttest.CutSoon(), func(s collectStream) error {
			<-s.Context().Done()
			return s.Context().Err()
		}, 1},
	} {
		t.Run(what, func(t *testing.T) {
			f := &fake{collect: func(_ int, s collectStream) error { return test.answer(s) }}
			_, err := f.clientWith(t, test.resumption).Collect(clienttest.Deadline(t), []string{"a"})
			if !errors.Is(err, rpc.ErrGaveUp) || !strings.Contains(err.Error(), "after 3 tries") {
				t.Errorf("got %v", err)
			}
			if got := f.streams.Load(); got < test.least || got > 3 {
				t.Errorf("%d streams, want 3 at most, and at least %d", got, test.least)
			}
		})
	}
}
