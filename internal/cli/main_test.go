package cli_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/cli/clitest"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/porttest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// expect runs a command line against a server, wants an exit code, and returns what was written.
func expect(t *testing.T, code int, server string, args ...string) (out, err string) {
	t.Helper()
	return clitest.Expect(t, code, services(), server, args...)
}

func TestACommandCallsItsServiceAndSaysWhatCameOfIt(t *testing.T) {
	_, server := startFake(t, "")
	out, err := expect(t, 0, server, "find", "x")
	if out != "x\n" || err != "found it\n" {
		t.Errorf("wrote %q and %q", out, err)
	}
	if _, err := expect(t, 0, server, "find", "x", "--quiet"); err != "" {
		t.Errorf("not quiet: %q", err)
	}
	_, err = expect(t, 3, server, "find", "y")
	if err != "test: find \"y\": not found (NAME_NOT_FOUND)\n" {
		t.Errorf("not one clear line: %q", err)
	}
}

// TestOnlyTheLinesOfCallsAreSilent: a connection that is used for a service which it was not told
// of says so in the log.
func TestOnlyTheLinesOfCallsAreSilent(t *testing.T) {
	_, server := startFake(t, "")
	var log clitest.Output
	tele := cli.CallTelemetry(
		telemetry.New(telemetry.Identity{Namespace: "test"}, telemetry.Config{}, &log),
	)
	conn := clienttest.Dial(t, tele, server, descriptor)
	if err := find(clienttest.Deadline(t), cli.Connection{Conn: conn}, "y"); err == nil {
		t.Error("found")
	}
	if log.String() != "" {
		t.Errorf("logged: %s", &log)
	}
	tele.Log.Error("not told of its service")
	clitest.Want(t, log.String(), "not told of its service")
}

func TestCheckCallsEachModeAndStopsAtTheFirstFailure(t *testing.T) {
	_, server := startFake(t, "")
	out, _ := expect(t, 0, server, "check")
	lines := strings.Split(out, "\n")
	for i, want := range []string{"grpc.health.v1    serving", "unary             UnaryCall", "server streaming  StreamingOutputCall", "client streaming  StreamingInputCall", "bidirectional     FullDuplexCall"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], "ok  "+want) {
			t.Errorf("line %d is not %q:\n%s", i+1, want, out)
		}
	}
	out, _ = expect(t, 0, server, "check", "--json")
	clitest.Want(
		t,
		out,
		`{"mode":"unary","service":"grpc.testing.TestService","method":"UnaryCall","seconds":0.`,
	)
	broken := services()
	broken[0].Check = func(s cli.Connection) []cli.Step {
		return append(
			[]cli.Step{
				{Method: "UnaryCall", Do: func(ctx context.Context) error { return find(ctx, s, "y") }},
			},
			check(s)...)
	}
	out, err := clitest.Expect(t, 3, broken, server, "check")
	clitest.Want(
		t,
		err,
		"test: unary grpc.testing.TestService/UnaryCall: not found (NAME_NOT_FOUND)\n",
	)
	if strings.Count(out, "ok ") != 1 {
		t.Errorf("it goes on:\n%s", out)
	}
}

// TestACheckThatEndsEarlyCleansUp has a step fail, or an operator interrupt it, and a clean-up that
// takes longer than other commands have.
func TestACheckThatEndsEarlyCleansUp(t *testing.T) {
	for name, test := range map[string]struct {
		code int
		fail func(ctx context.Context, interrupt func()) error
	}{
		"a step fails": {3, func(context.Context, func()) error {
			return status.Error(codes.NotFound, "not there")
		}},
		"a signal": {cli.ExitInterrupted, func(ctx context.Context, interrupt func()) error {
			interrupt()
			<-ctx.Done()
			return ctx.Err()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, server := startFake(t, "")
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			cleaned, skipped := false, true
			broken := services()
			broken[0].Check = func(cli.Connection) []cli.Step {
				return []cli.Step{
					{Method: "UnaryCall", Do: func(ctx context.Context) error { return test.fail(ctx, interrupt) }},
					{Method: "UnaryCall", Do: func(context.Context) error { skipped = false; return nil }},
					{Method: "UnaryCall", CleanUp: true, Do: func(ctx context.Context) error {
						cleaned = rpc.Sleep(ctx, 2*cli.Grace) == nil
						return nil
					}},
				}
			}
			c := clitest.Terminal{Services: broken}
			if code := c.Run(ctx, server, "check"); code != test.code || !cleaned || !skipped {
				t.Errorf("exit code %d, cleaned %v, skipped %v: %s", code, cleaned, skipped, &c.Err)
			}
		})
	}
}

