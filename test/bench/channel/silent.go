package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/test/bench/measure"
	"example.com/quartet/test/process"
)

const (
	// silentPerConnection is how many silent participants share a connection: fewer than a server
	// allows for one.
	silentPerConnection = 200
	// joinsAtOnce is how many of them join at once.
	joinsAtOnce = 64
	// memoryGoal is for the server's process, with the embedded broker in it, in MiB.
	memoryGoal = 512
	// memoryLimit is what the chart would set for that much memory, seven eighths of it.
	memoryLimit = "GOMEMLIMIT=448MiB"
	// watched is how long the processors' time of silence is looked at.
	watched = 10 * time.Second
)

// host is a server with the embedded broker.
type host struct {
	process *process.Process
	address string
	conns   []*grpc.ClientConn
}

func startHost(ctx context.Context, program, folder string, silent int) (*host, error) {
	room := fmt.Sprint(2*silent + 1000)
	p, address, err := startServer(ctx, program, folder,
		process.Setting("CHANNEL_DIR", filepath.Join(folder, "channel")),
		process.Setting("CHANNEL_MAX_PARTICIPANTS", room),
		process.Setting("CHANNEL_MAX_OPEN", room),
		process.Setting("RPC_MAX_STREAMS", room),
		memoryLimit)
	return &host{process: p, address: address}, err
}

func (h *host) stop() {
	for _, conn := range h.conns {
		_ = conn.Close() // Nothing is read from it any more.
	}
	h.process.Kill() // What it has goes with its folder.
}

func (h *host) connect() (*grpc.ClientConn, error) {
	conn, err := connect(h.address)
	if err == nil {
		h.conns = append(h.conns, conn)
	}
	return conn, err
}

// silence has participants join, each in a channel of its own, and say nothing. They stay until the
// host is stopped.
func (h *host) silence(ctx context.Context, count int) error {
	work := make(chan int, count)
	for n := range count {
		work <- n
	}
	close(work)
	var clients []quartetv1.ChannelServiceClient
	for range (count + silentPerConnection - 1) / silentPerConnection {
		conn, err := h.connect()
		if err != nil {
			return err
		}
		clients = append(clients, quartetv1.NewChannelServiceClient(conn))
	}
	var joining sync.WaitGroup
	failed := make([]error, joinsAtOnce)
	for i := range failed {
		joining.Go(func() {
			for n := range work {
				if err := joinSilent(ctx, clients[n%len(clients)], n); err != nil {
					failed[i] = err
					return
				}
			}
		})
	}
	joining.Wait()
	return errors.Join(failed...)
}

func joinSilent(ctx context.Context, client quartetv1.ChannelServiceClient, n int) error {
	stream, err := client.Exchange(ctx)
	if err != nil {
		return err
	}
	join := quartetv1.Join_builder{Channel: fmt.Sprint("silent ", n), Participant: "ann"}.Build()
	if err := stream.Send(quartetv1.ExchangeRequest_builder{Join: join}.Build()); err != nil {
		return err
	}
	reply, err := stream.Recv()
	if err == nil && !reply.HasJoined() {
		err = fmt.Errorf("participant %d got %v instead of the join", n, reply)
	}
	return err
}

// memory is what is resident in the process now, in bytes.
func (h *host) memory() (int64, error) {
	if err := measure.ResetPeak(h.process.PID()); err != nil {
		return 0, err
	}
	return measure.PeakOf(h.process.PID())
}

// measureSilent compares a server that has silent participants with one that has none.
func measureSilent(ctx context.Context, out io.Writer, o Options, b *bed) ([]string, error) {
	idle, err := startHost(ctx, b.program, b.folder("idle"), o.Silent)
	if err != nil {
		return nil, err
	}
	defer idle.stop()
	busy, err := startHost(ctx, b.program, b.folder("silent"), o.Silent)
	if err != nil {
		return nil, err
	}
	defer busy.stop()
	// Ended before the hosts, so that streams do not see them end.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := busy.silence(ctx, o.Silent); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("with %d silent participants", o.Silent)
	var calls []contestant
	for _, h := range []struct {
		*host
		name string
	}{{idle, "idle"}, {busy, name}} {
		conn, err := h.connect()
		if err != nil {
			return nil, err
		}
		calls = append(calls, newCall(h.name, conn))
	}
	r, err := rounds(ctx, o, calls)
	if err != nil {
		return nil, err
	}
	printTimes(out, "a unary call", r, calls, "idle")

	used, err := busy.rest(ctx, min(watched, time.Duration(o.Silent)*time.Millisecond))
	if err != nil {
		return nil, err
	}
	without, err := idle.memory()
	if err != nil {
		return nil, err
	}
	with, err := busy.memory()
	if err != nil {
		return nil, err
	}
	const mebi = 1 << 20
	each := float64(with-without) / float64(o.Silent) / 1024
	table := measure.NewTable("server", "resident MiB", "KiB for each participant", "CPU, % of one")
	table.Add("idle", fmt.Sprint(without/mebi), "", "")
	table.Add(name, fmt.Sprint(with/mebi), fmt.Sprintf("%.1f", each), fmt.Sprintf("%.1f", used*100))
	table.Print(out)

	verdicts := []string{"silent: " + measure.AtMost(name, "idle", p99, 1.2).Verdict(r)}
	memory := measure.Goal[Sample]{
		Text: fmt.Sprintf("memory at most %d MiB", memoryGoal),
		Measure: func(results) (string, bool) {
			return fmt.Sprintf("%d MiB", with/mebi), with <= memoryGoal*mebi
		},
	}
	return append(verdicts, "silent: "+memory.Verdict(r)), nil
}

// rest is the share of one processor that the process uses while nothing happens.
func (h *host) rest(ctx context.Context, period time.Duration) (float64, error) {
	before, err := measure.CPUOf(h.process.PID())
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	select {
	case <-time.After(period):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := measure.CPUOf(h.process.PID())
	return (after - before).Seconds() / time.Since(begun).Seconds(), err
}
