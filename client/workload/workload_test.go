package workload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

func wantVerdicts(t *testing.T, w *Workload, mode string, good, bad float64) {
	t.Helper()
	if g, b := counted(w, mode); g != good || b != bad {
		t.Errorf("%s: %v good and %v bad, expected %v and %v", mode, g, b, good, bad)
	}
}

func TestRightAnswersAreGood(t *testing.T) {
	_, w, _ := newTest(t, Config{Lookups: 1})
	if err := w.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	speaker := newSpeaker(w)
	for mode, operation := range map[string]func(context.Context) error{
		unary: w.lookUp, serverStream: w.download, clientStream: w.uploadNext, bidi: speaker.say,
	} {
		for range 3 {
			(&judge{workload: w, mode: mode, counters: w.counters[mode]}).try(operation)
		}
		wantVerdicts(t, w, mode, 3, 0)
	}
	speaker.leave(t.Context())
}

func TestWrongAnswersAreBad(t *testing.T) {
	tests := []struct {
		name, mode string
		twist      func(*fake)
		operation  func(*Workload) func(context.Context) error
	}{
		{"size", unary, func(f *fake) {
			f.twistObject = func(o *quartetv1.Object) { o.SetSizeBytes(o.GetSizeBytes() + 1) }
		}, lookUp},
		{"crc", unary, func(f *fake) {
			f.twistObject = func(o *quartetv1.Object) { o.SetCrc32C(o.GetCrc32C() ^ 1) }
		}, lookUp},
		{"another object", unary, func(f *fake) {
			f.twistObject = func(o *quartetv1.Object) { o.SetName("other") }
		}, lookUp},
		{"a bit", serverStream, func(f *fake) {
			f.twistBytes = func(b []byte) []byte { b[objectBytes-1] ^= 1; return b }
		}, download},
		{"too short", serverStream, func(f *fake) {
			f.twistBytes = func(b []byte) []byte { return b[:objectBytes-1] }
		}, download},
		{"too long", serverStream, func(f *fake) {
			f.twistBytes = func(b []byte) []byte { return append(b, 0) }
		}, download},
		{"order of bytes", serverStream, func(f *fake) {
			f.twistBytes = func(b []byte) []byte { b[0], b[1000] = b[1000], b[0]; b[1]++; return b }
		}, download},
		{"crc", clientStream, func(f *fake) {
			f.twistObject = func(o *quartetv1.Object) { o.SetCrc32C(o.GetCrc32C() ^ 1) }
		}, upload},
		{"size", clientStream, func(f *fake) {
			f.twistObject = func(o *quartetv1.Object) { o.SetSizeBytes(0) }
		}, upload},
		{"body", bidi, func(f *fake) {
			f.twistReplies = func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse {
				r[0].GetMessage().SetBody([]byte("something else"))
				return r
			}
		}, say},
		{"gap", bidi, func(f *fake) {
			f.twistReplies = func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse {
				r[0].GetMessage().SetPreviousSequence(r[0].GetMessage().GetPreviousSequence() + 1)
				return r
			}
		}, say},
		{"receipt", bidi, func(f *fake) {
			f.twistReplies = func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse {
				r[1].GetReceipt().SetSequence(77)
				return r
			}
		}, say},
	}
	for _, test := range tests {
		t.Run(test.mode+"/"+test.name, func(t *testing.T) {
			f, w, _ := newTest(t, Config{Lookups: 1})
			if err := w.Setup(t.Context()); err != nil {
				t.Fatal(err)
			}
			test.twist(f)
			var last error
			judge := &judge{workload: w, mode: test.mode, counters: w.counters[test.mode]}
			judge.try(func(ctx context.Context) error {
				last = test.operation(w)(ctx)
				return last
			})
			wantVerdicts(t, w, test.mode, 0, 1)
			if !isWrong(last) {
				t.Errorf("is not taken for wrong: %v", last)
			}
		})
	}
}

func lookUp(w *Workload) func(context.Context) error   { return w.lookUp }
func download(w *Workload) func(context.Context) error { return w.download }
func upload(w *Workload) func(context.Context) error   { return w.uploadNext }
func say(w *Workload) func(context.Context) error      { return newSpeaker(w).say }

func TestMessageTwiceIsBad(t *testing.T) {
	f, w, _ := newTest(t, Config{})
	var first *quartetv1.ExchangeResponse
	f.twistReplies = func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse {
		if first == nil {
			first = proto.CloneOf(r[0])
			return r
		}
		// The first message comes in place of the second.
		r[0].GetMessage().SetBody(first.GetMessage().GetBody())
		return r
	}
	speaker := newSpeaker(w)
	judge := &judge{workload: w, mode: bidi, counters: w.counters[bidi]}
	judge.try(speaker.say)
	judge.try(speaker.say)
	wantVerdicts(t, w, bidi, 1, 1)
	if speaker.conversation != nil {
		t.Error("the conversation goes on after a wrong message")
	}
}

