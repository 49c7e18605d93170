package rpc

import (
	"testing"

	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/telemetry"
)

// TestConnectionsAndArrivalsAreCounted looks at what telemetry cannot learn
// from interceptors, with and without TLS.
func TestConnectionsAndArrivalsAreCounted(t *testing.T) {
	for _, mode := range []string{"off", "tls"} {
		t.Run(mode, func(t *testing.T) {
			s := defaults()
			if mode == "tls" {
				a := newAuthority(t)
				s.server.TLS, s.client.TLS = newFiles(t, mode, a, a).TLSConfig,
					newFiles(t, mode, a, a).TLSConfig
			}
			r := s.start(t, succeed)
			own := telemetry.Discard()
			conn, err := NewClient(s.client, own, r.address, s.services)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := grpc_testing.NewTestServiceClient(conn).UnaryCall(testContext(t),
				&grpc_testing.SimpleRequest{}); err != nil {
				t.Fatal(err)
			}
			for name, of := range map[string]*telemetry.Telemetry{
				"grpc_server_connections": r.telemetry, "grpc_server_connections_opened_total": r.telemetry,
				"grpc_server_arrived_total": r.telemetry,
				"grpc_client_connections":   own, "grpc_client_connections_opened_total": own,
			} {
				if got := total(t, of, name); got < 1 {
					t.Errorf("%s is %v", name, got)
				}
			}
			_ = conn.Close()
			eventually(t, "the client has no connection",
				func() bool { return total(t, own, "grpc_client_connections") == 0 })
			_ = r.conn.Close()
			eventually(t, "the server has no connection",
				func() bool { return total(t, r.telemetry, "grpc_server_connections") == 0 })
		})
	}
}

// total is the sum of a counter or a gauge over its labels.
func total(t *testing.T, of *telemetry.Telemetry, name string) float64 {
	t.Helper()
	families, err := of.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, family := range families {
		if family.GetName() == name {
			for _, metric := range family.GetMetric() {
				sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return sum
}
