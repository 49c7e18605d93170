package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/quartet"
)

// The series that these tests look at.
var (
	storedBytes      = series{quartet.Identity.Namespace() + "_objects_stored_bytes", nil}
	runningUploads   = series{"grpc_server_in_flight", labels{"grpc_method": "UploadObject"}}
	runningDownloads = series{"grpc_server_in_flight", labels{"grpc_method": "DownloadObject"}}
)

const (
	// uploadTTL is how long the servers keep what no client continues or uses: short, so that the end
	// of it can be seen.
	uploadTTL = time.Minute
	// busyTime is how long it may take until a server has a transfer: connections move every 30 s, to
	// any server.
	busyTime = 5 * time.Minute
	// sweepTime is how long it may take until nothing is left that is older than that.
	sweepTime = 3 * uploadTTL
)

// disrupted is three servers on the platform's broker and store, while pods are killed all the
// time.
type disrupted struct {
	release
	address string
	pattern pattern
	made    atomic.Int64 // how many contents there have been
	kept    []*transfer  // what is there all the time

	mu sync.Mutex
	// acknowledged is what every name has by the word of the servers.
	acknowledged map[string]bulk
}

// TestDisruption has big uploads and downloads go on without a pause while everything that they
// need goes away and comes back. Their client waits as long as it does by default, and each has to
// end with the right bytes.
func TestDisruption(t *testing.T) {
	n := openCluster(t).newNamespace(t, "e2e-disruption")
	d := &disrupted{release: n.release("q", "quartet"), pattern: newPattern(t), acknowledged: map[string]bulk{}}
	inOrder(t,
		promise{"three replicas start on S3 and NATS", d.start},
		promise{"transfers survive that each server pod is deleted", d.during(0, d.eachServer(d.deletePod))},
		promise{"transfers survive that each server pod is deleted by force", d.during(1, d.eachServer(d.forceDeletePod))},
		promise{"transfers survive that each server process is killed", d.during(1, d.eachServer(d.crashPod))},
		promise{"transfers survive two restarts of all servers", d.during(0, d.restartTwice)},
		promise{"transfers survive that the store is killed", d.during(0, d.store(d.crashPod))},
		promise{"transfers survive that the store is deleted", d.during(0, d.store(d.deletePod))},
		promise{"the objects are those that were acknowledged", d.objects},
		promise{"the store holds nothing else once the time to live is over", d.swept},
	)
}

func (d *disrupted) start(t *testing.T) {
	p := d.namespace.release("platform", "platform")
	p.install(t, "--set",
		"prometheus.enabled=false,jaeger.enabled=false,grafana.enabled=false,metricsServer.enabled=false")
	p.rolledOut(t, platformTime)
	d.install(t, "--values", d.chart+"/values-development.yaml", "--set", strings.Join([]string{
		"telemetry.otlpEndpoint=", "client.replicas=0", "server.service.type=NodePort", "server.drain.scrapeWaitSeconds=0",
		"server.config.OBJECT_UPLOAD_TTL=" + uploadTTL.String(),
	}, ","))
	d.rolledOut(t, rolloutTime)
	d.address = d.nodePort(t, "q-quartet-server", "grpc")
	for lane := range lanes {
		kept := &transfer{
			ctx: t.Context(), client: newCaller(t, d.address), name: fmt.Sprint("kept-", lane), content: d.newContent(),
		}
		if err := d.upload(kept); err != nil {
			t.Fatal(err)
		}
		d.kept = append(d.kept, kept)
	}
}

func (d *disrupted) newContent() bulk { return d.pattern.number(d.made.Add(1), laneBytes) }

// upload remembers what was acknowledged.
func (d *disrupted) upload(up *transfer) error {
	if err := up.upload(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acknowledged[up.name] = up.content
	return nil
}

// during has something happen in the middle of traffic, which has to move before and after it and
// to end well, with at least so many resumes. What is warned may end in time, and need none.
func (d *disrupted) during(resumes int, happen func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) {
		f := d.startTraffic(t)
		f.moves(t)
		began := time.Now()
		happen(t)
		t.Logf("it happened for %.0f s", time.Since(began).Seconds())
		f.moves(t)
		if resumed := f.finish(t); resumed < resumes {
			t.Errorf("%d resumes, expected %d at least", resumed, resumes)
		}
	}
}

// eachServer does something to one server after another, each once all are there again and it has a
// transfer.
func (d *disrupted) eachServer(do func(t *testing.T, pod string)) func(t *testing.T) {
	return func(t *testing.T) {
		for _, pod := range names(d.somePods(t, "server", serverReplicas)) {
			d.busy(t, pod)
			do(t, pod)
			d.rolledOut(t, restartTime)
		}
	}
}

// busy waits until a server has a transfer. They go where their connections happen to be.
func (d *disrupted) busy(t *testing.T, pod string) {
	t.Helper()
	eventually(t, "transfer at "+pod, busyTime, func(ctx context.Context) error {
		m, err := d.scrape(ctx, pod, serverMetrics)
		if err == nil && m.sum(runningUploads)+m.sum(runningDownloads) == 0 {
			err = errors.New("it has none")
		}
		return err
	})
}

func (d *disrupted) restartTwice(t *testing.T) {
	for range 2 {
		run(t, "kubectl", d.kubectl("rollout", "restart", "deployment/q-quartet-server")...)
		d.rolledOut(t, restartTime)
	}
}

// store does something to the store, and waits until it is there again. Servers try again by
// themselves, so that a short absence may pass without their callers' noticing.
func (d *disrupted) store(do func(t *testing.T, pod string)) func(t *testing.T) {
	return func(t *testing.T) {
		pods, err := d.labelled(t.Context(), "app.kubernetes.io/name=s3")
		if err != nil || len(pods) != 1 {
			t.Fatalf("the store has %d pods (%v)", len(pods), err)
		}
		do(t, pods[0].Name)
		d.namespace.release("platform", "platform").rolledOut(t, platformTime)
	}
}

// objects wants all that was acknowledged and nothing besides, each with its content.
func (d *disrupted) objects(t *testing.T) {
	client := newCaller(t, d.address)
	var listed []string
	for stored, err := range client.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, stored.GetName())
	}
	if want := slices.Sorted(maps.Keys(d.acknowledged)); !slices.Equal(listed, want) {
		t.Fatalf("listed are %q, expected %q", listed, want)
	}
	for name, content := range d.acknowledged {
		down := &transfer{ctx: t.Context(), client: client, name: name, content: content}
		if err := down.download(); err != nil {
			t.Error(err)
		}
	}
}

// swept wants the folder of the store to have the objects, each with the checksums behind its
// content, and every server to say so, with what it counts for each file. What is left of an upload
// is a part of it at least, which is much more than checksums are.
func (d *disrupted) swept(t *testing.T) {
	const maxSums, fileOverhead = 64 << 10, 16 << 10
	objects := int64(len(d.acknowledged))
	want := objects * laneBytes
	took := eventually(t, "end of all that no object uses", sweepTime, func(ctx context.Context) error {
		held, err := d.partBytes(ctx)
		if err != nil {
			return err
		}
		said, err := d.perServer(ctx, storedBytes)
		for pod, bytes := range said {
			if int64(bytes) != held+objects*fileOverhead {
				err = errors.Join(err, fmt.Errorf("%s says that there are %.0f bytes", pod, bytes))
			}
		}
		if held < want || held > want+objects*maxSums {
			err = errors.Join(err, fmt.Errorf("the store has %d bytes, the objects %d", held, want))
		}
		return err
	})
	t.Logf("nothing else was left after %.0f s", took.Seconds())
}
