package bulk

import (
	"context"
	"testing"
	"testing/synctest"
)

func take(t *testing.T, b *Buffers) *[]byte {
	t.Helper()
	buffer, err := b.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return buffer
}

func TestATransferHasTwoBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewPool(100 << 10).Buffers(-1)
		first, second := take(t, b), take(t, b)
		third := make(chan *[]byte)
		go func() {
			buffer, _ := b.Take(context.Background())
			third <- buffer
		}()
		synctest.Wait()
		select {
		case <-third:
			t.Fatal("there was a third")
		default:
		}
		*second = (*second)[:5000]
		written := b.Bulk(second)
		written.Free() // As the transport does.
		if got := <-third; got != second || len(*got) != 100<<10 {
			t.Errorf("the third is %p of %d bytes, want %p at its full size", got, len(*got), second)
		}
		b.Put(first)
	})
}

func TestWaitingForABufferEndsWithTheStream(t *testing.T) {
	b := NewPool(100 << 10).Buffers(-1)
	take(t, b)
	take(t, b)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.Canceled)
	if _, err := b.Take(ctx); err == nil {
		t.Error("there was a third")
	}
	b.Drain(ctx) // Returns, though nothing comes back.
}

func TestDrainWaitsUntilAllIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewPool(100 << 10).Buffers(-1)
		bulk := b.Bulk(take(t, b))
		drained := make(chan bool)
		go func() {
			b.Drain(context.Background())
			close(drained)
		}()
		synctest.Wait()
		select {
		case <-drained:
			t.Fatal("it did not wait")
		default:
		}
		bulk.Free()
		<-drained
	})
}

func TestTheMemoryOfAClosedTransferServesTheNext(t *testing.T) {
	pool := NewPool(100 << 10)
	b := pool.Buffers(-1)
	written, unwritten := take(t, b), take(t, b)
	bulk := b.Bulk(unwritten)
	b.Put(written)
	b.Close()
	bulk.Free() // As the transport does, later.
	if len(b.free) != 0 {
		t.Errorf("%d buffers stay with the transfer", len(b.free))
	}
}

func TestASmallTransferHasSmallBuffers(t *testing.T) {
	for bytes, want := range map[int64]int{
		0: minBuffer, 10: minBuffer, 50 << 10: 50 << 10, 1 << 40: 100 << 10, -1: 100 << 10,
	} {
		if got := len(*take(t, NewPool(100<<10).Buffers(bytes))); got != want {
			t.Errorf("to send %d bytes there is a buffer of %d, want %d", bytes, got, want)
		}
	}
}

func TestSmallBuffersComeBackToo(t *testing.T) {
	for _, size := range []int{1, 1024, 1025} {
		b := NewPool(size).Buffers(-1)
		for range 3 * buffersPerTransfer {
			buffer := take(t, b)
			if len(*buffer) != size {
				t.Errorf("a buffer of %d has %d bytes", size, len(*buffer))
			}
			written := b.Bulk(buffer)
			written.Free() // As the transport does.
			if len(b.free) != buffersPerTransfer {
				t.Fatalf("a buffer of %d bytes was not given back", size)
			}
		}
	}
}
