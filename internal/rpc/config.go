package rpc

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"example.com/quartet/internal/token"
)

// maxSize of a message or a buffer is less than the 4 GiB that gRPC's framing allows, and
// leaves room for sums.
const maxSize = 1 << 30

// headerListBytes bounds the metadata of a call in both directions. grpc-go
// accepts 16 MiB by default, for which no caller of ours has a use.
const headerListBytes = 16 << 10

// Buffers are much larger than grpc-go's own, because a transfer of big files spends most of its
// time in system calls. Windows are static, as grpc-go would let them grow to 16 MiB: as much as
// its window is what a peer that sends without being read can occupy with each stream.
//
// The stream windows of a server, which has many peers, are as small as HTTP/2 has them by default.
// Uploads hardly notice, because grpc-go opens the window for the rest of a message as soon as the
// handler waits for it: on loopback an upload had 0.30 [0.26–0.39] of the rate of HTTP/1.1, and
// 0.33 [0.23–0.37] with 2 MiB. A client, whose peer it has chosen itself, has larger ones.
//
// The window of a connection holds nothing back, and bounds no memory: grpc-go renews it when data
// arrives, not when it is read. It has to be as large as what can be under way.
const serverConnectionWindow = 16 << 20

// connectionWindow lets several streams have their windows full at once.
func connectionWindow(stream int32) int32 { return 8 * min(stream, math.MaxInt32/8) }

// ServerConfig is what an operator may change about a server.
//
// The connection age is how new replicas get calls from clients that are not
// ours and ask DNS again only when a connection ends, and through whatever
// balances connections. Open streams keep theirs, since the grace after the age
// is infinite.
type ServerConfig struct {
	MaxConnectionAge        time.Duration `env:"MAX_CONNECTION_AGE" envDefault:"30s" desc:"age (±10 %) at which a connection takes no new calls, so that callers which ask DNS only then find new replicas"`
	KeepaliveTime           time.Duration `env:"KEEPALIVE_TIME" envDefault:"30s" desc:"silence on a connection after which the server pings the client"`
	KeepaliveTimeout        time.Duration `env:"KEEPALIVE_TIMEOUT" envDefault:"10s" desc:"wait for the answer to a ping before the connection is closed"`
	KeepaliveMinTime        time.Duration `env:"KEEPALIVE_MIN_TIME" envDefault:"10s" desc:"least time between a client's pings; clients that ping more often are cut off"`
	MaxConcurrentStreams    uint32        `env:"MAX_CONCURRENT_STREAMS" envDefault:"250" desc:"calls at once on one connection; more wait at the client"`
	MaxInFlight             int64         `env:"MAX_IN_FLIGHT" envDefault:"1000" desc:"unary calls at once over all connections; more are refused with RESOURCE_EXHAUSTED"`
	MaxInFlightPerCaller    int64         `env:"MAX_IN_FLIGHT_PER_CALLER" envDefault:"0" desc:"unary calls at once of one token or certificate, or else of one address; 0 for half of MAX_IN_FLIGHT"`
	MaxStreams              int64         `env:"MAX_STREAMS" envDefault:"0" desc:"streams at once over all connections, which do not count as calls; 0 for MAX_IN_FLIGHT"`
	MaxStreamsPerCaller     int64         `env:"MAX_STREAMS_PER_CALLER" envDefault:"0" desc:"streams at once of one token or certificate, or else of one address; 0 for half of them, or MAX_IN_FLIGHT_PER_CALLER"`
	MaxCallsPerSecond       int           `env:"MAX_CALLS_PER_SECOND" envDefault:"0" desc:"calls and streams that one token or certificate, or else one address, may begin in a second; 0 for any number"`
	MaxConnections          int           `env:"MAX_CONNECTIONS" envDefault:"2000" desc:"open connections; more are closed at once"`
	MaxConnectionsPerCaller int           `env:"MAX_CONNECTIONS_PER_CALLER" envDefault:"0" desc:"open connections from one address; 0 for half of MAX_CONNECTIONS"`
	MaxReceiveBytes         int           `env:"MAX_RECEIVE_BYTES" envDefault:"1114112" desc:"size in bytes of the largest message accepted"`
	ArrivingBytes           int64         `env:"ARRIVING_BYTES" envDefault:"0" desc:"memory for messages larger than STREAM_WINDOW_BYTES while they arrive, in bytes, of which one caller may have half; 0 for a sixteenth of GOMEMLIMIT, or of 1GiB without it, but at least four of the largest messages"`
	AcceptCompressed        bool          `env:"ACCEPT_COMPRESSED" envDefault:"false" desc:"accept messages that are compressed, by gzip; they are small on the way and large in memory"`
	BufferBytes             int           `env:"BUFFER_BYTES" envDefault:"524288" desc:"size in bytes of the read and of the write buffer of a connection, while there is something to read or to write"`
	StreamWindowBytes       int32         `env:"STREAM_WINDOW_BYTES" envDefault:"65536" desc:"how much a client may send on one call before it is read, in bytes; a message that is being read may be larger"`
	FirstMessageTimeout     time.Duration `env:"FIRST_MESSAGE_TIMEOUT" envDefault:"10s" desc:"time for the request of a unary or server-streaming call to arrive after its headers, or of any message that has begun, and a second more for each 16 KiB of it; the first message of other streams may take six times as long"`
	SendTimeout             time.Duration `env:"SEND_TIMEOUT" envDefault:"60s" desc:"time for a client to take a message, before its stream ends; as long again for something of what a call that has ended has left, before its connection is closed"`
	ConnectionTimeout       time.Duration `env:"CONNECTION_TIMEOUT" envDefault:"10s" desc:"time for a new connection to finish its handshakes"`
	Reflection              bool          `env:"REFLECTION" envDefault:"true" desc:"tell callers which services and messages there are, as grpcurl asks"`
	PermissionsFile         string        `env:"PERMISSIONS_FILE" desc:"JSON file that says which callers may call which methods with which names, read again when it changes; empty if every caller with a certificate or a token may call everything"`
	TLS                     TLSConfig     `envPrefix:"TLS_"`
	Tokens                  token.Config  `envPrefix:"TOKEN_"`
}

