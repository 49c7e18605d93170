package process_test

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// secret is planted where an operator may have one, and part of one where it has a character that
// should have been escaped.
const secret = "planted"

// start is how a program is started that has something to complain of.
type start struct {
	program   string
	arguments []string
	// set are variables of the programs, without their prefix, and env are others.
	set, env []string
	// says is what the program prints in the end. If it goes on after that, it is told to stop.
	says string
}

// wantNoSecret starts each program at the level at which it says most, and looks for the secret in
// all that it prints.
func wantNoSecret(t *testing.T, starts map[string]start) {
	t.Helper()
	for name, s := range starts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := s.run(t)
			if !strings.Contains(said, s.says) {
				t.Errorf("the %s does not say %q:\n%s", s.program, s.says, said)
			}
			for line := range strings.Lines(said) {
				if strings.Contains(line, secret) {
					t.Errorf("the %s prints a secret: %s", s.program, line)
				}
			}
		})
	}
}

// run returns what the program prints until it ends.
func (s start) run(t *testing.T) string {
	t.Helper()
	set := append([]string{
		"LOG_LEVEL=debug",
		"PROBE_ADDRESS=127.0.0.1:0",
		"HTTP_ADDRESS=127.0.0.1:0",
		"DRAIN_DELAY=0s",
		"DRAIN_BUDGET=1500ms",
	}, s.set...)
	if s.program == "server" {
		set = append([]string{"GRPC_ADDRESS=127.0.0.1:0"}, set...)
	}
	env := s.env
	for _, variable := range set {
		name, value, _ := strings.Cut(variable, "=")
		env = append(env, process.Setting(name, value))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	output := &output{awaited: s.says, complete: make(chan struct{})}
	command := exec.CommandContext(ctx, processtest.Binary(t, s.program), s.arguments...)
	command.Dir, command.Env = t.TempDir(), process.Environ(env...)
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		select {
		case <-output.complete:
			_ = command.Process.Signal(syscall.SIGTERM) // It may have ended by itself.
		case <-ctx.Done():
		}
	}()
	var exit *exec.ExitError
	if err := command.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Error("the program does not end")
	}
	return output.text.String()
}

// output is what a program has printed so far.
type output struct {
	awaited  string
	complete chan struct{} // closed once there is a line with what is awaited
	once     sync.Once
	mu       sync.Mutex
	text     bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	if strings.Contains(o.text.String(), o.awaited) {
		o.once.Do(func() { close(o.complete) })
	}
	return len(p), nil
}

// exporting is a server that exports to a collector as these variables of OpenTelemetry say, after
// OTEL_EXPORTER_OTLP_.
func exporting(variables ...string) start {
	s := start{program: "server", says: "listening", env: []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1",
		"OTEL_METRICS_EXPORTER=otlp",
		"OTEL_EXPORTER_OTLP_TIMEOUT=100",
	}}
	for _, variable := range variables {
		s.env = append(s.env, "OTEL_EXPORTER_OTLP_"+variable)
	}
	return s
}

func TestNoSecretIsPrintedOfAnExportThatIsWrong(t *testing.T) {
	wantNoSecret(t, map[string]start{
		"a header in the form of HTTP":     exporting("HEADERS=Authorization: Bearer " + secret),
		"a header's name with a blank":     exporting("HEADERS=Authorization: Bearer " + secret + "="),
		"a header's value that is escaped": exporting("HEADERS=authorization=Bearer %zz" + secret),
		"a header of a signal": exporting(
			"TRACES_HEADERS=Bearer "+secret,
			"METRICS_HEADERS=Bearer "+secret,
		),
		"a header by HTTP": exporting(
			"PROTOCOL=http/protobuf",
			"HEADERS=a=b,Bearer "+secret,
		),
		"a user": exporting(
			"ENDPOINT=http://user:" + secret + "@127.0.0.1:1",
		),
		"a user by HTTP": exporting(
			"PROTOCOL=http/protobuf",
			"ENDPOINT=http://user:"+secret+"@127.0.0.1:1",
		),
		"a user and a slash": exporting(
			"ENDPOINT=http://user:" + secret + "/" + secret + "@127.0.0.1:1",
		),
		"a user and a slash by HTTP": exporting(
			"PROTOCOL=http/protobuf",
			"ENDPOINT=http://user:"+secret+"/"+secret+"@127.0.0.1:1",
		),
		"a user and a blank": exporting(
			"ENDPOINT=http://user:" + secret + " " + secret + "@127.0.0.1:1",
		),
		"a user and no scheme": exporting("ENDPOINT=user:" + secret + "@127.0.0.1:1"),
		"a user and another scheme": exporting(
			"ENDPOINT=grpc://user:" + secret + "@127.0.0.1:1",
		),
		"a user of a name that is looked up": exporting(
			"ENDPOINT=dns://user:" + secret + "@127.0.0.1:1/collector:1",
		),
		"a parameter": exporting(
			"PROTOCOL=http/protobuf",
			"ENDPOINT=http://127.0.0.1:1/?token="+secret,
		),
		"a signal's user": exporting(
			"METRICS_ENDPOINT=http://user:"+secret+"/@127.0.0.1:x",
			"TRACES_ENDPOINT=http://user:"+secret+"/@127.0.0.1:x",
		),
		"a key in place of its file": exporting(
			"CLIENT_CERTIFICATE=/dev/null",
			"CLIENT_KEY=-----BEGIN PRIVATE KEY-----"+secret,
		),
		"a client's": {
			program:   "client",
			says:      "not done within",
			arguments: []string{"check", "--server", "127.0.0.1:1", "--timeout", "1s"},
			env:       exporting("HEADERS=Bearer " + secret).env,
		},
	})
}

