package cli_test

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"example.com/quartet/internal/cli/clitest"
)

// consoleAddress is where a client that serves has its console.
func consoleAddress(t *testing.T, c *clitest.Terminal) string {
	t.Helper()
	<-c.Err.Await(`"console":"`)
	_, rest, _ := strings.Cut(c.Err.String(), `"console":"`)
	address, _, _ := strings.Cut(rest, `"`)
	return address
}

// converse opens a stream from a console and gets one reply.
func converse(t *testing.T, address string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+address+"/api/call", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	for _, frame := range []string{`{"type": "start", "method": "grpc.testing.TestService/FullDuplexCall"}`, `{"type": "message", "message": {}}`} {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, conn, "message")
	return conn
}

// await returns the first event of a type.
func await(t *testing.T, conn *websocket.Conn, kind string) (event struct {
	Type   string
	Status struct{ Name, Message string }
}) {
	t.Helper()
	for event.Type != kind {
		_, text, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		events := []struct {
			Type   string
			Status struct{ Name, Message string }
		}{}
		if err := json.Unmarshal(text, &events); err != nil {
			t.Fatal(err)
		}
		for _, event = range events {
			if event.Type == kind {
				break
			}
		}
	}
	return event
}

func TestServeHasAConsoleWhereOneIsConfigured(t *testing.T) {
	_, server := startFake(t, "")
	c, exit, terminate := serve(
		t,
		server,
		"TEST_CONSOLE_ADDRESS=127.0.0.1:0",
		"TEST_NAMES_TRAFFIC_CALLS=10",
	)
	address := consoleAddress(t, c)
	clitest.Want(t, fetch(t, "http://"+address+"/"), "<html")
	clitest.Want(t, fetch(t, "http://"+address+"/api/catalogue"), `"grpc.testing.TestService"`)
	conn := converse(t, address)
	terminate()
	if e := await(t, conn, "status"); e.Status.Name != "UNAVAILABLE" ||
		!strings.Contains(e.Status.Message, "stopping") {
		t.Errorf("%+v", e)
	}
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d\n%s", code, &c.Err)
	}
}

func TestServeHasNoConsoleByDefault(t *testing.T) {
	c, exit, terminate := serve(t, "localhost:1")
	listening(t, c)
	if strings.Contains(c.Err.String(), `"console"`) {
		t.Errorf("there is a console:\n%s", &c.Err)
	}
	terminate()
	<-exit
}

func TestAConsoleWhoseAddressIsTakenEndsTheStart(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := clitest.Terminal{
		Services: services(),
		Environ:  serving("TEST_CONSOLE_ADDRESS=" + listener.Addr().String()),
	}
	if code := c.Run(t.Context(), "localhost:1", "serve"); code != 1 {
		t.Errorf("exit code %d", code)
	}
	clitest.Want(t, c.Err.String(), "TEST_CONSOLE_ADDRESS")
}

func TestConsoleCommand(t *testing.T) {
	_, server := startFake(t, "")
	c := &clitest.Terminal{Services: services()}
	ctx, interrupt := context.WithCancel(t.Context())
	exit := make(chan int, 1)
	go func() { exit <- c.Run(ctx, server, "console") }()
	<-c.Out.Await("/\n")
	converse(
		t,
		strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(c.Out.String()), "http://"), "/"),
	)
	interrupt()
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d\n%s", code, &c.Err)
	}
}

func TestConsoleCommandRefusesAnAddressThatIsNone(t *testing.T) {
	clitest.Expect(t, 2, services(), "localhost:1", "console", "--address", "nowhere")
}
