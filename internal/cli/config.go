package cli

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/console"
	"example.com/quartet/internal/rpc"
)

// clientConfig is everything that can be set besides what services have.
type clientConfig struct {
	Server target           `env:"SERVER" envDefault:"localhost:50051" desc:"where the services are: host:port, or a gRPC target such as dns:///host:port"`
	RPC    rpc.ClientConfig `envPrefix:"RPC_"`
	// Process has what serve needs besides: ports, drain, logs. Commands use the logs and traces of
	// it.
	Process app.Config
	// Console is used by serve and by the command "console", whose flag replaces the address.
	Console console.Config `envPrefix:"CONSOLE_"`
	// Instance tells what several clients store on the same servers apart.
	Instance string `env:"INSTANCE" desc:"serve: name of this process in what its traffic stores, unique among those that call the same servers; if empty, the host's name"`
	// Timeout holds for serve and for load.
	Timeout time.Duration `env:"TRAFFIC_TIMEOUT" envDefault:"30s" desc:"serve: time after which an operation of the traffic counts as bad"`

	// servers are where single services are, by their names.
	servers map[string]*serviceConfig
}

// serviceConfig is what can be set of any service.
type serviceConfig struct {
	// Server is empty by default, so that one variable moves all services.
	Server target `env:"SERVER" desc:"where this service is; if empty, where the others are"`
}

// maxInstance leaves room for what the traffic writes around it in names of at most 128 bytes.
const maxInstance = 64

// Validate checks what the types cannot express.
func (c clientConfig) Validate() error {
	var problems []error
	if len(c.Instance) > maxInstance {
		problems = append(
			problems,
			fmt.Errorf("INSTANCE=%q: is longer than %d bytes", c.Instance, maxInstance),
		)
	}
	if c.Timeout <= 0 {
		problems = append(problems, fmt.Errorf("TRAFFIC_TIMEOUT=%v: has to be more than zero", c.Timeout))
	}
	return errors.Join(problems...)
}

// groups are the variables of the program and of its services.
func (p Program) groups() (*clientConfig, []config.Group) {
	cfg := &clientConfig{
		// A client and a server may run on one host, so that their ports differ.
		Process: app.Config{ProbeAddress: ":50053", HTTPAddress: ":9465"},
		servers: map[string]*serviceConfig{},
	}
	// The program's own group is the first; root.go relies on that.
	groups := []config.Group{{Into: cfg}}
	for _, service := range p.Services {
		prefix := service.environmentPrefix()
		cfg.servers[service.Name] = &serviceConfig{}
		// SERVER of a service is in a group of its own, since the host reads it and the service does not.
		groups = append(groups, config.Group{Prefix: prefix, Into: cfg.servers[service.Name]})
		if service.Config != nil {
			groups = append(groups, config.Group{Prefix: prefix, Into: service.Config})
		}
	}
	return cfg, groups
}

// environmentPrefix begins the names of a service's variables, after the prefix of the product.
func (s Service) environmentPrefix() string { return strings.ToUpper(s.Name) + "_" }

// loadConfig reads the environment. Unless a level is chosen, a command logs warnings, and serve
// logs more.
func (c *command) loadConfig(person bool) error {
	cfg, groups := c.groups()
	c.config = cfg
	// Own hides the variables of the server, which often share an environment with these.
	err := config.Load(c.Identity.EnvironmentPrefix(), c.Identity.Own(c.environ, groups...), groups...)
	// A person waits for the result of a command; serve writes for operators.
	if person && !c.levelChosen() {
		cfg.Process.Telemetry.LogLevel = slog.LevelWarn
	}
	return err
}

// levelChosen reports whether an operator has set the level of the log.
func (c *command) levelChosen() bool {
	return config.Lookup(c.environ, c.Identity.EnvironmentPrefix()+"LOG_LEVEL") != ""
}

// useServer has all services at one target, as the flag --server says it, whatever is set for
// single ones.
func (c *clientConfig) useServer(at target) {
	c.Server = at
	// An empty target is that of all, see target.
	for _, service := range c.servers {
		service.Server = ""
	}
}

// target is where a service is: at its own SERVER, or where all are.
func (c *clientConfig) target(service Service) string {
	return string(cmp.Or(c.servers[service.Name].Server, c.Server))
}

// instance is the name of this process. In Kubernetes the host's name is that of the pod, which is
// unique in its namespace.
func (c *clientConfig) instance() (string, error) {
	if c.Instance != "" {
		return c.Instance, nil
	}
	host, err := os.Hostname()
	// A host name may have up to 64 bytes on Linux and more elsewhere.
	return host[:min(len(host), maxInstance)], err
}
