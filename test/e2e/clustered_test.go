package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	serverReplicas = 3
	// platformTime is how long a broker and a store may take that pull nothing. A volume whose making was interrupted is
	// made anew after two minutes.
	platformTime = 4 * time.Minute
	// windowCalls is how many calls are shared out: by chance alone, a replica never gets less than a fifth of so many.
	windowCalls = 300
	// partBytes is how much of an upload the server commits at a time.
	partBytes = 8 << 20
	// discoveryTime is how long a running client may take until it calls a new replica.
	discoveryTime = 45 * time.Second
)

// clustered is three servers on the platform's broker and store.
type clustered struct {
	release
	program string
	began   verdict // of the undisturbed phase that runs
}

func testClustered(t *testing.T, c *cluster, program string) {
	n := c.newNamespace(t, "e2e-clustered")
	s := &clustered{release: n.release("q", "quartet"), program: program}
	inOrder(t,
		promise{"the platform's broker and store start in a restricted namespace", s.platform},
		promise{"three replicas on S3 and NATS roll out within 60 s", s.rollout},
		promise{"helm test passes", s.passesTest},
		promise{"each of three replicas serves at least a fifth of the unary calls", s.balance},
		promise{"any replica serves any object", s.anyObject},
		promise{"any replica joins any channel", s.anyChannel},
		promise{"the client finds every answer right", func(t *testing.T) { s.findsAllRight(t, s.began) }},
		promise{"an upload whose replica is deleted continues on another", func(t *testing.T) { s.cutUpload(t, "deleted", s.deletePod) }},
		promise{"an upload whose replica crashes continues on another", func(t *testing.T) { s.cutUpload(t, "crashed", s.crashPod) }},
		promise{"after a scale from 1 to 3 each new replica is called within 45 s of being ready", s.scaleUp},
		promise{"the client finds every answer right while replicas come", func(t *testing.T) { s.findsAllRight(t, s.began) }},
	)
}

// platform starts what the servers need, and nothing else. Metrics, traces and dashboards have tests of their own.
func (s *clustered) platform(t *testing.T) {
	p := s.namespace.release("platform", "platform")
	p.install(t, "--set", "prometheus.enabled=false,jaeger.enabled=false,grafana.enabled=false,metricsServer.enabled=false")
	p.rolledOut(t, platformTime)
}

// rollout has enough lookups to share out in a few seconds, and little of everything else.
func (s *clustered) rollout(t *testing.T) {
	s.install(t, "--values", s.chart+"/values-development.yaml", "--set", strings.Join([]string{
		"telemetry.otlpEndpoint=",
		"server.drain.scrapeWaitSeconds=0", "client.drain.scrapeWaitSeconds=0",
		"client.config.WORKLOAD_LOOKUPS=30", "client.config.WORKLOAD_MESSAGES=2",
		"client.config.WORKLOAD_OBJECT_BYTES=64KiB",
	}, ","))
	s.rolledOut(t, rolloutTime)
	s.began = s.verdictNow(t)
}

// balance begins to count when the client has found all replicas. What others have called before is left out.
func (s *clustered) balance(t *testing.T) {
	before := s.unaryNow(t)
	eventually(t, "calls to every replica", discoveryTime, func(ctx context.Context) error {
		now, err := s.perServer(ctx, unaryCalls)
		found, _ := growth(before, now)
		for pod, calls := range found {
			if err == nil && calls == 0 {
				err = fmt.Errorf("none to %s", pod)
			}
		}
		return err
	})
	before = s.unaryNow(t)
	var shares map[string]float64
	eventually(t, fmt.Sprint(windowCalls, " unary calls"), time.Minute, func(ctx context.Context) error {
		now, err := s.perServer(ctx, unaryCalls)
		var all float64
		if shares, all = growth(before, now); err == nil && all < windowCalls {
			err = fmt.Errorf("%v so far", all)
		}
		return err
	})
	s.wantFifths(t, shares)
}

