package echo

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
)

type chatStream = grpc.BidiStreamingServer[quartetv1.ChatRequest, quartetv1.ChatResponse]

func TestChatGoesOnWithTheFirstTextWithoutAReply(t *testing.T) {
	all := count(30)
	for replies := 1; replies <= len(all); replies++ {
		f := &fake{}
		f.chat = func(_ int, s chatStream) error { return f.chatUpTo(replies, s) }
		var got []string
		err := f.client(t).Chat(clienttest.Deadline(t), texts(all...), gather(&got))
		want(t, got, all, err)
	}
}

func TestChatGoesOnAfterABreakInASilence(t *testing.T) {
	f := &fake{}
	f.chat = func(n int, s chatStream) error {
		r, err := s.Recv()
		if err != nil {
			return nil // The end.
		}
		return errors.Join(s.Send(reply(r.GetSequence(), fmt.Sprint(r.GetText(), " on stream ", n))), errBroken)
	}
	said := make(chan string, 1)
	said <- "0"
	var got []string
	err := f.client(t).Chat(clienttest.Deadline(t), said, func(text string) error {
		if got = append(got, text); len(got) == 4 {
			close(said)
		} else {
			said <- fmt.Sprint(len(got))
		}
		return nil
	})
	want(t, got, []string{"0 on stream 1", "1 on stream 2", "2 on stream 3", "3 on stream 4"}, err)
}

func TestChatDoesNotWaitForReplies(t *testing.T) {
	all := count(100)
	f := &fake{chat: func(_ int, s chatStream) error {
		var requests []*quartetv1.ChatRequest
		for range all {
			r, err := s.Recv()
			if err != nil {
				return err
			}
			requests = append(requests, r)
		}
		for _, r := range requests {
			if err := s.Send(reply(r.GetSequence(), r.GetText())); err != nil {
				return err
			}
		}
		return nil
	}}
	var got []string
	err := f.client(t).Chat(clienttest.Deadline(t), texts(all...), gather(&got))
	want(t, got, all, err)
	wantStreams(t, f, 1)
}

func TestChatEndsOnceTextsAreClosedAndAllRepliesHaveCome(t *testing.T) {
	var closed atomic.Bool
	f := &fake{}
	f.chat = func(_ int, s chatStream) error {
		err := f.chatUpTo(9, s)
		closed.Store(err == nil)
		return err
	}
	for _, all := range [][]string{{}, {"a"}, {"a", "b"}} {
		closed.Store(false)
		var got []string
		err := f.client(t).Chat(clienttest.Deadline(t), texts(all...), gather(&got))
		if want(t, got, all, err); !closed.Load() {
			t.Error("the server has not seen the end")
		}
	}
}

func TestChatEndsAfterABreakBetweenTheLastReplyAndTheEnd(t *testing.T) {
	f := &fake{}
	f.chat = func(n int, s chatStream) error {
		if err := f.chatUpTo(9, s); err != nil || n > 1 {
			return err
		}
		return errBroken
	}
	var got []string
	err := f.client(t).Chat(clienttest.Deadline(t), texts("a", "b"), gather(&got))
	want(t, got, []string{"a", "b"}, err)
	wantStreams(t, f, 2)
}

func TestChatDoesNotTakeAnEarlyEndForTheEnd(t *testing.T) {
	f := &fake{}
	f.chat = func(n int, s chatStream) error {
		if n > 1 {
			return f.chatUpTo(9, s)
		}
		r, err := s.Recv()
		if err != nil {
			return err
		}
		return s.Send(reply(r.GetSequence(), r.GetText()))
	}
	var got []string
	err := f.client(t).Chat(clienttest.Deadline(t), texts("a", "b"), gather(&got))
	want(t, got, []string{"a", "b"}, err)
}

