package channel

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/cli/clitest"
	"example.com/quartet/internal/rpc"
)

// interrupted is the exit code after an interrupt.
const interrupted = 130

// expect runs a command line against a server, wants an exit code, and returns what was written.
func expect(t *testing.T, code int, server string, args ...string) (out, err string) {
	t.Helper()
	return clitest.Expect(t, code, []cli.Service{Service()}, server, args...)
}

func TestChat(t *testing.T) {
	f, server := startFake(t)
	f.say("eve", "old")
	f.say("e\x1b]0;v\ne", "\x1b[2Jgone\nann: me")
	c := clitest.Terminal{Services: []cli.Service{Service()}, Stdin: "hello\n\nbye"}
	if code := c.Run(t.Context(), server, "chat", "lobby", "--as", "ann"); code != 0 {
		t.Fatal(code, &c.Err)
	}
	lines := strings.Split(c.Out.String(), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], " ann: hello") ||
		!strings.HasSuffix(lines[1], " ann: bye") {
		t.Errorf("shown: %q", lines)
	}
	// The fake never sends what was said before to participants that join from now on; after 0 it
	// does.
	out, _ := expect(t, 0, server, "chat", "lobby", "--after", "1")
	clitest.Want(t, out, ` e\x1b]0;v\ne: \x1b[2Jgone\nann: me`+"\n")
	out, _ = expect(t, 0, server, "chat", "lobby", "--after", "0", "--json")
	clitest.Want(t, out,
		`{"sequence":"1","participant":"eve","body":"b2xk","create_time":"2027-01-15T08:00:00Z"}`+"\n")
	if strings.Count(out, "\n") != 4 {
		t.Errorf("not a line for each message:\n%s", out)
	}
}

func TestChatListensUntilInterrupted(t *testing.T) {
	f, server := startFake(t)
	f.say("eve", "psst")
	ctx, interrupt := context.WithCancel(t.Context())
	c := clitest.Terminal{Services: []cli.Service{Service()}}
	heard := c.Out.Await("psst")
	go func() {
		<-heard
		interrupt()
	}()
	if code := c.Run(ctx, server, "chat", "lobby", "--after", "0", "--listen"); code != interrupted {
		t.Error(code, &c.Err)
	}
}

func TestChatRefusesALineThatIsTooLong(t *testing.T) {
	_, server := startFake(t)
	for length, code := range map[int]int{maxBody: 0, maxBody + 10: 1} {
		c := clitest.Terminal{Services: []cli.Service{Service()},
			Stdin: strings.Repeat("x", length) + "\n"}
		if got := c.Run(t.Context(), server, "chat", "lobby"); got != code {
			t.Errorf("%d bytes: exit code %d, %s", length, got, &c.Err)
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, args := range [][]string{{"chat"}, {"chat", "a", "b"}, {"chat", "c", "--after", "now"}} {
		if _, err := expect(t, 2, "localhost:1", args...); !strings.HasPrefix(err, "test: ") {
			t.Errorf("%v: %q", args, err)
		}
	}
	for _, args := range [][]string{{"chat", "\xff"}, {"chat", "x", "--as", "\xff"}} {
		_, err := expect(t, 2, "localhost:1", args...)
		clitest.Want(t, err, `"\xff": is not UTF-8`)
	}
	for _, value := range []string{"TEST_CHANNEL_TRAFFIC_MESSAGES=many",
		"TEST_CHANNEL_TRAFFIC_MESSAGES=-1", "TEST_CHANNEL_TRAFFIC_MESSAGES=1e9"} {
		c := clitest.Terminal{Services: []cli.Service{Service()}, Environ: []string{value}}
		if code := c.Run(t.Context(), "x", "chat", "y"); code != 2 {
			t.Errorf("%s: exit code %d", value, code)
		}
		clitest.Want(t, c.Err.String(), "TEST_CHANNEL_TRAFFIC_MESSAGES")
	}
}

func TestMissedMessagesCountAsDamage(t *testing.T) {
	gone, err := status.New(codes.OutOfRange,
		"x").WithDetails(&errdetails.ErrorInfo{Domain: "test", Reason: "SEQUENCE_GONE"})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{ErrGap, fmt.Errorf("chat: %w", ErrGap), gone.Err(),
		fmt.Errorf("chat: %w", gone.Err())} {
		if !isDamage(err) {
			t.Errorf("%v is taken for no damage", err)
		}
	}
	for _, err := range []error{ErrLeft, rpc.ErrProtocol, status.Error(codes.OutOfRange, "x"), nil} {
		if isDamage(err) {
			t.Errorf("%v is taken for damage", err)
		}
	}
}

func TestCheckSaysSomethingAndReceivesIt(t *testing.T) {
	_, server := startFake(t)
	out, _ := expect(t, 0, server, "check")
	clitest.Want(t, out, "ok  bidirectional     Exchange")
}