func (s *clustered) unaryNow(t *testing.T) map[string]float64 {
	t.Helper()
	now, err := s.perServer(t.Context(), unaryCalls)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

func (s *clustered) wantFifths(t *testing.T, shares map[string]float64) {
	t.Helper()
	all := 0.0
	for _, calls := range shares {
		all += calls
	}
	for _, pod := range slices.Sorted(maps.Keys(shares)) {
		t.Logf("%s served %.0f of %.0f calls", pod, shares[pod], all)
		if shares[pod] < all/5 {
			t.Errorf("%s served less than a fifth", pod)
		}
	}
	if len(shares) != serverReplicas {
		t.Errorf("%d replicas, expected %d", len(shares), serverReplicas)
	}
}

// perReplica is a client on this machine for each replica.
func (s *clustered) perReplica(t *testing.T) (clients []cli) {
	t.Helper()
	for _, pod := range s.somePods(t, "server", serverReplicas) {
		clients = append(clients, cli{s.program, s.forward(t, "pod/"+pod.Name, 50051)})
	}
	return clients
}

func (s *clustered) anyObject(t *testing.T) {
	clients := s.perReplica(t)
	content := newContent(t, 2, 300_000)
	clients[0].run(t, content, "upload", "-", "shared")
	for i, client := range clients {
		if client.run(t, "", "download", "shared", "-") != content {
			t.Errorf("replica %d has other bytes than were uploaded to replica 0", i)
		}
	}
}

// anyChannel has one listener at each replica, and something said through each. All have to hear all, in one order.
func (s *clustered) anyChannel(t *testing.T) {
	clients := s.perReplica(t)
	var listeners []*process
	for _, client := range clients {
		listeners = append(listeners, start(t, nil, client.program, client.args("chat", "shared", "--as", "listener", "--after", "0", "--listen", "--json")...))
	}
	for i, client := range clients {
		client.run(t, fmt.Sprintf("by way of %d\n", i), "chat", "shared", "--as", fmt.Sprint("speaker", i))
	}
	for i, listener := range listeners {
		eventually(t, fmt.Sprint("all that was said, at replica ", i), 20*time.Second, func(context.Context) error {
			heard := listener.stdout.String()
			if strings.Count(heard, "\n") != len(clients) {
				return fmt.Errorf("heard %q %s", heard, &listener.stderr)
			}
			return nil
		})
		if first := listeners[0].stdout.String(); listener.stdout.String() != first {
			t.Errorf("replica %d tells\n%sand replica 0\n%s", i, &listener.stdout, first)
		}
	}
}

// cutUpload takes the replica away to which an upload goes, in the middle, and wants that another one got the rest and
// not all of it anew.
func (s *clustered) cutUpload(t *testing.T, name string, cut func(t *testing.T, pod string)) {
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
func (s *clustered) receiving(t *testing.T, upload *pacedUpload, before map[string]float64, atLeast float64) (pod string) {
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

// wantRest wants that other replicas than the one that was cut off got something of the upload, and not all of it: what
// was committed before is not sent again. The workload's uploads are small against the half of a part.
func (s *clustered) wantRest(t *testing.T, before map[string]float64, cut string, size int64) {
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

func (s *clustered) wantContent(t *testing.T, pod, name, want string) {
	t.Helper()
	got := sha256.Sum256([]byte(run(t, "kubectl", s.inClient(pod, "--quiet", "download", name, "-")...).stdout))
	if hex.EncodeToString(got[:]) != want {
		t.Errorf("%s has other bytes than were sent", name)
	}
}

func (s *clustered) scaleUp(t *testing.T) {
	s.scale(t, "q-quartet-server", 1)
	old := names(s.somePods(t, "server", 1))
	s.rolledOut(t, rolloutTime)
	s.began = s.verdictNow(t)
	s.scale(t, "q-quartet-server", serverReplicas)
	called := map[string]bool{old[0]: true}
	eventually(t, "calls to every new replica", rolloutTime+discoveryTime, func(ctx context.Context) error {
		if err := s.newlyCalled(ctx, t, called); err != nil {
			return err
		}
		if len(called) < serverReplicas {
			return fmt.Errorf("called are %v", slices.Collect(maps.Keys(called)))
		}
		return nil
	})
}

// newlyCalled adds the replicas that have had a call by now, each of which has to be in time.
func (s *clustered) newlyCalled(ctx context.Context, t *testing.T, called map[string]bool) error {
	t.Helper()
	pods, err := s.pods(ctx, "server")
	if err != nil {
		return err
	}
	for _, pod := range pods {
		since, ready := readySince(pod)
		if called[pod.Name] || !ready {
			continue
		}
		m, err := s.scrape(ctx, pod.Name, serverMetrics)
		if err != nil {
			return err
		}
		waited := time.Since(since)
		if m.sum(unaryCalls) > 0 {
			called[pod.Name] = true
			t.Logf("%s was called within %.0f s of being ready", pod.Name, waited.Seconds())
		}
		if waited > discoveryTime {
			t.Fatalf("%s was ready for %v without a call", pod.Name, waited.Round(time.Second))
		}
	}
	return nil
}