// Validate refuses limits that would let nothing through.
func (c ServerConfig) Validate() error {
	return errors.Join(
		positive("MAX_CONNECTION_AGE", c.MaxConnectionAge),
		positive("KEEPALIVE_TIME", c.KeepaliveTime),
		positive("KEEPALIVE_TIMEOUT", c.KeepaliveTimeout),
		positive("KEEPALIVE_MIN_TIME", c.KeepaliveMinTime),
		positive("MAX_CONCURRENT_STREAMS", c.MaxConcurrentStreams),
		positive("MAX_IN_FLIGHT", c.MaxInFlight),
		notNegative("MAX_IN_FLIGHT_PER_CALLER", c.MaxInFlightPerCaller),
		notNegative("MAX_STREAMS", c.MaxStreams),
		notNegative("MAX_STREAMS_PER_CALLER", c.MaxStreamsPerCaller),
		notNegative("MAX_CALLS_PER_SECOND", c.MaxCallsPerSecond),
		positive("MAX_CONNECTIONS", c.MaxConnections),
		notNegative("MAX_CONNECTIONS_PER_CALLER", c.MaxConnectionsPerCaller),
		size("MAX_RECEIVE_BYTES", c.MaxReceiveBytes),
		notNegative("ARRIVING_BYTES", c.ArrivingBytes),
		size("BUFFER_BYTES", c.BufferBytes),
		positive("STREAM_WINDOW_BYTES", c.StreamWindowBytes),
		positive("SEND_TIMEOUT", c.SendTimeout),
		positive("FIRST_MESSAGE_TIMEOUT", c.FirstMessageTimeout),
		positive("CONNECTION_TIMEOUT", c.ConnectionTimeout),
		c.needIdentities(),
		c.encryptTokens(),
	)
}

// needIdentities refuses permissions for callers that nothing tells apart.
func (c ServerConfig) needIdentities() error {
	if c.PermissionsFile == "" || c.TLS.Mode == "mtls" || c.Tokens.Enabled() {
		return nil
	}
	return errors.New("PERMISSIONS_FILE: needs TLS_MODE=mtls or TOKEN_ISSUER, because it names callers by their certificates or tokens")
}

// encryptTokens refuses tokens that can be read on their way.
func (c ServerConfig) encryptTokens() error {
	var problems []error
	if c.Tokens.Enabled() && !c.Tokens.Plaintext && (c.TLS.Mode == "" || c.TLS.Mode == "off") {
		problems = append(problems,
			errors.New("TOKEN_ISSUER: needs TLS_MODE=tls or mtls, because tokens can be read on a connection without TLS; TOKEN_PLAINTEXT=true accepts that"))
	}
	if c.Tokens.CertificateOptional && c.TLS.Mode != "mtls" {
		problems = append(problems,
			errors.New("TOKEN_CERTIFICATE_OPTIONAL: needs TLS_MODE=mtls, because with other modes clients show no certificates"))
	}
	return errors.Join(problems...)
}

