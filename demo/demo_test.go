package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"example.com/quartet/test/process"
)

func TestOnceIsATruthValue(t *testing.T) {
	for value, want := range map[string]bool{"": false, "0": false, "false": false, "1": true, "true": true} {
		if once, err := parseOnce(value); err != nil || once != want {
			t.Errorf("%q: got %v, %v", value, once, err)
		}
	}
	if _, err := parseOnce("maybe"); err == nil || !strings.Contains(err.Error(), "ONCE") {
		t.Errorf("got %v", err)
	}
}

func TestAFileThatCannotBeUploadedIsRefusedFirst(t *testing.T) {
	dir := t.TempDir()
	regular := filepath.Join(dir, "file")
	if err := os.WriteFile(regular, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", regular} {
		if err := checkFile(path); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, path := range []string{dir, filepath.Join(dir, "missing")} {
		if err := checkFile(path); err == nil || !strings.Contains(err.Error(), "FILE") {
			t.Errorf("%q: got %v", path, err)
		}
	}
}

func TestARateIsOfTheTimeWithCallsUnderWay(t *testing.T) {
	at := func(begin, end int) span {
		return span{start: time.Unix(int64(begin), 0), took: time.Duration(end-begin) * time.Second}
	}
	r := row{calls: []span{at(20, 21), at(0, 4), at(1, 3), at(2, 6)}}
	if got := r.busy(); got != 7*time.Second {
		t.Errorf("the calls were under way for %s", got)
	}
}

func TestQuantilesAreUpperBoundsOfBuckets(t *testing.T) {
	bucket := func(bound float64, count uint64) *dto.Bucket {
		return &dto.Bucket{UpperBound: &bound, CumulativeCount: &count}
	}
	b := buckets{bucket(0.001, 50), bucket(0.01, 98), bucket(0.1, 100)}
	for q, want := range map[float64]string{0.5: "≤ 1ms", 0.99: "≤ 100ms"} {
		if got := b.quantile(q); got != want {
			t.Errorf("%v: got %s, want %s", q, got, want)
		}
	}
	if got := (buckets{}).quantile(0.5); got != "-" {
		t.Errorf("of nothing: got %s", got)
	}
}

func TestATraceIsPrintedAsATree(t *testing.T) {
	at := func(id, parent string, second int64) span {
		return span{trace: "t", id: id, parent: parent, name: id, service: "s", start: time.Unix(second, 0), took: time.Second}
	}
	var printed strings.Builder
	tree{"mode", []span{at("root", "", 0), at("second", "root", 2), at("first", "root", 1), at("below", "first", 1), at("last", "second", 3)}}.print(&printed)
	want := "mode   trace t\n  root          s   1s\n  ├─ first      s   1s\n  │  └─ below   s   1s\n  └─ second     s   1s\n     └─ last    s   1s\n"
	if printed.String() != want {
		t.Errorf("got\n%swant\n%s", printed.String(), want)
	}
}

// TestAProgramThatDoesNotStopCleanlyIsReported has programs that say that they listen, and end with
// a status of their own at SIGTERM.
func TestAProgramThatDoesNotStopCleanlyIsReported(t *testing.T) {
	for name, test := range map[string]struct {
		server, client string
		want           []string
	}{
		"both are clean": {"0", "0", nil},
		"the server":     {"1", "0", []string{"exit status 1"}},
		"both are not":   {"1", "3", []string{"exit status 3", "exit status 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			started, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			program := func(status string) (*process.Process, map[string]string) {
				const script = `trap "exit $0" TERM; printf '{"msg": "listening"}\n' >&2; while :; do sleep 0.1; done`
				p, err := process.Start("/bin/sh", nil, io.Discard, "-c", script, status)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(p.Kill)
				addresses, err := p.Addresses(started)
				if err != nil {
					t.Fatal(err)
				}
				return p, addresses
			}
			p := &pair{dir: t.TempDir()}
			p.server, p.serverAddresses = program(test.server)
			p.client, p.clientAddresses = program(test.client)
			ctx, interrupt := context.WithCancel(t.Context())
			interrupt()
			err := p.end(ctx, errors.New("what was cut"))
			if (err != nil) != (test.want != nil) {
				t.Fatalf("got %v", err)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
			if err != nil && strings.Contains(err.Error(), "what was cut") {
				t.Errorf("it reports what Ctrl-C has cut: %v", err)
			}
		})
	}
}

// TestHintsWork does what the commands do that the demo proposes.
func TestHintsWork(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds both programs")
	}
	// A first build, without a cache, takes minutes on a small machine.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	collector, err := startCollector(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer collector.stop()
	p := &pair{dir: t.TempDir(), collector: collector}
	if err := build(ctx, p.dir); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := p.start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, hint := range p.hints() {
		switch words := strings.Fields(hint); words[0] {
		case "open":
			if page := get(ctx, t, words[1]); !strings.Contains(page, "<html") {
				t.Errorf("%s: there is no page", hint)
			}
		case "curl":
			if metrics := get(ctx, t, words[1]); !strings.Contains(metrics, "grpc_") {
				t.Errorf("%s: there are no metrics of gRPC", hint)
			}
		case "grpcurl":
			names, service := services(ctx, t, words[2]), methods()[0].Parent().FullName()
			if !strings.Contains(names, string(service)) {
				t.Errorf("%s: got %s", hint, names)
			}
		default:
			t.Errorf("not tried: %s", hint)
		}
	}
}

func get(ctx context.Context, t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, response.Status, err)
	}
	return string(body)
}

// services lists them by reflection, as grpcurl does.
func services(ctx context.Context, t *testing.T, address string) string {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return reply.GetListServicesResponse().String()
}
