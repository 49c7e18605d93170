package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

func TestRingsOfAllChannelsTogetherAreBoundedAndEmptiedInTime(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	const channels, each = 40, 15 // 36 MiB, were all of it kept in rings
	subscriptions := make([]*Subscription, channels)
	for i := range subscriptions {
		name := fmt.Sprint(i)
		subscriptions[i] = subscribe(t, b, name, nil)
		publishMany(t, b, name, each, 60<<10)
		if held := b.rings.Load(); held > ringsBytes+MaxBody+messageOverhead {
			t.Fatalf("rings hold %d bytes", held)
		}
	}
	for _, s := range subscriptions {
		receive(t, s, each)
	}
	eventually(t, "silent channels have no rings", func() bool { return b.rings.Load() == 0 })
	publish(t, b, "0", "ann", "1", "")
	receive(t, subscriptions[0], 1)
	for _, s := range subscriptions {
		s.Close()
	}
	if held := b.rings.Load(); held != 0 {
		t.Errorf("rings of channels that are closed hold %d bytes", held)
	}
}

func TestReadersOfOneCallerLeaveMemoryForOthers(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	sent := publishMany(t, b, "fat", 40, 60<<10)
	open := func(caller string) *Subscription {
		s, err := b.Subscribe(testContext(t), "fat", Start{After: &Position{}, Reader: caller})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	// As many as there is memory for, and each stops in the middle of a batch.
	var stalled []*Subscription
	for range batchesBytes / 2 / batchRoom {
		s := open("greedy")
		receive(t, s, 1)
		stalled = append(stalled, s)
	}
	expectNone(t, open("greedy"))
	receive(t, open("neighbour"), len(sent))
	stalled[0].Close()
	receive(t, open("greedy"), len(sent))
	for _, s := range stalled {
		s.Close()
	}
	eventually(t, "all is given back", func() bool { return b.batches.Callers() == 0 })
}

func TestMessagesWaitForTheirTurnOnceTooManyWouldHaveToBeRemembered(t *testing.T) {
	t.Parallel()
	b := openBroker(t, embeddedURL, Options{Dir: t.TempDir(), DedupWindow: 100 * time.Second})
	messages := b.pace.messages
	if rate, burst := messages.Limit(), messages.Burst(); rate != rememberedIDs/100 ||
		burst != rememberedIDs {
		t.Errorf("%v a second, %d at once", rate, burst)
	}
	messages.AllowN(time.Now(), rememberedIDs)
	begun := time.Now()
	publishMany(t, b, "room", 100, 10)
	if took := time.Since(begun); took < 40*time.Millisecond {
		t.Errorf("100 messages took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	messages.AllowN(time.Now(), 2000)
	if _, err := b.Publish(ctx, "room", Message{Participant: "ann", ID: "x"}); !errors.Is(err,
		context.Canceled) {
		t.Error(err)
	}
}

func TestAMessageWhoseTurnWouldComeAfterItsDeadlineIsTooLateAtOnce(t *testing.T) {
	t.Parallel()
	once := func() *rate.Limiter { return rate.NewLimiter(rate.Every(time.Hour), 1) }
	for name, pace := range map[string]*Pace{
		"messages": {once(), rate.NewLimiter(rate.Inf, 1)},
		"bytes":    {rate.NewLimiter(rate.Inf, 1), once()},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := pace.Wait(ctx, Message{}); err != nil {
			t.Errorf("%s: the first one: %v", name, err)
		}
		if err := pace.Wait(ctx, Message{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: the second one: %v", name, err)
		}
	}
}

func TestBytesHaveAPaceWhereMemoryIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 64 << 20
		pace := newPace(true, time.Minute, limit)
		largest := Message{Body: make([]byte, MaxBody)}
		// A little more than can be in memory at once takes longer than that stays there, and of one
		// caller twice as long.
		for _, test := range []struct {
			pace  *Pace
			bytes int
		}{{pace, limit / blocksPart}, {pace.Half(), limit / blocksPart / 2}} {
			begun := time.Now()
			for sent := 0; sent <= test.bytes; sent += MaxBody + messageOverhead {
				if err := test.pace.Wait(t.Context(), largest); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(begun); took < blockAge || took > 2*blockAge {
				t.Errorf("%d bytes took %v", test.bytes, took)
			}
		}
		begun := time.Now()
		for _, pace := range []*Pace{newPace(true, time.Minute, math.MaxInt64),
			newPace(false, time.Minute, limit)} {
			for range 2 * limit / MaxBody {
				if err := pace.Wait(t.Context(), largest); err != nil {
					t.Fatal(err)
				}
			}
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("without a limit, or in a cluster, it took %v", took)
		}
	})
}

// TestBlocksThatAreReadAgainAndAgainDoNotStayInMemory writes some blocks of 8 MiB and keeps reading
// them, which the embedded server would hold all.
func TestBlocksThatAreReadAgainAndAgainDoNotStayInMemory(t *testing.T) {
	b := openEmbedded(t)
	before := heapInUse()
	const blocks = 6
	sent := publishMany(t, b, "fat", blocks*8<<20/(60<<10), 60<<10)
	limit := time.Now().Add(3 * blockAge)
	for held := int64(math.MaxInt64); held > before+3*8<<20; held = heapInUse() {
		if time.Now().After(limit) {
			t.Fatalf("%d MiB are held more than before", (held-before)>>20)
		}
		for i := 0; i < len(sent); i += 50 {
			if _, err := b.find(testContext(t), query{Sequence: sent[i]}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(blockAge / 4) // It is read more often than the server forgets.
	}
}

// heapInUse is how many bytes live.
func heapInUse() int64 {
	var stats runtime.MemStats
	for range 3 { // Pools and what is weakly held go with the second.
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
