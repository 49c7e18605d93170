package rpc

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestWaitReadySaysWhyNot has a client that cannot connect for each of the reasons that there are.
func TestWaitReadySaysWhyNot(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	closed := listen(t)
	_ = closed.Close()
	silent := listen(t)
	t.Cleanup(func() { _ = silent.Close() })
	names := startNameServer(t)

	tests := map[string]struct {
		server, client *files
		target         string // if not that of the server
		change         func(*setup)
		want           string
	}{
		"another authority": {server: newFiles(t, "tls", ours, ours),
			client: newFiles(t, "tls", ours, theirs), want: "certificate signed by unknown authority"},
		"another name": {server: newFiles(t, "tls", ours, ours),
			client: newFiles(t, "tls", ours, ours), target: "localhost",
			want: "certificate is not valid for any names, but wanted to match localhost"},
		"plaintext to TLS": {server: newFiles(t, "tls", ours, ours), client: &files{},
			want: "servers that want TLS"},
		"TLS to plaintext": {server: &files{}, client: newFiles(t, "tls", ours, ours),
			want: "first record does not look like a TLS handshake"},
		"no certificate": {server: newFiles(t, "mtls", ours, ours),
			client: newFiles(t, "tls", ours, ours), want: "certificate"},
		"refused certificate": {server: newFiles(t, "mtls", ours, ours),
			client: newFiles(t, "mtls", theirs, ours), want: "certificate"},
		"refused": {target: closed.Addr().String(), want: "connection refused"},
		"NXDOMAIN": {target: "dns://" + names.conn.LocalAddr().String() + "/replicas.test.:1",
			want: "no such host"},
		"HTTP": {target: web.Listener.Addr().String(), want: "HTTP/1.1"},
		"TLS to HTTP": {target: web.Listener.Addr().String(), client: newFiles(t, "tls", ours, ours),
			want: "first record does not look like a TLS handshake"},
		"silent": {target: silent.Addr().String(), want: "no answer yet"},
		"unknown to health": {change: func(s *setup) {
			s.services = []protoreflect.ServiceDescriptor{healthpb.File_grpc_health_v1_health_proto.Services().ByName("Health")}
		}, want: "it is there, but does not have the service"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := defaults()
			if test.server != nil {
				s.server.TLS = test.server.TLSConfig
			}
			r := s.start(t, succeed)
			if test.client != nil {
				s.client.TLS = test.client.TLSConfig
			}
			if test.change != nil {
				test.change(&s)
			}
			target := test.target
			switch target {
			case "":
				target = r.address
			case "localhost":
				target = strings.Replace(r.address, "127.0.0.1", "localhost", 1)
			}
			conn := s.dial(t, target)
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			var notes []string
			err := WaitReady(ctx, conn, func(reason string) {
				if notes = append(notes, reason); strings.Contains(reason, test.want) {
					cancel()
				}
			})
			if err == nil || !strings.Contains(err.Error(), test.want) || len(notes) == 0 ||
				!strings.Contains(notes[len(notes)-1], test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, and before it %q", err, notes)
			}
		})
	}
}

// TestReasonsThatAlternateAreToldOnce has what a server that wants a certificate makes of a client
// without one.
func TestReasonsThatAlternateAreToldOnce(t *testing.T) {
	alert := "error reading server preface: remote error: tls: certificate required"
	pipe := func(port int) string {
		return fmt.Sprintf("write tcp 127.0.0.1:%d->127.0.0.1:50051: write: broken pipe%s", port,
			endedByTLS)
	}
	var known waitReasons
	told := 0
	for i := range 100 {
		for _, reason := range []string{pipe(i), alert, noAnswer} {
			if known.add(reason) {
				told++
			}
		}
	}
	if told != 3 {
		t.Errorf("%d were told", told)
	}
	for _, last := range []string{pipe(1), noAnswer, alert} {
		if got := known.mostSpecific(last); got != alert {
			t.Errorf("after %q the end is %q", last, got)
		}
	}
	if got := known.mostSpecific("connection refused"); got != "connection refused" {
		t.Errorf("a reason that tells something became %q", got)
	}
	for i := range 1000 {
		known.add(strings.Repeat("x", i))
	}
	if len(known.kinds) != maxWaitReasons {
		t.Errorf("%d are remembered", len(known.kinds))
	}
}

// TestAClientWithoutCertificateIsToldSo looks for longer than the server takes to answer in both
// ways that there are.
func TestAClientWithoutCertificateIsToldSo(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	s := defaults()
	s.server.TLS = newFiles(t, "mtls", ours, ours).TLSConfig
	s.client.TLS = newFiles(t, "tls", ours, ours).TLSConfig
	s.client.ResolveInterval = 50 * time.Millisecond // Which is between two attempts, too.
	r := s.start(t, succeed)
	ctx, cancel := context.WithTimeout(testContext(t), 4*time.Second)
	defer cancel()
	var notes []string
	err := WaitReady(ctx, s.dial(t, r.address), func(reason string) { notes = append(notes, reason) })
	if err == nil || !strings.Contains(err.Error(), "certificate required") || len(notes) > 3 {
		t.Errorf("got %v, and before it %q", err, notes)
	}
}
