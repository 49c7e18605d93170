package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/quartet"
)

// partBytes is how much of an upload the server commits at a time.
const partBytes = 8 << 20

// uploadedBytes is what servers have received of uploads.
var uploadedBytes = series{"grpc_server_msg_received_bytes_total", labels{"grpc_method": "UploadObject"}}

var _ = register(service{
	name: "object",
	embedded: func(e *embedded) []promise {
		return []promise{
			{"the command line works through kubectl port-forward", func(t *testing.T) { keepObject(t, e) }},
			{"transfers outlive a kubectl port-forward that breaks", func(t *testing.T) { breakForward(t, e) }},
			{"transfers by connect-web, tus-js-client and curl go on after a rollout in their middle", func(t *testing.T) { transferInBrowser(t, e) }},
		}
	},
	clusteredValues: strings.Join([]string{
		"client.config.OBJECT_TRAFFIC_LOOKUPS=30", "client.config.OBJECT_TRAFFIC_BYTES=64KiB",
	}, ","),
	observedValues: strings.Join([]string{
		"server.config.OBJECT_QUOTA_BYTES=1TiB",
		"client.config.OBJECT_TRAFFIC_UPLOADS=1", "client.config.OBJECT_TRAFFIC_DOWNLOADS=1",
	}, ","),
	clustered: func(s *clustered) []promise {
		o := objectClustered{s}
		return []promise{
			{"any replica serves any object", o.anyReplica},
			{"an upload whose replica is deleted continues on another", func(t *testing.T) { o.cutUpload(t, "deleted", o.deletePod) }},
			{"an upload whose replica crashes continues on another", func(t *testing.T) { o.cutUpload(t, "crashed", o.crashPod) }},
		}
	},
	secured: func(s *secured) []promise {
		return []promise{
			{"of two callers with tokens, one may only read objects, and the other only write them", func(t *testing.T) { readsAndWritesApart(t, s) }},
			{"a caller with a prefix of its own reads, writes and lists nothing else", func(t *testing.T) { usesItsNamesOnly(t, s) }},
		}
	},
	observed: func(s *observed) []promise {
		o := objectObserved{s}
		return []promise{
			{"the messages of an upload are counted while it runs", o.countsWhileRunning},
			{"an upload is one trace, with its calls below it", o.uploadTrace},
			{"an object that does not exist is not found", o.notFound},
			{"a store that is gone is seen, and an alert tells", o.storeGone},
		}
	},
})

// breakForward kills the port-forward in the middle of an upload, and of a download, and starts
// another at the same port.
func breakForward(t *testing.T, e *embedded) {
	address, forward := e.forwardFrom(t, "", "service/q-quartet-server", 50051)
	_, port, _ := strings.Cut(address, ":")
	again := func() {
		forward.kill()
		_, forward = e.forwardFrom(t, port, "service/q-quartet-server", 50051)
	}
	client, content := cli{e.program, address}, []byte(newContent(t, 3, 3*partBytes))
	var in io.WriteCloser
	upload := start(t, func(c *exec.Cmd) {
		var err error
		if in, err = c.StdinPipe(); err != nil {
			t.Fatal(err)
		}
	}, client.program, client.args("upload", "-", "broken")...)
	for i, half := range [][]byte{content[:len(content)/2], content[len(content)/2:]} {
		if i > 0 {
			again()
		}
		if _, err := in.Write(half); err != nil {
			t.Fatalf("%v: %s", err, &upload.stderr)
		}
	}
	_ = in.Close() // It says nothing that the exit code does not.
	if <-upload.done; upload.err != nil {
		t.Fatalf("upload: %v: %s", upload.err, &upload.stderr)
	}
	download := exec.Command(client.program, client.args("download", "broken", "-")...)
	out, err := download.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := download.Start(); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, len(content)/2)
	if _, err := io.ReadFull(out, first); err != nil {
		t.Fatal(err)
	}
	again()
	rest, err := io.ReadAll(out)
	if err := errors.Join(err, download.Wait()); err != nil ||
		!bytes.Equal(append(first, rest...), content) {
		t.Errorf("download: %v, and what came is the same: %v", err, bytes.Equal(append(first, rest...), content))
	}
	client.run(t, "", "delete", "broken")
}

