package process_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// TestTheLogOfAServerStaysSmallWhateverCallersDo has callers fail thousands of times, in ways that
// were a line or two each.
func TestTheLogOfAServerStaysSmallWhateverCallersDo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	log := &output{awaited: "listening", complete: make(chan struct{})}
	server, err := process.StartIn(t.TempDir(), processtest.Binary(t, "server"), []string{
		process.Setting(
			"GRPC_ADDRESS",
			"127.0.0.1:0",
		),
		process.Setting("PROBE_ADDRESS", "127.0.0.1:0"),
		process.Setting("HTTP_ADDRESS", "127.0.0.1:0"),
		process.Setting("DRAIN_DELAY", "0s"),
		process.Setting("RPC_MAX_IN_FLIGHT", "1"),
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	addresses, err := server.Addresses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(
		addresses["grpc"],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	codes := flood(ctx, conn, "/x/"+strings.Repeat("\xff", 3500))
	for range 300 {
		raw, err := net.Dial("tcp", addresses["grpc"])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := raw.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
			t.Error(err)
		}
		_ = raw.Close()
	}
	if err := server.Stop(time.Minute); err != nil {
		t.Error(err)
	}
	size, text := log.text.Len(), log.text.String()
	t.Logf("%d bytes in %v, after %v", size, time.Since(began).Round(time.Second), codes)
	if size > 64<<10 {
		t.Errorf("the log has %d bytes:\n%.4096s", size, text)
	}
	if !strings.Contains(text, `"code":"ResourceExhausted"`) ||
		strings.Contains(text, "Unimplemented") {
		t.Errorf(
			"of a call that is shed the log has a line, and of a caller's mistake it has none:\n%.4096s",
			text,
		)
	}
}

// flood calls a method from many goroutines until it has failed thousands of times, and returns how
// often with each code.
func flood(ctx context.Context, conn *grpc.ClientConn, method string) map[codes.Code]int {
	var calling sync.WaitGroup
	var mu sync.Mutex
	ends := map[codes.Code]int{}
	for range 20 {
		calling.Go(func() {
			for range 200 {
				err := conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
				mu.Lock()
				ends[status.Code(err)]++
				mu.Unlock()
			}
		})
	}
	calling.Wait()
	return ends
}
