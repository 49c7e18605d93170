package telemetry

import (
	"errors"
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/credentials/insecure"
)

func TestConnectionsAreCountedWhileTheyAreOpen(t *testing.T) {
	p := start(t, &service{}, Discard(), Discard())
	server, client := p.server.server.connections, p.client.client.connections
	ctx := testContext(t)
	if err := p.callUnary(ctx); err != nil {
		t.Fatal(err)
	}
	if server.look() != 1 || client.look() != 1 {
		t.Errorf("%v at the server and %v at the client while both use one", server.look(), client.look())
	}
	_ = p.conn.Close()
	waitUntil(t, ctx, func() bool { return server.look() == 0 && client.look() == 0 })
	if s, c := testutil.ToFloat64(server.Counter), testutil.ToFloat64(client.Counter); s != 1 ||
		c != 1 {
		t.Errorf("%v opened at the server and %v at the client", s, c)
	}
}

// TestConnectionsThatFailAreNotOpen counts one that says no word of HTTP/2, and
// that grpc-go closes itself.
func TestConnectionsThatFailAreNotOpen(t *testing.T) {
	p := start(t, &service{}, Discard(), Discard())
	conn, err := net.Dial("tcp", p.conn.Target())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	connections := p.server.server.connections
	waitUntil(t, testContext(t), func() bool { return connections.look() == 1 })
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: nobody\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, testContext(t), func() bool { return connections.look() == 0 })
}

// TestConnectionsStayWhatTheyAre is what TCP_USER_TIMEOUT and pooled read
// buffers need: grpc-go has both for a *net.TCPConn only.
func TestConnectionsStayWhatTheyAre(t *testing.T) {
	telemetry := Discard()
	creds := insecure.NewCredentials()
	for range 2 {
		here, there := tcpPair(t)
		if _, err := there.Write([]byte("PRI * HTTP/2.0")); err != nil {
			t.Fatal(err)
		}
		server, client := telemetry.CountServerConnections(creds), telemetry.CountClientConnections(creds)
		if got, _, err := server.Clone().ServerHandshake(here); got != here || err != nil {
			t.Errorf("the server's is a %T, %v", got, err)
		}
		got, _, err := client.Clone().ClientHandshake(testContext(t), "", there)
		if got != there || err != nil {
			t.Errorf("the client's is a %T, %v", got, err)
		}
	}
	if n, m := telemetry.server.connections.look(), telemetry.client.connections.look(); n != 2 ||
		m != 2 {
		t.Errorf("counted %v and %v", n, m)
	}
}

// tcpPair is both ends of a connection.
func tcpPair(t *testing.T) (accepted, dialled net.Conn) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	dialled, err = net.Dial("tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err = lis.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = accepted.Close(), dialled.Close() })
	return accepted, dialled
}

// TestClosedConnectionsAreForgotten opens and closes many while the metrics are not read.
func TestClosedConnectionsAreForgotten(t *testing.T) {
	connections := Discard().server.connections
	for range 500 {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		connections.add(conn.(net.Conn))
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if n := len(connections.open); n > 64 {
			t.Fatalf("%d are remembered", n)
		}
	}
}

func TestConnectionsWithinAProcessAreOnlyOpened(t *testing.T) {
	conn, other := net.Pipe()
	connections := Discard().client.connections
	connections.add(conn)
	if opened, open := testutil.ToFloat64(connections.Counter), connections.look(); opened != 1 ||
		open != 0 {
		t.Errorf("%v opened, %v open", opened, open)
	}
	if err := errors.Join(conn.Close(), other.Close()); err != nil {
		t.Error(err)
	}
}