func TestNoSecretIsPrintedOfAServerThatIsConfiguredWrongly(t *testing.T) {
	wantNoSecret(t, map[string]start{
		"an address with a user": {
			program: "server",
			set:     []string{"GRPC_ADDRESS=user:" + secret + "@127.0.0.1:0"},
			says:    "GRPC_ADDRESS",
		},
		"an address with a user and a scheme": {
			program: "server",
			set:     []string{"HTTP_ADDRESS=http://user:" + secret + "@127.0.0.1:0"},
			says:    "HTTP_ADDRESS",
		},
		"an address in place of a number": {
			program: "server",
			set:     []string{"RPC_MAX_IN_FLIGHT=http://user:" + secret + "@host"},
			says:    "RPC_MAX_IN_FLIGHT",
		},
		"a key in place of its file": {
			program: "server",
			says:    "expected its name",
			set: []string{
				"RPC_TLS_MODE=tls",
				"RPC_TLS_CERT_FILE=/dev/null",
				"RPC_TLS_KEY_FILE=-----BEGIN PRIVATE KEY-----\n" + secret,
			},
		},
		"arguments": {
			program:   "server",
			arguments: []string{"--password", secret},
			says:      "unexpected argument",
		},
		"an argument with a value": {
			program:   "server",
			arguments: []string{"--password=" + secret},
			says:      "unexpected argument",
		},
		"an argument with a user": {
			program:   "server",
			arguments: []string{"queue://user:" + secret + "@host"},
			says:      "unexpected argument",
		},
	})
}

func TestNoSecretIsPrintedOfAServerThatTheClientCannotReach(t *testing.T) {
	starts := map[string]start{
		"a proxy": {
			program:   "client",
			arguments: []string{"serve"},
			says:      "waiting for server",
			set: []string{
				"SERVER=server.invalid:1",
				"RPC_PROXY=true",
			},
			env: []string{"HTTPS_PROXY=http://user:" + secret + "@127.0.0.1:1"},
		},
		"a proxy that is no address": {
			program:   "client",
			arguments: []string{"serve"},
			says:      "waiting for server",
			set: []string{
				"SERVER=server.invalid:1",
				"RPC_PROXY=true",
			},
			env: []string{"HTTPS_PROXY=http://user:" + secret + "/" + secret + "@127.0.0.1:1"},
		},
		"a command's proxy that is no address": {
			program:   "client",
			arguments: []string{"check", "--timeout", "2s"},
			says:      "not done within",
			set: []string{
				"SERVER=server.invalid:1",
				"RPC_PROXY=true",
			},
			env: []string{"HTTPS_PROXY=http://user:" + secret + "/" + secret + "@127.0.0.1:1"},
		},
	}
	for name, target := range map[string]string{
		"a user":                  "user:" + secret + "@127.0.0.1:1",
		"a user of a name":        "dns:///user:" + secret + "@127.0.0.1:1",
		"a user of a name server": "dns://user:" + secret + "@127.0.0.1/host:1",
		"a user and a scheme":     "http://user:" + secret + "@127.0.0.1:1",
		"a user and a slash":      "dns:///user:" + secret + "/" + secret + "@127.0.0.1:1",
		"a user and a hash":       "dns:///user:" + secret + "#" + secret + "@127.0.0.1:1",
		"a user of an address":    "ipv4:user:" + secret + "@127.0.0.1:1",
		"a parameter":             "dns:///127.0.0.1:1?token=" + secret,
	} {
		starts[name+" by the flag"] = start{
			program:   "client",
			arguments: []string{"check", "--server", target},
			says:      "--server=",
		}
		starts[name+" by the variable"] = start{
			program:   "client",
			arguments: []string{"serve"},
			set:       []string{"SERVER=" + target},
			says:      "_SERVER=",
		}
	}
	wantNoSecret(t, starts)
}