// share is what one caller may have of a limit.
func share[N ~int | ~int64](limit, perCaller N) N { return cmp.Or(perCaller, max(1, limit/2)) }

// ClientConfig is what an operator may change about a client.
type ClientConfig struct {
	KeepaliveTime     time.Duration `env:"KEEPALIVE_TIME" envDefault:"30s" desc:"silence on a connection after which the client pings the server; not below the server's KEEPALIVE_MIN_TIME"`
	KeepaliveTimeout  time.Duration `env:"KEEPALIVE_TIMEOUT" envDefault:"10s" desc:"wait for the answer to a ping before the connection is closed"`
	UnaryTimeout      time.Duration `env:"UNARY_TIMEOUT" envDefault:"10s" desc:"deadline of unary calls that come without an earlier one, all attempts together"`
	MaxReceiveBytes   int           `env:"MAX_RECEIVE_BYTES" envDefault:"4194304" desc:"size in bytes of the largest message accepted"`
	BufferBytes       int           `env:"BUFFER_BYTES" envDefault:"524288" desc:"size in bytes of the read and of the write buffer of a connection, while there is something to read or to write"`
	StreamWindowBytes int32         `env:"STREAM_WINDOW_BYTES" envDefault:"4194304" desc:"how much a server may send on one call before it is read, in bytes"`
	ResolveInterval   time.Duration `env:"RESOLVE_INTERVAL" envDefault:"5s" desc:"how often the servers' names are looked up, and the longest pause before a server that refused is tried again"`
	TokenFile         string        `env:"TOKEN_FILE" desc:"bearer token to send with each call, read again when it changes; empty for none"`
	TokenPlaintext    bool          `env:"TOKEN_PLAINTEXT" envDefault:"false" desc:"send the token over connections without TLS too, where others can read it"`
	Proxy             bool          `env:"PROXY" envDefault:"false" desc:"reach servers through the proxy that HTTPS_PROXY names, unless NO_PROXY excepts them"`
	TLS               TLSConfig     `envPrefix:"TLS_"`
}

// minPing is the interval below which grpc-go clients do not go, whatever
// they are told.
const minPing = 10 * time.Second

// Validate refuses what grpc-go would silently replace.
func (c ClientConfig) Validate() error {
	var ping error
	if c.KeepaliveTime < minPing {
		ping = fmt.Errorf("KEEPALIVE_TIME=%s: must be at least %s", c.KeepaliveTime, minPing)
	}
	return errors.Join(
		ping,
		positive("KEEPALIVE_TIMEOUT", c.KeepaliveTimeout),
		positive("UNARY_TIMEOUT", c.UnaryTimeout),
		size("MAX_RECEIVE_BYTES", c.MaxReceiveBytes),
		size("BUFFER_BYTES", c.BufferBytes),
		positive("STREAM_WINDOW_BYTES", c.StreamWindowBytes),
		positive("RESOLVE_INTERVAL", c.ResolveInterval),
		c.validateToken(),
	)
}

// validateToken refuses a token that can be read on its way, and one in place of its file, which an
// error would show.
func (c ClientConfig) validateToken() error {
	switch {
	case c.TokenFile == "":
		return nil
	case strings.HasPrefix(c.TokenFile, "eyJ") && strings.Count(c.TokenFile, ".") == 2:
		return errors.New("TOKEN_FILE: is a token, expected the name of a file with one")
	case !c.TokenPlaintext && (c.TLS.Mode == "" || c.TLS.Mode == "off"):
		return errors.New("TOKEN_FILE: needs TLS_MODE=tls or mtls, because tokens can be read on a connection without TLS; TOKEN_PLAINTEXT=true accepts that")
	default:
		return nil
	}
}

func size(name string, value int) error {
	if value > maxSize {
		return fmt.Errorf("%s=%v: must be at most %v", name, value, maxSize)
	}
	return positive(name, value)
}

func notNegative[N ~int | ~int64](name string, value N) error {
	if value >= 0 {
		return nil
	}
	return fmt.Errorf("%s=%v: must not be negative", name, value)
}

func positive[N ~int | ~int32 | ~int64 | ~uint32](name string, value N) error {
	if value > 0 {
		return nil
	}
	return fmt.Errorf("%s=%v: must be more than zero", name, value)
}