func TestAServiceMayHaveSeveralInItsContract(t *testing.T) {
	_, server := startFake(t, "")
	two := services()
	two[0].Descriptors = append(two[0].Descriptors, lacking().Descriptors...)
	two[0].Check = func(s cli.Connection) []cli.Step { return append(check(s), lacking().Check(s)...) }
	two[0].Commands = lacking().Commands
	_, err := clitest.Expect(t, 1, two, server, "miss")
	clitest.Want(
		t,
		err,
		"UNIMPLEMENTED",
	) // A connection that was not told of the second would say INTERNAL.
	out, _ := clitest.Expect(t, 0, two, server, "--help")
	clitest.Want(t, out, "grpc.testing.TestService, grpc.testing.UnimplementedService:")
}

// TestAServiceThatTheServerLacksIsNamed calls it alone, and among others, where the connection is
// ready without it.
func TestAServiceThatTheServerLacksIsNamed(t *testing.T) {
	_, server := startFake(t, "")
	both := append(services(), lacking())
	for _, command := range []string{"miss", "check"} {
		out, err := clitest.Expect(t, 4, both, server, command, "--timeout", "2s")
		clitest.Want(
			t,
			err,
			"waiting for server at "+server+": it is there, but does not have the service grpc.testing.UnimplementedService\n",
		)
		clitest.Want(
			t,
			err,
			"test: not done within 2s: server at "+server+": it is there, but does not have the service grpc.testing.UnimplementedService;",
		)
		if out != "" {
			t.Errorf("%s: %s", command, out)
		}
	}
}

func TestDemoShowsEachService(t *testing.T) {
	_, server := startFake(t, "")
	out, _ := expect(t, 0, server, "demo", "a-file")
	if out != "find       \"x\" in \"a-file\"\n" {
		t.Errorf("showed %q", out)
	}
}

func TestAServiceMayBeSomewhereElse(t *testing.T) {
	_, server := startFake(t, "")
	for _, environ := range [][]string{{"TEST_NAMES_SERVER=" + server}, {"TEST_NAMES_SERVER=" + server, "TEST_INSTANCE=me"}} {
		c := clitest.Terminal{Services: services(), Environ: environ}
		if code := c.Run(t.Context(), porttest.Address(t), "find", "x", "--timeout", "20s"); code != 0 {
			t.Errorf("exit code %d, %s", code, &c.Err)
		}
	}
	// The flag wins.
	c := clitest.Terminal{
		Services: services(),
		Environ:  []string{"TEST_NAMES_SERVER=" + porttest.Address(t)},
	}
	if code := c.Run(t.Context(), "localhost:1", "find", "x", "--timeout", "20s", "--server",
		server); code != 0 {
		t.Errorf("exit code %d, %s", code, &c.Err)
	}
}

func TestAProgramWithoutServicesChecksTheServersHealth(t *testing.T) {
	_, server := startFake(t, "")
	out, _ := clitest.Expect(t, 0, nil, server, "check")
	if strings.Count(out, "ok ") != 1 {
		t.Errorf("checked:\n%s", out)
	}
}

func TestAbsentServerIsWaitedFor(t *testing.T) {
	_, address := startFake(t, "")
	late := porttest.Address(t)
	c := clitest.Terminal{Services: services()}
	waiting := c.Err.Await("waiting for server at " + late)
	started := make(chan struct{})
	go func() {
		defer close(started)
		<-waiting
		startFake(t, late)
	}()
	if code := c.Run(t.Context(), late, "find", "x"); code != 0 {
		t.Error(code, &c.Err)
	}
	<-started
	clitest.Want(t, c.Err.String(), "connection refused\n")
	if n := strings.Count(c.Err.String(), "\n"); n != 2 { // That, and that it was found.
		t.Errorf("%d lines: %s", n, &c.Err)
	}
	_, err := expect(t, 4, porttest.Address(t), "find", "x", "--timeout", "100ms")
	clitest.Want(t, err, "test: not done within 100ms: server at ")
	clitest.Want(t, err, "connection refused")
	clitest.Want(t, err, "--timeout")
	expect(t, 3, porttest.Address(t), "find", "y", "--server", address)
}

func TestAnInterruptEndsACommand(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	c := clitest.Terminal{Services: services()}
	waiting := c.Err.Await("waiting for server")
	go func() {
		<-waiting
		interrupt()
	}()
	if code := c.Run(ctx, porttest.Address(t), "find", "x"); code != cli.ExitInterrupted {
		t.Errorf("exit code %d", code)
	}
	clitest.Want(t, c.Err.String(), "test: interrupted\n")
}

