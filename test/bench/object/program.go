package object

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"example.com/quartet/test/process"
)

// collectorVariable names the collector of spans to OpenTelemetry's SDK.
const collectorVariable = "OTEL_EXPORTER_OTLP_ENDPOINT"

// timeout is how long anything but a measurement may take, and a measurement too.
const timeout = 2 * time.Minute

// buildProgram builds the server or the client, as it is in this checkout, into a folder.
func buildProgram(ctx context.Context, folder, name string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "example.com/quartet").Output()
	if err != nil {
		return "", fmt.Errorf("where is the module of %s: %w", name, err)
	}
	program := filepath.Join(folder, name)
	module := strings.TrimSpace(string(root))
	build := exec.CommandContext(ctx, "go", "build", "-C", module, "-trimpath", "-o", program, "./"+name)
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, output)
	}
	return program, nil
}

// startProgram starts our server with its objects at an address, and says where it listens. All it
// is told is where things are; the rest is as it comes.
func startProgram(
	ctx context.Context, program, folder, objects, collector string,
) (p *process.Process, grpc, web string, err error) {
	var log bytes.Buffer
	p, err = process.StartIn(folder, program, []string{
		process.Setting("GRPC_ADDRESS", "127.0.0.1:0"),
		process.Setting("PROBE_ADDRESS", "127.0.0.1:0"),
		process.Setting("HTTP_ADDRESS", "127.0.0.1:0"),
		process.Setting("WEB_ADDRESS", "127.0.0.1:0"),
		process.Setting("DRAIN_DELAY", "0s"),
		process.Setting("DRAIN_BUDGET", "3s"),
		objects,
		"AWS_ACCESS_KEY_ID=" + accessKey,
		"AWS_SECRET_ACCESS_KEY=" + secretKey,
		collectorVariable + "=" + collector,
	}, &log)
	if err != nil {
		return nil, "", "", err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	addresses, err := p.Addresses(ctx)
	if err != nil {
		p.Kill()
		return nil, "", "", fmt.Errorf("%w\n%s", err, log.Bytes())
	}
	return p, addresses["grpc"], addresses["web"], nil
}

// startGateway starts versitygw, an S3 service, on a folder, and returns when it listens.
func startGateway(ctx context.Context, program, folder string) (*exec.Cmd, string, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, "", err
	}
	gateway := exec.CommandContext(ctx, program, "--access", accessKey, "--secret", secretKey,
		"--port", address, "--keep-alive", "--quiet", "posix", folder)
	if err := gateway.Start(); err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for tick := time.Tick(10 * time.Millisecond); ; {
		if c, err := new(net.Dialer).DialContext(ctx, "tcp", address); err == nil {
			return gateway, address, c.Close()
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return nil, "", fmt.Errorf("versitygw does not listen: %w", stopGateway(gateway))
		}
	}
}

// stopGateway kills it: what it has goes with its folder.
func stopGateway(gateway *exec.Cmd) error {
	if err := gateway.Process.Kill(); err != nil {
		return err
	}
	_ = gateway.Wait() // It says that it was killed.
	return nil
}

// freeAddress is where no server listens.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