// A message may be late because its conversation broke. The next conversation hears it, and must not stumble.
func TestLateMessageOfAnAbandonedConversation(t *testing.T) {
	f, w, _ := newTest(t, Config{Timeout: 200 * time.Millisecond})
	var held *quartetv1.ExchangeResponse
	f.twistReplies = func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse {
		if held == nil {
			held = r[0]
			return nil
		}
		m, late := r[0].GetMessage(), held.GetMessage()
		late.SetPreviousSequence(m.GetPreviousSequence())
		late.SetSequence(m.GetSequence())
		m.SetPreviousSequence(m.GetSequence())
		m.SetSequence(m.GetSequence() + 1)
		r[1].GetReceipt().SetSequence(m.GetSequence())
		return append([]*quartetv1.ExchangeResponse{held}, r...)
	}
	speaker := newSpeaker(w)
	judge := &judge{workload: w, mode: bidi, counters: w.counters[bidi]}
	judge.try(speaker.say)
	wantVerdicts(t, w, bidi, 0, 1)
	judge.try(speaker.say)
	wantVerdicts(t, w, bidi, 1, 1)
	speaker.close()
}

func TestUnheardMessageWithReceiptIsWrong(t *testing.T) {
	f, w, _ := newTest(t, Config{})
	f.twistReplies = func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse { return r[1:] }
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := newSpeaker(w).say(ctx); !isWrong(err) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestLostObjectIsBadOnce(t *testing.T) {
	_, w, _ := newTest(t, Config{})
	judge := &judge{workload: w, mode: unary, counters: w.counters[unary]}
	judge.try(w.lookUp)
	wantVerdicts(t, w, unary, 0, 1)
	judge.try(w.lookUp)
	wantVerdicts(t, w, unary, 1, 1)
}

func TestAllCountersAreThereFromTheStart(t *testing.T) {
	_, _, registry := newTest(t, Config{})
	if n, err := testutil.GatherAndCount(registry, "quartet_workload_operations_total"); n != 8 || err != nil {
		t.Errorf("%d counters, %v", n, err)
	}
}

func TestRunCountsAndCleansUp(t *testing.T) {
	f, w, _ := newTest(t, Config{Lookups: 500, Downloads: 500, Uploads: 500, Messages: 500})
	if err := w.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	go func() {
		for ctx.Err() == nil {
			all := true
			for mode := range w.counters {
				good, _ := counted(w, mode)
				all = all && good >= 5
			}
			if all {
				stop()
			}
			time.Sleep(time.Millisecond) // Between two looks at the counters, not for luck.
		}
	}()
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for mode := range w.counters {
		if good, bad := counted(w, mode); good < 5 || bad > 0 {
			t.Errorf("%s: %v good, %v bad", mode, good, bad)
		}
	}
	if len(f.objects) > 0 {
		t.Errorf("left behind: %v", f.objects)
	}
}

func TestOperationsUnderWayMayEnd(t *testing.T) {
	f, w, _ := newTest(t, Config{Lookups: 1000})
	f.hold = make(chan struct{})
	if err := w.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	f.hold <- struct{}{} // One has come through, and
	f.hold <- struct{}{} // the next is here.
	stop()
	close(f.hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if good, bad := counted(w, unary); good < 2 || bad > 0 {
		t.Errorf("%v good, %v bad", good, bad)
	}
}

func TestCutOperationsAreNotCounted(t *testing.T) {
	f, w, _ := newTest(t, Config{Lookups: 1000})
	f.hold = make(chan struct{})
	if err := w.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	f.hold <- struct{}{}
	stop()
	w.Cut()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, bad := counted(w, unary); bad > 0 {
		t.Errorf("%v bad", bad)
	}
}

func TestContentIsReproducible(t *testing.T) {
	c := newContent(7, objectBytes)
	all, err := io.ReadAll(c.reader())
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(c.reader(), all); err != nil {
		t.Error(err)
	}
	if other, _ := io.ReadAll(newContent(8, objectBytes).reader()); bytes.Equal(all, other) {
		t.Error("two seeds give one content")
	}
}

func TestConfigValidate(t *testing.T) {
	good := Config{Lookups: 5, ObjectBytes: 1, Timeout: time.Second}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]Config{
		"negative rate": {Lookups: -1, ObjectBytes: 1, Timeout: 1},
		"huge rate":     {Messages: 1e9, ObjectBytes: 1, Timeout: 1},
		"no bytes":      {Timeout: 1},
		"no time":       {ObjectBytes: 1},
	} {
		if bad.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