func TestMisuse(t *testing.T) {
	for _, args := range [][]string{
		{"find"}, {"find", "a", "b"}, {"sing"}, {"find", "x", "--loud"}, {"find", "--timeout", "x"}, {"serve", "x"}, {"check", "x"},
		{"demo", "a", "b"}, {"find", "x", "--server", "http://localhost:50051"},
		{"find", "x", "--timeout", "0s"}, {"find", "x", "--timeout", "-1s"}, {"find", "x\xff"}, {"find", "x", "--server", "\xff"},
	} {
		if _, err := expect(t, 2, "localhost:1", args...); !strings.HasPrefix(err, "test: ") {
			t.Errorf("%v: %q", args, err)
		}
	}
}

func TestHelpFitsAScreenAndLeadsToTheRest(t *testing.T) {
	out, _ := expect(t, 0, "localhost:1", "--help")
	for _, part := range []string{
		"Calls services.", "Usage: /usr/bin/test COMMAND", "grpc.testing.TestService:\n  find ", "  completion ", "  check ", "  serve ",
		"/usr/bin/test help environment",
	} {
		clitest.Want(t, out, part)
	}
	if again, _ := expect(t, 0, "localhost:1", "help"); again != out {
		t.Errorf("help alone says:\n%s", again)
	}
	out, _ = expect(t, 0, "localhost:1", "help", "environment")
	for _, part := range []string{
		"\nWhere the services are:\n  TEST_SERVER ", "\nConnections:\n  TEST_RPC_", "TEST_DRAIN_BUDGET ", "\nService names:\n  TEST_NAMES_SERVER ",
		"TEST_NAMES_TRAFFIC_CALLS ",
	} {
		clitest.Want(t, out, part)
	}
	out, _ = expect(t, 0, "localhost:1", "help", "exit-codes")
	clitest.Want(t, out, "  130  interrupted")
	out, _ = expect(t, 0, "localhost:1", "find", "--help")
	clitest.Want(t, out, "  /usr/bin/test find x\n") // As it was started, so that it can be pasted.
	clitest.Want(
		t,
		out,
		"All commands take --server, --token-file, --timeout and --quiet too, see /usr/bin/test help.\n",
	)
	out, _ = expect(t, 0, "localhost:1", "completion", "--help")
	clitest.Want(t, out, "  fish ")
	out, _ = expect(t, 0, "localhost:1", "completion", "bash")
	clitest.Want(t, out, "__start_test test\n")
	out, _ = expect(t, 0, "localhost:1", "--version")
	clitest.Want(t, out, "test-client v1.2.3 (")
}

// TestHelpNamesTheKindOfEachFlag refuses back quotes around another word of the description, which
// is then shown as the kind of the value.
func TestHelpNamesTheKindOfEachFlag(t *testing.T) {
	kinds := map[string][]string{
		"bool":     {""},
		"int":      {"int", "number"},
		"float64":  {"float", "number"},
		"duration": {"duration"},
	}
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		check := func(f *pflag.Flag) {
			kind, _ := pflag.UnquoteUsage(f)
			// A text may be a name, a file or anything else.
			if fitting := kinds[f.Value.Type()]; fitting != nil && !slices.Contains(fitting, kind) {
				t.Errorf("%s --%s is a %s, and shown as %q", cmd.Name(), f.Name, f.Value.Type(), kind)
			}
		}
		cmd.LocalFlags().VisitAll(check)
		for _, child := range cmd.Commands() {
			look(child)
		}
	}
	look(cli.Root(cli.Program{Services: services()}))
}

func TestMalformedConfigurationIsToldWhole(t *testing.T) {
	for _, test := range []struct{ environ, names []string }{
		{
			[]string{"TEST_DRAIN_DELAY=soon", "TEST_NAMES_TRAFFIC_CALLS=many", "TEST_SERVRE=x"},
			[]string{"TEST_DRAIN_DELAY", "TEST_NAMES_TRAFFIC_CALLS", "TEST_SERVRE"},
		},
		{
			[]string{"TEST_DRAIN_BUDGET=0s", "TEST_NAMES_TRAFFIC_CALLS=-1", "TEST_INSTANCE=" + strings.Repeat("x", 65), "TEST_TRAFFIC_TIMEOUT=0s"},
			[]string{"TEST_DRAIN_BUDGET=0s:", "TEST_NAMES_TRAFFIC_CALLS=-1:", "TEST_INSTANCE=", "TEST_TRAFFIC_TIMEOUT=0s:"},
		},
	} {
		c := clitest.Terminal{Services: services(), Environ: test.environ}
		if code := c.Run(t.Context(), "x", "find", "y"); code != 2 {
			t.Errorf("exit code %d", code)
		}
		for _, name := range test.names {
			clitest.Want(t, c.Err.String(), name)
		}
	}
}
