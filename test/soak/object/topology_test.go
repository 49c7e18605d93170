package soak

import (
	"context"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/client/object"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/server/object/s3/s3test"
	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

const (
	stallTimeout = time.Second
	unaryTimeout = 2 * time.Second
	// lingering is how long a call may still have an effect after its caller has gone: the server
	// knows its deadline, and the store takes a moment more.
	lingering = unaryTimeout + 5*time.Second
)

// topology is one topology with all that breaks it.
type topology struct {
	testing.TB
	seed    uint64
	counts  *counts
	ring    *ring
	model   *model
	library *library

	folder  string       // where the objects are, if they are in a folder
	store   *faultyStore // nil without a store of its own
	servers []*processtest.Server
	proxies []*proxy
	clients []*object.Client
	stub    quartetv1.ObjectServiceClient

	poolMu sync.Mutex
	pool   []*job

	// stop ends the run, when it is over or when something was wrong.
	stop     context.CancelFunc
	breaking sync.Mutex
	problems int
}

// newTopology starts servers: one on a folder, or any number on one store.
func newTopology(t *testing.T, seed uint64, replicas int, stop context.CancelFunc) *topology {
	t.Helper()
	w := &topology{
		TB: t, seed: seed, counts: newCounts(), ring: newRing(), library: newLibrary(seed), stop: stop,
	}
	w.model = newModel(w.broken)
	w.folder = t.TempDir()
	place := process.Setting("OBJECT_DIR", w.folder)
	if replicas > 1 {
		w.model.again = true
		w.folder, place = "", process.Setting("OBJECT_URL", w.newStore(t))
	}
	for i := range replicas {
		s := processtest.Start(logged{w}, append(environment(), place)...)
		w.servers = append(w.servers, s)
		w.proxies = append(w.proxies, newProxy(t, seed, i, s.Address, w.counts, w.ring))
	}
	w.connect(t)
	return w
}

func environment() []string {
	return []string{
		process.Setting("OBJECT_PART_BYTES", "64KiB"), process.Setting("OBJECT_MAX_BYTES", "64MiB"), process.Setting("OBJECT_CHUNK_BYTES", "16KiB"), process.Setting("OBJECT_IDLE_TIMEOUT", "2s"),
		process.Setting("DRAIN_BUDGET", "6s"), process.Setting("RPC_MAX_CONNECTION_AGE", "2s"), process.Setting("OBJECT_UPLOAD_TTL", timeToLive.String()),
		"AWS_ACCESS_KEY_ID=quartet", "AWS_SECRET_ACCESS_KEY=a-secret-for-tests", "AWS_SESSION_TOKEN=", "AWS_PROFILE=",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "AWS_EC2_METADATA_DISABLED=true",
	}
}

func (w *topology) newStore(t *testing.T) (url string) {
	w.store = &faultyStore{
		next: s3test.New(), counts: w.counts, ring: w.ring,
		conditions: random(w.seed, "conditions"), random: random(w.seed, "store"), held: 1,
	}
	server := httptest.NewServer(w.store)
	t.Cleanup(server.Close)
	return s3test.URL(server.Listener.Addr().String(), s3test.Bucket)
}

// connect makes clients that differ in how they cut what they send, on one connection balanced over
// all proxies.
func (w *topology) connect(t *testing.T) {
	t.Helper()
	cfg, err := config.Defaults[struct {
		RPC rpc.ClientConfig `envPrefix:"RPC_"`
	}]()
	if err != nil {
		t.Fatal(err)
	}
	cfg.RPC.UnaryTimeout, cfg.RPC.ResolveInterval = unaryTimeout, 50*time.Millisecond
	proxies := manual.NewBuilderWithScheme("soak")
	var state resolver.State
	for _, p := range w.proxies {
		state.Endpoints = append(
			state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: p.address}}},
		)
	}
	proxies.InitialState(state)
	services := []protoreflect.ServiceDescriptor{quartetv1.File_quartet_v1_object_proto.Services().ByName("ObjectService")}
	conn, err := rpc.NewClient(cfg.RPC, telemetry.Discard(), "soak:///", services,
		grpc.WithResolvers(proxies), grpc.WithStatsHandler(attempts{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	w.stub = quartetv1.NewObjectServiceClient(conn)
	for _, options := range []object.Options{
		{ChunkBytes: chunkBytes, WindowBytes: 4 * partBytes, Telemetry: w.counts.transfers},
		{ChunkBytes: 40_000, WindowBytes: 100_000},
	} {
		options.Resumption = rpc.Resumption{
			StallTimeout: stallTimeout, RetryDelay: 20 * time.Millisecond, MaxTries: 8,
		}
		w.clients = append(w.clients, object.NewClient(conn, options))
	}
}

// broken fails the test and ends the run. The first few problems tell more than all those that
// follow from them.
func (w *topology) broken(problem string) {
	w.breaking.Lock()
	defer w.breaking.Unlock()
	w.ring.add("MODEL", "%s", problem)
	if w.problems++; w.problems <= 3 {
		w.Errorf("after %d operations: %s", w.counts.steps.Load(), problem)
	}
	w.stop()
}

// logged keeps of what a server logs only what is worth a look, among all else that happened. What
// a server calls an error of its own is one, also where its caller has gone; but for a call that
// its drain has cut off and that is still busy when the store closes, which can find no better
// words.
type logged struct{ *topology }

func (l logged) Logf(_ string, args ...any) {
	for _, a := range args {
		line, _ := a.([]byte)
		text := string(line)
		switch {
		case strings.Contains(text, `"level":"INFO"`):
		case strings.Contains(text, `"level":"WARN"`), strings.Contains(text, "Bucket has been closed"):
			l.ring.add("server", "%s", text)
		case strings.Contains(text, `"level":"ERROR"`), strings.Contains(text, "DATA RACE"),
			strings.HasPrefix(text, "panic:"):
			l.broken("server: " + text)
		default:
			l.ring.add("server", "%s", text)
		}
	}
}
