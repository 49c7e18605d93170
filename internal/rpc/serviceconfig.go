package rpc

import (
	"encoding/json"
	"strconv"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// The JSON below is gRPC's service config; the names are its names.
type svcConfig struct {
	LoadBalancing []map[string]struct{} `json:"loadBalancingConfig"`
	HealthCheck   healthCheck           `json:"healthCheckConfig"`
	Methods       []methodConfig        `json:"methodConfig"`
	Throttling    retryThrottling       `json:"retryThrottling"`
}

type healthCheck struct {
	ServiceName string `json:"serviceName"`
}

type methodConfig struct {
	Name         []methodName `json:"name"`
	WaitForReady bool         `json:"waitForReady"`
	Timeout      string       `json:"timeout,omitempty"`
	Retry        *retryPolicy `json:"retryPolicy,omitempty"`
}

type methodName struct {
	Service string `json:"service,omitempty"`
	Method  string `json:"method,omitempty"`
}

type retryPolicy struct {
	MaxAttempts       int      `json:"maxAttempts"`
	InitialBackoff    string   `json:"initialBackoff"`
	MaxBackoff        string   `json:"maxBackoff"`
	BackoffMultiplier float64  `json:"backoffMultiplier"`
	Codes             []string `json:"retryableStatusCodes"`
}

type retryThrottling struct {
	MaxTokens  int     `json:"maxTokens"`
	TokenRatio float64 `json:"tokenRatio"`
}

// retries covers a restart of one replica: up to 0.1, 0.2 and 0.4 s between the
// attempts. The code says that the server did not do the work. RESOURCE_EXHAUSTED
// is not here, because it may also say that a message can never fit: see untilRoom.
var retries = &retryPolicy{
	MaxAttempts:       4,
	InitialBackoff:    "0.1s",
	MaxBackoff:        "2s",
	BackoffMultiplier: 2,
	Codes:             []string{"UNAVAILABLE"},
}

// throttling stops the retries of a client once half of its last 100 calls or
// so failed, until ten succeed for each: a server in trouble does not need four
// times the load.
var throttling = retryThrottling{MaxTokens: 100, TokenRatio: 0.1}

// serviceConfig says how the methods of services are called: which are retried
// follows from their idempotency_level, so there is no list to keep. The health
// of a connection is that of its service or, where it has several, that of the
// whole server, which has the name "".
func serviceConfig(services []protoreflect.ServiceDescriptor, unaryTimeout time.Duration) string {
	config := svcConfig{
		LoadBalancing: []map[string]struct{}{{"round_robin": {}}},
		Methods:       []methodConfig{{Name: []methodName{{}}, WaitForReady: true}},
		Throttling:    throttling,
	}
	if len(services) == 1 {
		config.HealthCheck.ServiceName = string(services[0].FullName())
	}
	for _, service := range services {
		for i := range service.Methods().Len() {
			config.Methods = append(config.Methods, configOf(service.Methods().Get(i), unaryTimeout))
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return string(text)
}

func configOf(method protoreflect.MethodDescriptor, unaryTimeout time.Duration) methodConfig {
	config := methodConfig{
		Name:         []methodName{{string(method.Parent().FullName()), string(method.Name())}},
		WaitForReady: true,
	}
	if !method.IsStreamingClient() && !method.IsStreamingServer() {
		config.Timeout = strconv.FormatFloat(unaryTimeout.Seconds(), 'f', -1, 64) + "s"
	}
	if mayRepeat(method) {
		config.Retry = retries
	}
	return config
}

// mayRepeat is true where a second attempt does no harm. A client stream is
// left out even if idempotent: grpc-go replays at most 256 KiB of it, so an
// upload is resumed by its caller instead.
func mayRepeat(method protoreflect.MethodDescriptor) bool {
	options, ok := method.Options().(*descriptorpb.MethodOptions)
	return ok && !method.IsStreamingClient() &&
		options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}
