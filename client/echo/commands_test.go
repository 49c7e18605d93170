package echo

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/cli/clitest"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/traffic"
	"example.com/quartet/internal/traffic/traffictest"
)

// expect runs a command line against a server, wants an exit code, and returns what was written.
func expect(t *testing.T, code int, server string, args ...string) (out, err string) {
	t.Helper()
	return clitest.Expect(t, code, []cli.Service{Service()}, server, args...)
}

func TestCommandsPrintWhatComesBack(t *testing.T) {
	server := (&fake{}).start(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"echo", "hello there"}, "hello there\n"},
		{[]string{"echo", "a\x1b[2Jb"}, `a\x1b[2Jb` + "\n"},
		{[]string{"expand", "one two three"}, "one\ntwo\nthree\n"},
		{[]string{"collect", "one", "two", "three"}, "one two three\n"},
		{[]string{"collect", "one"}, "one\n"},
	} {
		if out, err := expect(t, 0, server, test.args...); out != test.want || err != "" {
			t.Errorf("%q: wrote %q and %q", test.args, out, err)
		}
	}
}

func TestConversePrintsEachLineAsItComesBack(t *testing.T) {
	server := (&fake{}).start(t)
	for stdin, want := range map[string]string{"": "", "one\ntwo\n\nthree": "one\ntwo\n\nthree\n", "\xff\n": "\uFFFD\n"} {
		c := clitest.Terminal{Services: []cli.Service{Service()}, Stdin: stdin}
		if code := c.Run(t.Context(), server, "converse"); code != 0 || c.Out.String() != want {
			t.Errorf("%q: exit code %d, wrote %q and %q", stdin, code, &c.Out, &c.Err)
		}
	}
}

func TestConverseFailsIfALineCannotBeRead(t *testing.T) {
	c := clitest.Terminal{Services: []cli.Service{Service()}, Stdin: "one\n" + strings.Repeat("x", 100_000)}
	if code := c.Run(t.Context(), (&fake{}).start(t), "converse"); code != 1 || c.Out.String() != "one\n" {
		t.Errorf("exit code %d, wrote %q and %q", code, &c.Out, &c.Err)
	}
}

