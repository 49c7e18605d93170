package channel

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/client/channel"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process"
)

// timeout is how long anything but a measurement may take.
const timeout = 2 * time.Minute

// buildServer builds the server's program, as it is in this checkout, into a folder.
func buildServer(ctx context.Context, folder string) (string, error) {
	const module = "example.com/quartet"
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("where is the server's module: %w", err)
	}
	program := filepath.Join(folder, "server")
	build := exec.CommandContext(ctx, "go", "build", "-C", strings.TrimSpace(string(root)),
		"-trimpath", "-o", program, "./server")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, output)
	}
	return program, nil
}

// startServer starts our server in a folder, and says where it listens. All it is told besides
// settings is where things are; the rest is as it comes.
func startServer(ctx context.Context, program, folder string, settings ...string) (
	p *process.Process, address string, err error,
) {
	var log bytes.Buffer
	p, err = process.StartIn(folder, program, append([]string{
		process.Setting("GRPC_ADDRESS", "127.0.0.1:0"),
		process.Setting("PROBE_ADDRESS", "127.0.0.1:0"),
		process.Setting("HTTP_ADDRESS", "127.0.0.1:0"),
		process.Setting("DRAIN_DELAY", "0s"),
		process.Setting("DRAIN_BUDGET", "3s"),
	}, settings...), &log)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	addresses, err := p.Addresses(ctx)
	if err != nil {
		p.Kill()
		return nil, "", fmt.Errorf("%w\n%s", err, log.Bytes())
	}
	return p, addresses["grpc"], nil
}

// connect makes a connection as our programs do.
func connect(address string) (*grpc.ClientConn, error) {
	cfg, err := config.Defaults[rpc.ClientConfig]()
	if err != nil {
		return nil, err
	}
	return rpc.NewClient(cfg, telemetry.Discard(), address, []protoreflect.ServiceDescriptor{
		quartetv1.File_quartet_v1_channel_proto.Services().ByName("ChannelService"),
	})
}

// join enters a channel at a server, with a connection of its own.
func join(ctx context.Context, address, room, name string) (m member, err error) {
	conn, err := connect(address)
	if err != nil {
		return m, err
	}
	conversation, err := channel.NewClient(conn, channel.Options{}).Join(ctx,
		channel.JoinOptions{Channel: room, Participant: name})
	if err != nil {
		_ = conn.Close()
		return m, err
	}
	return member{
		send: func(ctx context.Context, body []byte) error {
			_, err := conversation.Send(ctx, body)
			return err
		},
		receive: func(ctx context.Context) error {
			_, err := conversation.Receive(ctx)
			return err
		},
		leave: func() {
			conversation.Close()
			_ = conn.Close() // There is nothing left on it.
		},
	}, nil
}
