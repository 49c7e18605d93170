package web

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/shares"
)

// waiting is a request that has its turn, and waits for its body.
func waiting(
	t *testing.T, all *shares.Shares,
) (its *turn, send io.WriteCloser, received chan error) {
	t.Helper()
	its = &turn{turns: all, ctx: t.Context(), caller: rpc.CallerAt("192.0.2.1:1")}
	if err := its.take(all.Take); err != nil {
		t.Fatal(err)
	}
	body, send := io.Pipe()
	received = make(chan error, 1)
	go func() {
		_, err := (&inTurn{body, its}).Read(make([]byte, 1))
		received <- err
	}()
	return its, send, received
}

// TestARequestThatWaitedForItsBodyTakesAnotherTurn has the turn be another request's when the body
// comes.
func TestARequestThatWaitedForItsBodyTakesAnotherTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := shares.New(0, 1, 0)
		its, send, received := waiting(t, all)
		giveBack, err := all.Take(t.Context(), its.caller, 1) // when the first one's time is over
		if err != nil {
			t.Fatal(err)
		}
		if _, err := send.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(received) != 0 {
			t.Error("the request goes on in the turn of another one")
		}
		giveBack()
		if err := <-received; err != nil {
			t.Error(err)
		}
		if _, ok := all.Try(its.caller, 1); ok {
			t.Error("it goes on without a turn")
		}
		its.end()
		if all.Callers() != 0 {
			t.Error("the turn is not given back")
		}
	})
}

// TestABodyThatIsThereNeedsNoOtherTurn spares requests that come whole the wait.
func TestABodyThatIsThereNeedsNoOtherTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := shares.New(0, 1, 0)
		its, send, received := waiting(t, all)
		if _, err := send.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := <-received; err != nil || all.Waiting() != 0 {
			t.Errorf("got %v, %d wait", err, all.Waiting())
		}
		its.end()
		time.Sleep(2 * turnTime) // The timer of the turn must not give it back again.
	})
}