func TestChatRefusesRepliesOutOfOrder(t *testing.T) {
	for what, answer := range map[string]func(n int, s chatStream) error{
		"a gap": func(_ int, s chatStream) error { return errors.Join(s.Send(reply(0, "a")), s.Send(reply(2, "c"))) },
		"a reply twice": func(_ int, s chatStream) error {
			return errors.Join(s.Send(reply(0, "a")), s.Send(reply(0, "a")))
		},
		"another than the first": func(_ int, s chatStream) error { return s.Send(reply(1, "b")) },
		"a reply to what was not said": func(_ int, s chatStream) error {
			return errors.Join(s.Send(reply(0, "a")), s.Send(reply(1, "b")), s.Send(reply(2, "c")), s.Send(reply(3, "d")))
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := &fake{chat: func(n int, s chatStream) error {
				for range 3 { // All are there, so that only the order is wrong.
					if _, err := s.Recv(); err != nil {
						return err
					}
				}
				return answer(n, s)
			}}
			// The channel is not closed: that there is nothing more to say must not be the reason why it
			// ends.
			said := make(chan string, 3)
			for _, text := range []string{"a", "b", "c"} {
				said <- text
			}
			if err := f.client(t).Chat(clienttest.Deadline(t), said, gather(new([]string))); !errors.Is(err, rpc.ErrProtocol) {
				t.Errorf("got %v", err)
			}
			wantStreams(t, f, 1)
		})
	}
	t.Run("before anything was said", func(t *testing.T) {
		f := &fake{chat: func(_ int, s chatStream) error { return s.Send(reply(0, "a")) }}
		if err := f.client(t).Chat(clienttest.Deadline(t), make(chan string), gather(new([]string))); !errors.Is(err, rpc.ErrProtocol) {
			t.Errorf("got %v", err)
		}
	})
}

func TestChatEndsWithTheErrorOfItsCallback(t *testing.T) {
	for _, mine := range []error{errors.New("mine"), errBroken, context.Canceled} {
		f, calls := &fake{}, 0
		err := f.client(t).Chat(clienttest.Deadline(t), texts("a", "b", "c"), func(string) error {
			calls++
			return mine
		})
		if !errors.Is(err, mine) || calls != 1 {
			t.Errorf("got %v after %d calls, want %v", err, calls, mine)
		}
		wantStreams(t, f, 1)
	}
}

func TestChatEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(clienttest.Deadline(t))
	said := make(chan string, 1)
	said <- "a"
	err := (&fake{}).client(t).Chat(ctx, said, func(string) error {
		cancel()
		return nil
	})
	if status.Code(err) != codes.Canceled && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestChatCutsAServerThatHangsHoweverMuchIsSaid(t *testing.T) {
	f := &fake{chat: func(_ int, s chatStream) error {
		for {
			if _, err := s.Recv(); err != nil {
				return err
			}
		}
	}}
	said, ended := make(chan string), make(chan struct{})
	go func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-ended:
				return
			}
			select {
			case said <- "hello?":
			case <-ended:
				return
			}
		}
	}()
	err := f.clientWith(t, clienttest.CutSoon()).Chat(clienttest.Deadline(t), said, gather(new([]string)))
	close(ended)
	if !errors.Is(err, rpc.ErrGaveUp) || !errors.Is(err, rpc.ErrStalled) {
		t.Errorf("got %v", err)
	}
}

func TestChatCutsAServerThatDoesNotEndIt(t *testing.T) {
	f := &fake{chat: func(_ int, s chatStream) error {
		<-s.Context().Done()
		return s.Context().Err()
	}}
	err := f.clientWith(t, clienttest.CutSoon()).Chat(clienttest.Deadline(t), texts(), gather(new([]string)))
	if !errors.Is(err, rpc.ErrGaveUp) || !errors.Is(err, rpc.ErrStalled) {
		t.Errorf("got %v", err)
	}
}

// Neither a silence nor a slow callback is the server's fault, also while there are texts without a
// reply.
func TestChatDoesNotTakeItsOwnSideForADeadServer(t *testing.T) {
	f := &fake{}
	client := f.clientWith(t, rpc.Resumption{StallTimeout: time.Second})
	said := make(chan string, 4)
	said <- "a"
	said <- "b"
	var got []string
	err := client.Chat(clienttest.Deadline(t), said, func(text string) error {
		switch got = append(got, text); len(got) {
		case 1:
			said <- "c"
			return rpc.Sleep(t.Context(), 1200*time.Millisecond)
		case 3:
			time.AfterFunc(1200*time.Millisecond, func() {
				said <- "d"
				close(said)
			})
		}
		return nil
	})
	want(t, got, []string{"a", "b", "c", "d"}, err)
	wantStreams(t, f, 1)
}
