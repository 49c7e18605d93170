package app

import (
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"

	"example.com/quartet/internal/config"
)

func TestGoMayUseMostOfTheMemory(t *testing.T) {
	for _, test := range []struct{ limit, want int64 }{
		{10, 5},
		{32 << 20, 16 << 20},
		{128 << 20, 80 << 20},
		{256 << 20, 208 << 20},
		{1000 << 20, 875 << 20},
		{math.MaxInt64, math.MaxInt64 / 8 * 7},
	} {
		if got := goMemory(test.limit); got != test.want {
			t.Errorf("of %d: got %d, want %d", test.limit, got, test.want)
		}
	}
}

func TestMemoryLimitGivesWayToGOMEMLIMIT(t *testing.T) {
	t.Cleanup(func() { debug.SetMemoryLimit(math.MaxInt64) })
	for _, test := range []struct{ set, limit, want int64 }{
		{math.MaxInt64, 0, math.MaxInt64},
		{math.MaxInt64, 1 << 30, 1 << 30 / 8 * 7},
		{100 << 20, 1 << 30, 100 << 20},
	} {
		debug.SetMemoryLimit(test.set)
		Config{MemoryLimit: config.Bytes(test.limit)}.LimitMemory()
		if got := debug.SetMemoryLimit(-1); got != test.want {
			t.Errorf(
				"with %d before and a limit of %d: got %d, want %d",
				test.set,
				test.limit,
				got,
				test.want,
			)
		}
	}
}

func TestMemoryForLessThanTheProgramIsRefused(t *testing.T) {
	for value, refused := range map[string]bool{"0": false, "1": true, "1000": true, "47MiB": true, "48MiB": false, "1GiB": false} {
		_, groups := Server{}.groups()
		err := config.Load("TEST_", []string{"TEST_MEMORY_LIMIT=" + value}, groups...)
		if (err != nil) != refused || refused && !strings.HasPrefix(err.Error(), "TEST_MEMORY_LIMIT=") {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestBuffersAreAtMostTwiceAsLargeAsMessages(t *testing.T) {
	before := mem.DefaultBufferPool()
	t.Cleanup(func() { experimental.SetDefaultBufferPool(before) })
	FitBuffers()
	for size := 1 << 10; size <= 1<<20; size += 1000 {
		buffer := mem.DefaultBufferPool().Get(size)
		if len(*buffer) != size || cap(*buffer) >= 2*size+1 {
			t.Fatalf("%d bytes have a buffer of %d", size, cap(*buffer))
		}
	}
}