// keepObject uploads an object of more than one part, which every later look has to find.
func keepObject(t *testing.T, e *embedded) {
	client := e.cli(t)
	content := newContent(t, 1, partBytes+1<<20)
	file := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	client.run(t, "", "upload", file, "--sha256")
	var object struct {
		Size string `json:"size_bytes"`
	}
	if err := json.Unmarshal([]byte(client.run(t, "", "get", "kept", "--json")), &object); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprint(len(content)); object.Size != want {
		t.Errorf("get: %s bytes, expected %s", object.Size, want)
	}
	look := func(t *testing.T, client cli) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "copy")
		client.run(t, "", "download", "kept", file)
		if got, err := os.ReadFile(file); err != nil || string(got) != content {
			t.Fatalf("download: not the %d bytes that were uploaded, but %d others (%v)", len(content), len(got), err)
		}
	}
	look(t, client)
	e.kept = append(e.kept, look)
}

// objectClustered is the state with three replicas, for objects.
type objectClustered struct{ *clustered }

func (s objectClustered) anyReplica(t *testing.T) {
	clients := s.perReplica(t)
	content := newContent(t, 2, 300_000)
	clients[0].run(t, content, "upload", "-", "shared")
	for i, client := range clients {
		if client.run(t, "", "download", "shared", "-") != content {
			t.Errorf("replica %d has other bytes than were uploaded to replica 0", i)
		}
	}
}

// cutUpload takes the replica away to which an upload goes, in the middle, and wants that another
// one got the rest and not all of it anew.
func (s objectClustered) cutUpload(t *testing.T, name string, cut func(t *testing.T, pod string)) {
	from := s.somePods(t, "client", 1)[0].Name
	before, err := s.perServer(t.Context(), uploadedBytes)
	if err != nil {
		t.Fatal(err)
	}
	upload := s.startUpload(t, from, name)
	serving := s.receiving(t, upload, before, partBytes*3/2)
	cut(t, serving)
	cutAt := upload.sent.Load()
	eventually(t, "another part after the cut", time.Minute, func(context.Context) error {
		if sent := upload.sent.Load() - cutAt; sent < partBytes && upload.running() {
			return fmt.Errorf("%d bytes sent since", sent)
		}
		return nil
	})
	sum, size := upload.finish(t), upload.sent.Load()
	s.rolledOut(t, rolloutTime) // The pod in its place shows metrics too.
	s.wantRest(t, before, serving, size)
	s.wantContent(t, from, name, sum)
}

// receiving waits until one replica has got so much of an upload, and returns its pod.
func (s objectClustered) receiving(
	t *testing.T, upload *pacedUpload, before map[string]float64, atLeast float64,
) (pod string) {
	t.Helper()
	eventually(t, "the middle of the upload", time.Minute, func(ctx context.Context) error {
		if !upload.running() {
			t.Fatalf("the upload ended: %v\n%s", upload.err, &upload.stderr)
		}
		now, err := s.perServer(ctx, uploadedBytes)
		if err != nil {
			return err
		}
		received, _ := growth(before, now)
		for name, bytes := range received {
			if bytes >= atLeast {
				pod = name
				return nil
			}
		}
		return fmt.Errorf("received are %v", received)
	})
	return pod
}

// wantRest wants that other replicas than the one that was cut off got something of the upload, and
// not all of it: what was committed before is not sent again. The uploads of the steady traffic are
// small against the half of a part.
func (s objectClustered) wantRest(t *testing.T, before map[string]float64, cut string, size int64) {
	t.Helper()
	now, err := s.perServer(t.Context(), uploadedBytes)
	if err != nil {
		t.Fatal(err)
	}
	delete(now, cut)
	_, rest := growth(before, now)
	t.Logf("%.1f MiB of %.1f MiB went to another replica", rest/(1<<20), float64(size)/(1<<20))
	if rest < partBytes/2 || rest > float64(size)-partBytes/2 {
		t.Errorf("other replicas got %v bytes of an upload of %d", rest, size)
	}
}