func TestCommandsSayWhatFailed(t *testing.T) {
	f := &fake{
		expand: func(int, *quartetv1.ExpandRequest, expandStream) error {
			return status.Error(codes.InvalidArgument, "too large")
		},
		collect: func(int, collectStream) error { return status.Error(codes.InvalidArgument, "too large") },
		chat:    func(int, chatStream) error { return status.Error(codes.InvalidArgument, "too large") },
	}
	server := f.start(t)
	for _, args := range [][]string{{"expand", "x"}, {"collect", "x"}, {"converse"}} {
		if _, err := expect(t, 1, server, args...); err != "test: "+args[0]+": too large (INVALID_ARGUMENT)\n" {
			t.Errorf("%q", err)
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, args := range [][]string{{"echo"}, {"echo", "a", "b"}, {"expand"}, {"collect"}, {"converse", "x"}} {
		if _, err := expect(t, 2, "localhost:1", args...); !strings.HasPrefix(err, "test: ") {
			t.Errorf("%v: %q", args, err)
		}
	}
	for _, args := range [][]string{{"echo", "\xff"}, {"expand", "\xff"}, {"collect", "a", "b", "\xff"}} {
		_, err := expect(t, 2, "localhost:1", args...)
		clitest.Want(t, err, `"\xff": is not UTF-8`)
	}
	out, _ := expect(t, 0, "localhost:1", "help", "environment")
	for _, name := range []string{"ECHOES", "EXPANSIONS", "COLLECTIONS", "CHATS"} {
		clitest.Want(t, out, "TEST_ECHO_TRAFFIC_"+name+" ")
		c := clitest.Terminal{Services: []cli.Service{Service()}, Environ: []string{"TEST_ECHO_TRAFFIC_" + name + "=-1"}}
		if code := c.Run(t.Context(), "x", "echo", "y"); code != 2 {
			t.Errorf("%s: exit code %d", name, code)
		}
		clitest.Want(t, c.Err.String(), "TEST_ECHO_TRAFFIC_"+name+"=-1:")
	}
}

func TestCheckAndDemoGoThroughTheFourModes(t *testing.T) {
	f := &fake{}
	server := f.start(t)
	out, _ := expect(t, 0, server, "check")
	for _, step := range []string{"unary             Echo ", "server streaming  Expand ", "client streaming  Collect ", "bidirectional     Chat "} {
		clitest.Want(t, out, "ok  "+step)
	}
	if out, _ = expect(t, 0, server, "demo"); strings.Count(out, "came back as it was sent\n") < 4 {
		t.Errorf("showed:\n%s", out)
	}
	f.mistake = func(string) string { return "something else" }
	for _, command := range []string{"check", "demo"} {
		if _, err := expect(t, 1, server, command); !strings.Contains(err, "wrong answer") {
			t.Errorf("%s: %q", command, err)
		}
	}
}

func newTraffic(t *testing.T, f *fake) traffic.Source {
	t.Helper()
	tele := telemetry.Discard()
	cfg := Config{Echoes: 500, Expansions: 500, Collections: 500, Chats: 500}
	return cfg.traffic(cli.Connection{Conn: clienttest.Dial(t, tele, f.start(t), descriptor), Telemetry: tele, Instance: "test"})
}

var methods = []string{"Echo", "Expand", "Collect", "Chat"}

func TestRightAnswersAreGood(t *testing.T) {
	source := newTraffic(t, &fake{})
	for _, method := range methods {
		for range 3 {
			if got := traffictest.Try(t, source, method); got != "good" {
				t.Errorf("%s is %s", method, got)
			}
		}
	}
}

func TestWrongAnswersAreBad(t *testing.T) {
	for what, mistake := range map[string]func(string) string{
		"something else": func(string) string { return "something else" },
		"less":           func(text string) string { return text[1:] },
		"more":           func(text string) string { return text + " more" },
		"nothing":        func(string) string { return "" },
	} {
		source := newTraffic(t, &fake{mistake: mistake})
		for _, method := range methods {
			t.Run(method+"/"+what, func(t *testing.T) {
				if got := traffictest.Try(t, source, method); got != "wrong" {
					t.Errorf("it is %s", got)
				}
			})
		}
	}
}

func TestTrafficCounts(t *testing.T) {
	registry := prometheus.NewRegistry()
	running := traffic.New(traffic.Options{Timeout: 30 * time.Second, Registerer: registry, Log: slog.New(slog.DiscardHandler)}, newTraffic(t, &fake{}))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error)
	go func() { done <- running.Run(ctx) }()
	apptest.Eventually(t, func() bool {
		counted := traffictest.Counted(t, registry)
		return !slices.ContainsFunc(methods, func(method string) bool { return counted[method][0] < 5 })
	}, func() string { return fmt.Sprintf("counted %v", traffictest.Counted(t, registry)) })
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for method, counts := range traffictest.Counted(t, registry) {
		if counts[1] > 0 {
			t.Errorf("%s: %v bad", method, counts[1])
		}
	}
}

func TestTextsComeExactlyAsJSON(t *testing.T) {
	server := (&fake{}).start(t)
	for _, args := range [][]string{{"echo", "a\t\"b\" <c>"}, {"collect", "a\t\"b\"", "<c>"}} {
		out, _ := expect(t, 0, server, append(args, "--json")...)
		if want := `{"text":"a\t\"b\" <c>"}` + "\n"; out != want {
			t.Errorf("%s: %s", args[0], out)
		}
	}
	out, _ := expect(t, 0, server, "expand", "one two", "--json")
	if out != "{\"text\":\"one\"}\n{\"text\":\"two\"}\n" {
		t.Errorf("expand: %s", out)
	}
}
