package process_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	_ "example.com/quartet/gen/quartet/v1" // The names of its methods.
	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// TestTheCommandsOfTheREADME runs the commands of README.md that use bin/client and grpcurl, as
// they stand there. After a service was removed, README.md has to be edited by hand; the short
// tests do not wait for that.
func TestTheCommandsOfTheREADME(t *testing.T) {
	if testing.Short() {
		t.Skip("README.md may still have commands of a service that was removed")
	}
	server := processtest.Start(t)
	// Each command takes what the one before it has left.
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "report.pdf"), []byte("a report"),
		0o600); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, line := range documented(t, "README.md") {
		words := strings.Fields(line)
		switch {
		case words[0] == "bin/client":
			line = strings.ReplaceAll(line, "30s", "1s")
			command := processtest.Command(t, server.Address)
			command.Args = append(command.Args, strings.Fields(line)[1:]...)
			command.Dir = folder
			command.Env = append(command.Env, process.Setting("PROBE_ADDRESS", "127.0.0.1:0"),
				process.Setting("HTTP_ADDRESS", "127.0.0.1:0"), process.Setting("DRAIN_DELAY", "0s"))
			if output, err := runToEnd(command); err != nil {
				t.Errorf("%s: %v\n%s", line, err, output)
			}
		// The demo's test lists the services.
		case words[0] == "grpcurl" && words[len(words)-1] != "list":
			callByName(t, server.Address, line)
		default:
			continue
		}
		tried++
	}
	if tried < 5 {
		t.Errorf("README.md has %d such commands, which cannot be all", tried)
	}
}

// TestDocumentedCommandsExist asks the client for the help of each command that a document shows,
// with the flags that it has there.
func TestDocumentedCommandsExist(t *testing.T) {
	if testing.Short() {
		t.Skip("README.md may still have commands of a service that was removed")
	}
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	services, err := filepath.Glob("../../docs/services/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range append(documents, services...) {
		name, err := filepath.Rel("../..", document)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range documented(t, name) {
			if arguments, ok := strings.CutPrefix(line, "bin/client "); ok {
				command := processtest.Command(t, "localhost:1", append(strings.Fields(arguments), "--help")...)
				if output, err := command.CombinedOutput(); err != nil {
					t.Errorf("%s: %s: %v\n%s", name, line, err, output)
				}
			}
		}
	}
}

// documented are the lines of the blocks of code in a document, without comments. "$ client" begins
// a line that is followed by its output.
func documented(t *testing.T, document string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", document))
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "```") {
			inside = !inside
			continue
		}
		line, _, _ = strings.Cut(line, " #")
		if after, ok := strings.CutPrefix(line, "$ client "); ok {
			line = "bin/client " + after
		}
		if line = strings.TrimSpace(line); inside && line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// runToEnd runs a command to its end. One that serves is told to stop when it says where it
// listens.
func runToEnd(command *exec.Cmd) (output string, err error) {
	r, w := io.Pipe()
	command.Stdout, command.Stderr = w, w
	if err := command.Start(); err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- command.Wait()
		_ = w.Close() // A pipe does not fail to close.
	}()
	var all strings.Builder
	serves := false
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fmt.Fprintln(&all, lines.Text())
		if !serves && listens.MatchString(lines.Text()) {
			serves = true
			_ = command.Process.Signal(syscall.SIGTERM) // It may have failed already, which Wait says.
		}
	}
	err = <-ended
	if serves && command.ProcessState.ExitCode() == interrupted {
		err = nil
	}
	return all.String(), err
}

// listens matches what a program says when it listens: serve in its log, other commands by an
// address.
var listens = regexp.MustCompile(`\blistening\b|^http://`)

// interrupted is the exit code of a command that a signal has ended.
const interrupted = 130

// callByName makes the call of "grpcurl -plaintext -d 'JSON' ADDRESS SERVICE/METHOD", and wants an
// answer.
func callByName(t *testing.T, address, line string) {
	t.Helper()
	_, rest, _ := strings.Cut(line, "-d '")
	data, rest, _ := strings.Cut(rest, "' ")
	_, path, _ := strings.Cut(rest, " ")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(
		protoreflect.FullName(strings.ReplaceAll(path, "/", ".")),
	)
	if err != nil {
		t.Errorf("%s: %v", line, err)
		return
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		t.Errorf("%s: this is no method", line)
		return
	}
	request := dynamicpb.NewMessage(method.Input())
	if err := protojson.Unmarshal([]byte(data), request); err != nil {
		t.Errorf("%s: %v", line, err)
		return
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+path)
	if err == nil {
		err = stream.SendMsg(request)
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err == nil {
		err = stream.RecvMsg(dynamicpb.NewMessage(method.Output()))
	}
	if err != nil {
		t.Errorf("%s: %v", line, err)
	}
}
