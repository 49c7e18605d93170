package config

import (
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

type tlsConfig struct {
	Mode string `env:"MODE" envDefault:"off" desc:"off or on"`
	Cert string `env:"CERT_FILE"`
}

func (c tlsConfig) Validate() error {
	if c.Mode == "on" && c.Cert == "" {
		return errors.New("CERT_FILE: is needed when MODE is on")
	}
	return nil
}

// Common is exported because env does not fill embedded structs that are not.
type Common struct {
	Level slog.Level `env:"LOG_LEVEL" envDefault:"info"`
}

func (c Common) Validate() error {
	if c.Level == slog.LevelError {
		return errors.New("LOG_LEVEL: hides too much")
	}
	return nil
}

type example struct {
	Common
	Port    int           `env:"GRPC_PORT" envDefault:"50051" desc:"port of the service"`
	Timeout time.Duration `env:"TIMEOUT" envDefault:"10s"`
	Strict  bool          `env:"STRICT"`
	Bucket  url.URL       `env:"BUCKET_URL" envDefault:"file:///data"`
	Chunk   Bytes         `env:"CHUNK_SIZE" envDefault:"1MiB"`
	TLS     tlsConfig     `envPrefix:"TLS_"`
	Peer    tlsConfig     `envPrefix:"PEER_TLS_"`
}

func (e example) Validate() error {
	if e.Port == 1 {
		return errors.Join(
			errors.New("GRPC_PORT=1: is reserved"),
			errors.New("something else is wrong too"),
		)
	}
	return nil
}

const prefix = "SHOP_"

// load fills one struct.
func load[T any](environ []string) (cfg T, err error) {
	err = Load(prefix, environ, Group{Into: &cfg})
	return cfg, err
}

func usage[T any]() []Variable { return Usage(prefix, Group{Into: new(T)}) }

func TestLoad(t *testing.T) {
	cfg, err := load[example]([]string{
		"PATH=/bin",
		"SHOP_GRPC_PORT=9000",
		"SHOP_TIMEOUT=1m30s",
		"SHOP_STRICT=true",
		"SHOP_LOG_LEVEL=warn",
		"SHOP_BUCKET_URL=blob://things?region=eu",
		"SHOP_CHUNK_SIZE=",
		"SHOP_TLS_MODE=on",
		"SHOP_TLS_CERT_FILE=a=b.crt",
	})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Port != 9000 || cfg.Timeout != 90*time.Second || !cfg.Strict ||
		cfg.Level != slog.LevelWarn {
		t.Errorf("got %+v", cfg)
	}
	if cfg.Bucket.Scheme != "blob" || cfg.Bucket.Query().Get("region") != "eu" {
		t.Errorf("got the URL %s", &cfg.Bucket)
	}
	if cfg.Chunk != 1<<20 || cfg.TLS.Cert != "a=b.crt" || cfg.Peer.Mode != "off" {
		t.Errorf("got %+v", cfg)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	tests := []struct {
		name    string
		environ []string
		want    []string
	}{
		{
			"values and names",
			[]string{
				"SHOP_GRPC_PORT=many",
				"SHOP_TIMEOUT=10",
				"SHOP_CHUNK_SIZE=1MB",
				"SHOP_TIMEOT=1s",
				"SHOP_ZZZ=1",
				"SHOP_PEER_TLS_MOD=on",
			},
			[]string{
				"SHOP_PEER_TLS_MOD: no such variable, did you mean SHOP_PEER_TLS_MODE?",
				"SHOP_TIMEOT: no such variable, did you mean SHOP_TIMEOUT?",
				"SHOP_ZZZ: no such variable",
				`SHOP_GRPC_PORT="many": `,
				`SHOP_TIMEOUT="10": `,
				`SHOP_CHUNK_SIZE="1MB": "1MB" is no size`,
			},
		},
		{
			"what structs say of themselves", []string{"SHOP_GRPC_PORT=1", "SHOP_PEER_TLS_MODE=on"},
			[]string{
				"SHOP_GRPC_PORT=1: is reserved",
				"something else is wrong too",
				"SHOP_PEER_TLS_CERT_FILE: is needed when MODE is on",
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := load[example](test.environ)
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.Split(err.Error(), "\n")
			if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
				t.Errorf("got\n%s\nwant\n%s", err, strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestEmbeddedStructsAreAskedOnce(t *testing.T) {
	type outer struct{ Common }
	_, err := load[outer]([]string{"SHOP_LOG_LEVEL=error"})
	if err == nil || err.Error() != "SHOP_LOG_LEVEL: hides too much" {
		t.Errorf("got %v", err)
	}
}

// TestServiceLinks has the variables that Kubernetes makes of the Services
// shop, shop-server and shop-grpc, of which the last one collides with
// a variable of ours.
func TestServiceLinks(t *testing.T) {
	cfg, err := load[example]([]string{
		"SHOP_SERVICE_HOST=10.96.0.7",
		"SHOP_SERVICE_PORT=80",
		"SHOP_PORT=tcp://10.96.0.7:80",
		"SHOP_SERVER_SERVICE_HOST=fd00::7",
		"SHOP_SERVER_SERVICE_PORT=50051",
		"SHOP_SERVER_SERVICE_PORT_GRPC=50051",
		"SHOP_SERVER_PORT=tcp://[fd00::7]:50051",
		"SHOP_SERVER_PORT_50051_TCP=tcp://[fd00::7]:50051",
		"SHOP_SERVER_PORT_50051_TCP_PROTO=tcp",
		"SHOP_SERVER_PORT_50051_TCP_PORT=50051",
		"SHOP_SERVER_PORT_50051_TCP_ADDR=fd00::7",
		"SHOP_GRPC_PORT=tcp://10.96.0.8:50051",
		"SHOP_GRPC_SERVICE_HOST=10.96.0.8",
	})
	if err != nil || cfg.Port != 50051 {
		t.Errorf("got port %d and %v", cfg.Port, err)
	}
	for _, entry := range []string{"SHOP_SERVER_PORT=50051", "SHOP_SERVER_SERVICE_HOST=server", "SHOP_SERVER_PORT_X_TCP=tcp://1.2.3.4:5"} {
		if _, err := load[example]([]string{entry}); err == nil {
			t.Errorf("%s was taken for a service link", entry)
		}
	}
}

func TestGroupsAreFilledAndCheckedTogether(t *testing.T) {
	host, guest := Common{}, struct {
		Rate float64 `env:"RATE" desc:"calls per second"`
	}{Rate: 5}
	groups := []Group{{Into: &host}, {Prefix: "ECHO_", Into: &guest}}
	if usage := Usage(
		prefix,
		groups...); usage[1] != (Variable{"SHOP_ECHO_RATE", "5", "calls per second"}) {
		t.Errorf("the value before Load is no default: %+v", usage[1])
	}
	if err := Load(
		prefix,
		[]string{"SHOP_LOG_LEVEL=debug", "SHOP_ECHO_RATE="},
		groups...); err != nil || guest.Rate != 5 ||
		host.Level != slog.LevelDebug {
		t.Errorf("got %v, %+v and %v", host, guest, err)
	}
	err := Load(prefix, []string{"SHOP_ECHO_RATE=many", "SHOP_RATE=1"}, groups...)
	if err == nil || !strings.Contains(err.Error(), `SHOP_ECHO_RATE="many"`) ||
		!strings.Contains(err.Error(), "SHOP_RATE: no such variable") {
		t.Errorf("got %v", err)
	}
}

func TestUsage(t *testing.T) {
	var names []string
	for _, v := range usage[example]() {
		names = append(names, v.Name)
	}
	want := []string{
		"SHOP_LOG_LEVEL",
		"SHOP_GRPC_PORT",
		"SHOP_TIMEOUT",
		"SHOP_STRICT",
		"SHOP_BUCKET_URL",
		"SHOP_CHUNK_SIZE",
		"SHOP_TLS_MODE",
		"SHOP_TLS_CERT_FILE",
		"SHOP_PEER_TLS_MODE",
		"SHOP_PEER_TLS_CERT_FILE",
	}
	if !slices.Equal(names, want) {
		t.Errorf("got %v", names)
	}
	if got, want := usage[example]()[1], (Variable{"SHOP_GRPC_PORT", "50051", "port of the service"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"1000": 1000, "0": 0, "7B": 7, "8MiB": 8 << 20, "64GiB": 64 << 30, "1.5KiB": 1536, "2 TiB": 2 << 40} {
		var got Bytes
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: got %d and %v, want %d", text, got, err, want)
		}
		var again Bytes
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%s is written as %s", text, got)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5", "8MB", "1e30", "NaN", "Inf", "8 apples"} {
		var got Bytes
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: got %d and no error", text, got)
		}
	}
}