func (s objectClustered) wantContent(t *testing.T, pod, name, want string) {
	t.Helper()
	got := sha256.Sum256([]byte(run(t, "kubectl", s.inClient(pod, "--quiet", "download", name, "-")...).stdout))
	if hex.EncodeToString(got[:]) != want {
		t.Errorf("%s has other bytes than were sent", name)
	}
}

// objectObserved is the state under Prometheus and Jaeger, for objects.
type objectObserved struct{ *observed }

// countsWhileRunning holds an upload open and sees it in Prometheus. What the uploads of the steady
// traffic have brought, 1 MiB each, is taken off.
func (o objectObserved) countsWhileRunning(t *testing.T) {
	const grown, enough = `
		sum(grpc_server_msg_received_bytes_total{grpc_method="UploadObject"}
			- grpc_server_msg_received_bytes_total{grpc_method="UploadObject"} offset 15s)
		- 1048576 * sum(grpc_server_started_total{grpc_method="UploadObject"}
			- grpc_server_started_total{grpc_method="UploadObject"} offset 15s)`, 8 << 20
	upload := o.startUpload(t, o.somePods(t, "client", 1)[0].Name, "watched")
	eventually(t, "growth of an upload that runs", 2*scrapeTime, func(ctx context.Context) error {
		bytes, err := o.prometheus.value(ctx, grown)
		if err == nil && bytes < enough {
			err = fmt.Errorf("%v bytes", bytes)
		}
		return err
	})
	if !upload.running() {
		t.Error("the upload was over before it was seen")
	}
	upload.finish(t)
}

// uploadTrace wants the tree that client/object promises: one span for the upload, and the calls
// that it took below it.
func (o objectObserved) uploadTrace(t *testing.T) {
	eventually(t, "the trace of an upload", traceTime, func(ctx context.Context) error {
		spans, err := o.jaeger.named(ctx, quartet.Identity.Component("client"), "upload")
		if err != nil {
			return err
		}
		for _, upload := range spans {
			if upload.OperationName == "upload" && upload.parent() == "" && hasCallBelow(spans, upload) {
				return nil
			}
		}
		return fmt.Errorf("%d spans, none of them an upload above a call", len(spans))
	})
}

func hasCallBelow(spans []span, above span) bool {
	return slices.ContainsFunc(spans, func(s span) bool {
		return s.TraceID == above.TraceID && s.parent() == above.SpanID && strings.HasSuffix(s.OperationName, "/UploadObject")
	})
}

// notFound is for the panels that show failed calls.
func (o objectObserved) notFound(t *testing.T) {
	client := o.somePods(t, "client", 1)[0].Name
	if out, err := try(t.Context(), "", "kubectl", o.inClient(client, "get", "no such object")...); err == nil {
		t.Errorf("an object that does not exist was found: %s", out.stdout)
	}
}

// storeGone takes the store away, waits until an alert tells, and gives it back. Uploads fail
// meanwhile; the panels have something to show of that.
func (o objectObserved) storeGone(t *testing.T) {
	const down = `ALERTS{alertname="QuartetBackendDown",namespace="e2e-telemetry"}`
	o.scale(t, "platform-s3", 0)
	eventually(t, "an alert that a backend is gone", time.Minute, func(ctx context.Context) error {
		found, err := o.prometheus.series(ctx, down, time.Minute)
		if err == nil && found == 0 {
			err = errors.New("no such alert is pending or firing")
		}
		return err
	})
	o.scale(t, "platform-s3", 1)
	eventually(t, "the store again", time.Minute, func(ctx context.Context) error {
		up, err := o.prometheus.value(ctx, `min(`+quartet.Identity.Namespace()+`_backend_up{backend="object",namespace="e2e-telemetry"})`)
		if err == nil && up != 1 {
			err = errors.New("a server says that a backend is down")
		}
		return err
	})
}
