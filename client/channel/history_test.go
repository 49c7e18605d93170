package channel_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/quartet/client/channel"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// say says something for each name.
func say(t *testing.T, client *channel.Client, what string, count int) {
	t.Helper()
	ctx := clienttest.Deadline(t)
	v, err := client.Join(ctx, channel.JoinOptions{Channel: "room", Participant: "speaker"})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	heard := make(chan error, 1)
	go func() {
		_, err := listen(ctx, v, count)
		heard <- err
	}()
	for i := range count {
		if _, err := v.Send(ctx, fmt.Appendf(nil, "%s%d", what, i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-heard; err != nil {
		t.Fatal(err)
	}
}

// The inputs are those of reports: a volume that is replaced, and one that is rolled back.
func TestAListenerIsToldThatTheHistoryIsAnother(t *testing.T) {
	for _, c := range []struct {
		name              string
		kept, lost, after int
	}{
		{"replaced", 0, 3, 5},
		{"rolled back", 20, 5, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "channel")
			server := processtest.Start(t, process.Setting("CHANNEL_DIR", dir))
			client := newClient(t, server.Address,
				channel.Options{Resumption: rpc.Resumption{MaxTries: 1000}})
			say(t, client, "kept", c.kept)
			snapshot := filepath.Join(t.TempDir(), "snapshot")
			server.Stop()
			if c.kept > 0 {
				if err := os.CopyFS(snapshot, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
			}
			server.Restart()
			say(t, client, "lost", c.lost)
			ctx := clienttest.Deadline(t)
			listener, err := client.Join(ctx,
				channel.JoinOptions{Channel: "room", Participant: "listener", After: new(uint64(0))})
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			if heard, err := listen(ctx, listener, c.kept+c.lost); err != nil {
				t.Fatal(heard, err)
			}
			position := listener.Position()

			server.Stop()
			if err := os.Rename(dir, dir+"-lost"); err != nil {
				t.Fatal(err)
			}
			if c.kept > 0 {
				if err := os.Rename(snapshot, dir); err != nil {
					t.Fatal(err)
				}
			}
			server.Restart()
			say(t, client, "new", c.after)

			heard, err := listen(ctx, listener, 1)
			if !errors.Is(err, channel.ErrHistoryChanged) || len(heard) != 0 {
				t.Errorf("an open conversation: heard %q, %v", heard, err)
			}
			_, err = client.Join(ctx,
				channel.JoinOptions{Channel: "room", Participant: "listener", Position: position})
			if !errors.Is(err, channel.ErrHistoryChanged) || channel.First(err) != 1 {
				t.Errorf("a new one: %v, from %d", err, channel.First(err))
			}
			again, err := client.Join(ctx,
				channel.JoinOptions{Channel: "room", Participant: "listener", From: channel.First(err)})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			all, err := listen(ctx, again, c.kept+c.after)
			if err != nil || !strings.HasPrefix(all[c.kept], "new") {
				t.Errorf("heard %q, %v", all, err)
			}
		})
	}
}
