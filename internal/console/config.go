package console

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"example.com/quartet/internal/config"
)

// Config is what can be set of a console.
type Config struct {
	Address           config.Address `env:"ADDRESS" desc:"serve: where the console for browsers is, such as 127.0.0.1:9466; empty for nowhere"`
	Token             config.Secret  `env:"TOKEN" desc:"bearer token that the console asks for; if empty, none"`
	ReadToken         config.Secret  `env:"READ_TOKEN" desc:"a second token for the console, which may call only methods that have no side effects"`
	Origins           string         `env:"ORIGINS" desc:"origins of pages that may use the console besides its own, and names that it has without a token, divided by commas: https://console.example.com"`
	Metadata          string         `env:"METADATA" envDefault:"authorization,x-*" desc:"names of metadata that calls from the console may have, divided by commas; * at the end stands for the rest of a name"`
	MaxCalls          int            `env:"MAX_CALLS" envDefault:"32" desc:"most calls from the console at once"`
	MaxCallsPerCaller int            `env:"MAX_CALLS_PER_CALLER" envDefault:"16" desc:"most of them from one address"`
	MaxFrameBytes     config.Bytes   `env:"MAX_FRAME_BYTES" envDefault:"1MiB" desc:"size of the largest frame that the console accepts from a browser; a message is one, as JSON"`
	IdleTimeout       time.Duration  `env:"IDLE_TIMEOUT" envDefault:"10m" desc:"time without a message either way after which a call from the console is ended"`
	PeerTimeout       time.Duration  `env:"PEER_TIMEOUT" envDefault:"30s" desc:"time that a browser may be silent in the middle of a request, or take nothing of an answer; a third of it for a request that is no upload"`
	TraceURL          string         `env:"TRACE_URL" desc:"link to a trace, with {trace_id} in it: http://localhost:16686/trace/{trace_id}"`
	DashboardURL      string         `env:"DASHBOARD_URL" desc:"link to the dashboard of a method, with {service} and {method} in it where they belong"`
	// For development: RolloutURL is of the Deployment of the servers in the API of Kubernetes.
	RolloutURL         string `env:"ROLLOUT_URL" desc:"the Deployment whose pods a button of the console replaces: https://kubernetes.default.svc/apis/apps/v1/namespaces/NAMESPACE/deployments/NAME; empty for no button"`
	RolloutCredentials string `env:"ROLLOUT_CREDENTIALS" envDefault:"/var/run/secrets/kubernetes.io/serviceaccount" desc:"folder with ca.crt and token for it"`
}

// minFrame has room for the frame that starts a call.
const minFrame = 16 << 10

// minTimeout is far below what a person or a network needs, and leaves parts of it that are not 0.
const minTimeout = 10 * time.Millisecond

// Validate checks what the types cannot say.
func (c Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(format, args...))
	}
	if c.MaxCalls <= 0 {
		bad("MAX_CALLS=%d: has to be more than zero", c.MaxCalls)
	}
	if c.MaxCallsPerCaller <= 0 {
		bad("MAX_CALLS_PER_CALLER=%d: has to be more than zero", c.MaxCallsPerCaller)
	}
	if c.MaxFrameBytes < minFrame {
		bad("MAX_FRAME_BYTES=%v: has to be at least %v", c.MaxFrameBytes, config.Bytes(minFrame))
	}
	if c.IdleTimeout < minTimeout {
		bad("IDLE_TIMEOUT=%v: has to be at least %v", c.IdleTimeout, minTimeout)
	}
	if c.PeerTimeout < minTimeout {
		bad("PEER_TIMEOUT=%v: has to be at least %v", c.PeerTimeout, minTimeout)
	}
	if c.ReadToken != "" && c.Token == "" {
		bad("READ_TOKEN: without TOKEN everything would be open all the same")
	}
	// With one token for both, reading would admit to everything.
	if c.ReadToken != "" && c.ReadToken == c.Token {
		bad("READ_TOKEN: is the same as TOKEN")
	}
	if _, err := newAccess(c); err != nil {
		problems = append(problems, err)
	}
	if _, err := newNames(c.Metadata); err != nil {
		problems = append(problems, err)
	}
	for _, link := range []struct{ name, value string }{{"TRACE_URL", c.TraceURL}, {"DASHBOARD_URL", c.DashboardURL}} {
		if err := validLink(link.value); err != nil {
			bad("%s=%q: %w", link.name, config.Masked(link.value), err)
		}
	}
	if u, err := url.Parse(c.RolloutURL); c.RolloutURL != "" && (err != nil || u.Scheme != "https" ||
		u.Host == "" || u.User != nil) {
		bad("ROLLOUT_URL=%q: is no Deployment, expected https://host/apis/apps/v1/namespaces/x/deployments/y",
			config.Masked(c.RolloutURL))
	}
	return errors.Join(problems...)
}

// validLink refuses what a browser would run in place of opening it.
func validLink(link string) error {
	if link == "" {
		return nil
	}
	// The placeholders have braces, which are no part of a URL; the rest has to be one without them.
	u, err := url.Parse(strings.NewReplacer("{", "", "}", "").Replace(link))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("is no link, expected http://host/path or https://host/path")
	}
	return nil
}

// names are those of the metadata that calls may have, in lower case; one that ends with * stands
// for all that begin with the rest.
type names []string

// metadataName has the characters that gRPC allows in names (Custom-Metadata in its HTTP/2
// protocol).
var metadataName = regexp.MustCompile(`^[0-9a-z_.-]+$`)

// newNames reads a list of names that are divided by commas.
func newNames(list string) (all names, err error) {
	for name := range strings.SplitSeq(list, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "" {
			continue
		}
		if name != "*" && !metadataName.MatchString(strings.TrimSuffix(name, "*")) {
			return nil, fmt.Errorf("METADATA: %q is no name of metadata", name)
		}
		all = append(all, name)
	}
	return all, nil
}

// reserved are metadata that belong to gRPC, to HTTP/2 or to the client's own telemetry.
var reserved = map[string]bool{
	"content-type":      true,
	"user-agent":        true,
	"te":                true,
	"host":              true,
	"connection":        true,
	"keep-alive":        true,
	"proxy-connection":  true,
	"transfer-encoding": true,
	"upgrade":           true,
	"content-length":    true,
	"traceparent":       true,
	"tracestate":        true,
	"baggage":           true,
}

// allow returns why a call may not have metadata of a name, or nil.
func (n names) allow(name string) error {
	// Names that begin with grpc- belong to gRPC, whatever the configuration says.
	if !metadataName.MatchString(name) || strings.HasPrefix(name, "grpc-") || reserved[name] {
		return fmt.Errorf("%q is reserved or no name of metadata", name)
	}
	for _, allowed := range n {
		if rest, wild := strings.CutSuffix(allowed, "*"); name == allowed ||
			wild && strings.HasPrefix(name, rest) {
			return nil
		}
	}
	return fmt.Errorf(
		"the console does not send metadata %q; METADATA has the names that it does",
		name,
	)
}
