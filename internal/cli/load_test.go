package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/cli/clitest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/traffic"
)

// loaded is a service whose operations do what they are told, each call with its number.
func loaded(do func(n int64) error) []cli.Service {
	var calls atomic.Int64
	all := services()
	all[0].Traffic = func(s cli.Connection) traffic.Source {
		source := (&names{}).traffic(s)
		operation := func(context.Context) error {
			time.Sleep(time.Millisecond)
			return do(calls.Add(1))
		}
		source.Operations = []traffic.Operation{
			{Method: "UnaryCall", Rate: 1, Do: operation},
			{Method: "FullDuplexCall", Rate: 1, Do: operation},
			{Method: "StreamingInputCall", Do: func(context.Context) error { panic("it is turned off") }},
		}
		return source
	}
	return all
}

func TestLoadMeasuresAndLeavesNothingBehind(t *testing.T) {
	f, server := startFake(t, "")
	good := loaded(func(int64) error { return nil })
	out, _ := clitest.Expect(t, 0, good, server, "load", "--duration", "2s", "--concurrency", "3")
	for _, part := range []string{"GOOD  FAILED  WRONG  PER SECOND", "UnaryCall (unary)\n", "FullDuplexCall (bidi_stream)\n"} {
		clitest.Want(t, out, part)
	}
	out, _ = clitest.Expect(
		t,
		0,
		good,
		server,
		"load",
		"--duration",
		"2s",
		"--rate",
		"20",
		"--mode",
		"unary",
		"--json",
	)
	var result struct {
		Service, Method, Mode string
		Good, Failed, Wrong   int
		P50                   float64 `json:"p50_seconds"`
		Max                   float64 `json:"max_seconds"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if result.Method != "UnaryCall" || result.Mode != "unary" || result.Good < 1 ||
		result.Good > 41 ||
		result.P50 < 1e-3 ||
		result.P50 > result.Max {
		t.Errorf("at most 20 a second: %s", out)
	}
	if f.kept != 0 {
		t.Errorf("left %d behind", f.kept)
	}
}

func TestLoadFailsIfAnythingDid(t *testing.T) {
	_, server := startFake(t, "")
	once := func(err error) []cli.Service {
		return loaded(func(n int64) error {
			if n == 5 {
				return err
			}
			return nil
		})
	}
	for name, test := range map[string]struct {
		code     int
		services []cli.Service
		says     string
	}{
		"a wrong answer": {
			5,
			once(fmt.Errorf("%w: message 7 came twice", traffic.ErrWrong)),
			"message 7 came twice",
		},
		"damage":                        {5, once(errDamaged), "damaged"},
		"a failure":                     {1, once(status.Error(codes.Unavailable, "gone away")), "gone away"},
		"all operations are turned off": {1, services(), "no operation was made"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // They last for as long as they are told.
			out, said := clitest.Expect(t, test.code, test.services, server, "load", "--duration", "2s")
			clitest.Want(t, said, test.says)
			if name == "a failure" {
				clitest.Want(t, out, "UnaryCall (unary)")
			}
		})
	}
}

func TestAnInterruptedLoadShowsWhatWasMeasured(t *testing.T) {
	f, server := startFake(t, "")
	ctx, interrupt := context.WithCancel(t.Context())
	c := clitest.Terminal{Services: loaded(func(n int64) error {
		if n == 20 {
			interrupt()
		}
		return nil
	})}
	if code := c.Run(ctx, server, "load", "--duration", "1m"); code != cli.ExitInterrupted {
		t.Errorf("exit code %d: %s", code, &c.Err)
	}
	clitest.Want(t, c.Out.String(), "UnaryCall (unary)")
	if f.kept != 0 {
		t.Errorf("left %d behind", f.kept)
	}
}

// TestALoadThatIsEndedHasTimeToCleanUp ends it while its clean-up takes longer than other commands
// have.
func TestALoadThatIsEndedHasTimeToCleanUp(t *testing.T) {
	for name, test := range map[string]struct {
		code      int
		arguments []string
	}{
		"by a signal":  {cli.ExitInterrupted, []string{"load", "--duration", "1m"}},
		"by --timeout": {4, []string{"load", "--duration", "1m", "--timeout", "2s"}},
		"by --timeout, before the next operation is due": {
			4,
			[]string{"load", "--duration", "1m", "--timeout", "2s", "--rate", "0.1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, server := startFake(t, "")
			f.remove = func(ctx context.Context) error { return rpc.Sleep(ctx, 2*cli.Grace) }
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			c := clitest.Terminal{Services: loaded(func(int64) error {
				if test.code == cli.ExitInterrupted {
					interrupt()
				}
				return nil
			})}
			if code := c.Run(ctx, server, test.arguments...); code != test.code {
				t.Errorf("exit code %d: %s", code, &c.Err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.kept != 0 {
				t.Errorf("left %d behind", f.kept)
			}
			if strings.Contains(c.Err.String(), "remove load-") {
				t.Errorf("nothing is left, and it says:\n%s", &c.Err)
			}
		})
	}
}

// TestALoadSaysWhatItLeavesBehind has servers that refuse to remove anything, and ones that do not
// answer.
func TestALoadSaysWhatItLeavesBehind(t *testing.T) {
	refuse := func(context.Context) error { return status.Error(codes.PermissionDenied, "not yours") }
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for name, test := range map[string]struct {
		remove    func(context.Context) error
		interrupt bool
		duration  string
		code      int
	}{
		"at its end, refused":       {refuse, false, "1s", 0},
		"after a signal, refused":   {refuse, true, "1m", cli.ExitInterrupted},
		"at its end, no answer":     {hang, false, "1s", 0},
		"after a signal, no answer": {hang, true, "1m", cli.ExitInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, server := startFake(t, "")
			f.remove = test.remove
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			c := clitest.Terminal{
				Services: loaded(func(int64) error {
					if test.interrupt {
						interrupt()
					}
					return nil
				}),
				Environ: []string{"TEST_TRAFFIC_TIMEOUT=3s"},
			}
			if code := c.Run(ctx, server, "load", "--duration", test.duration); code != test.code {
				t.Errorf("exit code %d: %s", code, &c.Err)
			}
			if said := c.Err.String(); strings.Count(said, "/usr/bin/test remove load-") != 1 {
				t.Errorf("it says not once what is left:\n%s", said)
			}
		})
	}
}

func TestMisuseOfLoad(t *testing.T) {
	_, said := expect(
		t,
		2,
		"localhost:1",
		"load",
		"--duration",
		"0s",
		"--concurrency",
		"0",
		"--rate",
		"-1",
		"--size",
		"x",
		"--mode",
		"duplex",
	)
	for _, flag := range []string{"--duration=", "--concurrency=", "--rate=", "--size=", "--mode=duplex"} {
		if !strings.Contains(said, flag) {
			t.Errorf("%s is not in:\n%s", flag, said)
		}
	}
}
