package cli_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/quartet/internal/cli"
)

// FuzzTarget reads targets: gRPC takes what is accepted, and it is not read as another one when it
// is read again.
func FuzzTarget(f *testing.F) {
	for _, target := range []string{
		"localhost:1", "dns:///host:1", "dns:host:1", "dns://10.0.0.10:53/host:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1",
		"[fe80::1%eth0]:1", "dns:[fe80::1%25a]:1", "passthrough:///host:1", "unix:server.sock", "unix:///run/s",
		"unix-abstract:a", "dns://user@host/host:1", "dns:///host:1?a#b", "DNS:a:1", "ipv4:%31.2.3.4:1", "://", "%",
		"dns:///%61:1", "unix:%00", "unix://a/b", "xds:///a", "dns:////host:1", "[fe80::%%0X00]:1", "dns:[fe80::1%25%2541]:1",
	} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := cli.ParseTarget(text)
		if err != nil {
			return
		}
		if again, err := cli.ParseTarget(string(got)); err != nil || again != got {
			t.Errorf("%q is %q, which is %q, %v", text, got, again, err)
		}
		conn, err := grpc.NewClient(string(got), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatalf("%q is %q, and gRPC says: %v", text, got, err)
		}
		_ = conn.Close()
	})
}
