package echo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
)

type expandStream = grpc.ServerStreamingServer[quartetv1.ExpandResponse]

func TestExpandGoesOnBehindTheLastWord(t *testing.T) {
	all := count(10)
	for broken := range len(all) + 1 { // The last one breaks between the last word and the end.
		f := &fake{}
		var second uint32
		f.expand = func(n int, r *quartetv1.ExpandRequest, s expandStream) error {
			if n == 1 {
				return errors.Join(f.expandUpTo(broken, r, s), errBroken)
			}
			second = r.GetOffset()
			return f.expandUpTo(len(all), r, s)
		}
		var got []string
		err := f.client(t).Expand(clienttest.Deadline(t), strings.Join(all, " "), gather(&got))
		want(t, got, all, err)
		wantStreams(t, f, 2)
		if int(second) != broken {
			t.Errorf("after %d words it asked for number %d", broken, second)
		}
	}
}

func TestExpandTakesAnyNumberOfStreamsThatEachBringSomething(t *testing.T) {
	all, f := count(20), &fake{}
	f.expand = func(_ int, r *quartetv1.ExpandRequest, s expandStream) error { return f.expandUpTo(1, r, s) }
	var got []string
	err := f.client(t).Expand(clienttest.Deadline(t), strings.Join(all, " "), gather(&got))
	want(t, got, all, err)
}

func TestExpandGivesUpAServerThatBringsNothing(t *testing.T) {
	f := &fake{expand: func(int, *quartetv1.ExpandRequest, expandStream) error { return errBroken }}
	if err := f.client(t).Expand(clienttest.Deadline(t), "a b", gather(new([]string))); !errors.Is(err, rpc.ErrGaveUp) {
		t.Errorf("got %v", err)
	}
}

func TestExpandDoesNotTakeAnEarlyEndForTheEnd(t *testing.T) {
	f := &fake{}
	f.expand = func(n int, r *quartetv1.ExpandRequest, s expandStream) error {
		if n == 1 {
			return s.Send(word("a", 0))
		}
		return f.expandUpTo(9, r, s)
	}
	var got []string
	err := f.client(t).Expand(clienttest.Deadline(t), "a b", gather(&got))
	want(t, got, []string{"a", "b"}, err)
}

func TestExpandRefusesWordsOutOfOrder(t *testing.T) {
	for what, offsets := range map[string][]uint32{"a gap": {0, 2}, "a word twice": {0, 0}, "not the one asked for": {1}} {
		t.Run(what, func(t *testing.T) {
			f := &fake{expand: func(_ int, _ *quartetv1.ExpandRequest, s expandStream) error {
				for _, offset := range offsets {
					if err := s.Send(word("x", offset)); err != nil {
						return err
					}
				}
				return nil
			}}
			var got []string
			if err := f.client(t).Expand(clienttest.Deadline(t), "a b c", gather(&got)); !errors.Is(err, rpc.ErrProtocol) {
				t.Errorf("got %v", err)
			}
			if len(got) != len(offsets)-1 {
				t.Errorf("passed on %q", got)
			}
			wantStreams(t, f, 1)
		})
	}
}

func TestExpandEndsWithTheErrorOfItsCallback(t *testing.T) {
	for _, mine := range []error{errors.New("mine"), errBroken, context.Canceled} {
		f, calls := &fake{}, 0
		err := f.client(t).Expand(clienttest.Deadline(t), "a b c", func(string) error {
			calls++
			return mine
		})
		if !errors.Is(err, mine) || calls != 1 {
			t.Errorf("got %v after %d calls, want %v", err, calls, mine)
		}
		wantStreams(t, f, 1)
	}
}

func TestExpandCutsAServerThatHangs(t *testing.T) {
	f := &fake{}
	f.expand = func(n int, r *quartetv1.ExpandRequest, s expandStream) error {
		if n == 1 {
			_ = s.Send(word("a", 0))
			<-s.Context().Done()
			return s.Context().Err()
		}
		return f.expandUpTo(9, r, s)
	}
	var got []string
	err := f.clientWith(t, clienttest.CutSoon()).Expand(clienttest.Deadline(t), "a b c", gather(&got))
	want(t, got, []string{"a", "b", "c"}, err)

	f.expand = func(_ int, _ *quartetv1.ExpandRequest, s expandStream) error {
		<-s.Context().Done()
		return s.Context().Err()
	}
	err = f.clientWith(t, clienttest.CutSoon()).Expand(clienttest.Deadline(t), "a", gather(&got))
	if !errors.Is(err, rpc.ErrGaveUp) || !errors.Is(err, rpc.ErrStalled) {
		t.Errorf("got %v", err)
	}
}

func TestExpandDoesNotTakeASlowCallbackForADeadServer(t *testing.T) {
	f := &fake{}
	client := f.clientWith(t, rpc.Resumption{StallTimeout: time.Second})
	var got []string
	err := client.Expand(clienttest.Deadline(t), "a b c", func(word string) error {
		if got = append(got, word); len(got) == 1 {
			return rpc.Sleep(t.Context(), 1200*time.Millisecond)
		}
		return nil
	})
	want(t, got, []string{"a", "b", "c"}, err)
	wantStreams(t, f, 1)
}
