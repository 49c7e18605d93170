package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/resolver"

	"example.com/quartet/client/workload"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// Config is everything that can be set, each by the environment variable QUARTET_<name>.
type Config struct {
	Server         string `env:"SERVER" envDefault:"localhost:50051" desc:"where the services are: host:port, or a gRPC target such as dns:///host:port"`
	ObjectsServer  string `env:"OBJECTS_SERVER" desc:"where objects are; if empty, at QUARTET_SERVER"`
	ChannelsServer string `env:"CHANNELS_SERVER" desc:"where channels are; if empty, at QUARTET_SERVER"`

	RPC       rpc.ClientConfig `envPrefix:"RPC_"`
	Telemetry telemetry.Config

	HTTPAddress  string          `env:"HTTP_ADDRESS" envDefault:":9465" desc:"serve: where /metrics and /debug/pprof/ are"`
	ProbeAddress string          `env:"PROBE_ADDRESS" envDefault:":50053" desc:"serve: where the kubelet asks grpc.health.v1 for liveness and readiness, always in plaintext"`
	Instance     string          `env:"INSTANCE" desc:"serve: name of this process in what its workload stores, unique among those that call the same servers; if empty, the host's name"`
	Workload     workload.Config `envPrefix:"WORKLOAD_"`
	Drain        DrainConfig     `envPrefix:"DRAIN_"`
}

// DrainConfig is how long each step of a shutdown of serve may take. The chart computes terminationGracePeriodSeconds
// from the same numbers.
type DrainConfig struct {
	Delay      time.Duration `env:"DELAY" envDefault:"1s" desc:"serve: wait after turning unready, for endpoints to notice"`
	Timeout    time.Duration `env:"TIMEOUT" envDefault:"20s" desc:"serve: how long operations under way may take to end"`
	ScrapeWait time.Duration `env:"SCRAPE_WAIT" envDefault:"0s" desc:"serve: wait at most so long for a last scrape of /metrics"`
}

// Validate checks what the types cannot say.
func (c DrainConfig) Validate() error {
	var problems []error
	if c.Delay < 0 {
		problems = append(problems, fmt.Errorf("DELAY=%v: is negative", c.Delay))
	}
	if c.Timeout <= 0 {
		problems = append(problems, fmt.Errorf("TIMEOUT=%v: has to be more than zero", c.Timeout))
	}
	if c.ScrapeWait < 0 {
		problems = append(problems, fmt.Errorf("SCRAPE_WAIT=%v: is negative", c.ScrapeWait))
	}
	return errors.Join(problems...)
}

// maxInstance leaves room for what the workload writes around it in names of at most 128 bytes.
const maxInstance = 64

// Validate checks what the types cannot say.
func (c Config) Validate() error {
	problems := []error{
		checkTarget("SERVER", c.Server),
		checkTarget("OBJECTS_SERVER", c.ObjectsServer),
		checkTarget("CHANNELS_SERVER", c.ChannelsServer),
	}
	if len(c.Instance) > maxInstance {
		problems = append(problems, fmt.Errorf("INSTANCE=%q: is longer than %d bytes", c.Instance, maxInstance))
	}
	return errors.Join(problems...)
}

// checkTarget refuses http://host and its like. gRPC would take it for a host name and look for it for ever.
func checkTarget(name, target string) error {
	if scheme, _, ok := strings.Cut(target, "://"); ok && resolver.Get(scheme) == nil {
		return fmt.Errorf("%s=%q: gRPC knows no %s://, expected host:port", name, target, scheme)
	}
	return nil
}

// loadConfig reads the environment. A person who runs a command wants to read warnings, and a service says more, unless
// somebody chose otherwise.
func loadConfig(environ []string, person bool) (Config, error) {
	cfg, err := config.Load[Config](environ)
	if person && config.Lookup(environ, "QUARTET_LOG_LEVEL") == "" {
		cfg.Telemetry.LogLevel = slog.LevelWarn
	}
	return cfg, err
}

func (c Config) objectsTarget() string  { return cmp.Or(c.ObjectsServer, c.Server) }
func (c Config) channelsTarget() string { return cmp.Or(c.ChannelsServer, c.Server) }

// instance is the name of this process.
func (c Config) instance() (string, error) {
	if c.Instance != "" {
		return c.Instance, nil
	}
	host, err := os.Hostname()
	return host[:min(len(host), maxInstance)], err
}
