package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

const (
	serverReplicas = 3
	// platformTime is how long a broker and a store may take that pull nothing. A volume whose making
	// was interrupted is made anew after two minutes.
	platformTime = 4 * time.Minute
	// restartTime is how long three replicas may take that start one after another, while each old one
	// drains.
	restartTime = 4 * time.Minute
	// windowCalls is how many calls are shared out: by chance alone, a replica never gets less than a
	// fifth of so many.
	windowCalls = 300
	// discoveryTime is how long a running client may take until it calls a new replica.
	discoveryTime = 45 * time.Second
)

// clustered is three servers on the platform's broker and store.
type clustered struct {
	release
	program string
	before  []string // what the namespace had with the platform only
	began   verdict  // of the phase that runs
	unary   []series // the calls of the client that are shared out one by one

	upgrades int // until now
}

func testClustered(t *testing.T, c *cluster, program string) {
	n := c.newNamespace(t, "e2e-clustered")
	s := &clustered{release: n.release("q", "quartet"), program: program}
	inOrder(t, slices.Concat([]promise{
		{"the platform's broker and store start in a restricted namespace", s.platform},
		{"three replicas on the platform's backends roll out within 60 s", s.rollout},
		{"helm test passes", s.passesTest},
		{"each of three replicas serves at least a fifth of the unary calls", s.balance},
		{"the client finds every answer right", func(t *testing.T) { s.findsAllRight(t, s.began) }},
	}, promises(s, func(of service) func(*clustered) []promise { return of.clustered }), []promise{
		{"after a scale from 1 to 3 each new replica is called within 45 s of being ready", s.scaleUp},
		{"the client finds every answer right while replicas come", func(t *testing.T) { s.findsAllRight(t, s.began) }},
		{"the client finds every answer right while all replicas are replaced", s.restart},
		{"a person at the console watches streams survive that, in every mode and on the pages of services", s.consoleInBrowser},
		{"the client finds every answer right meanwhile", func(t *testing.T) { s.findsAllRight(t, s.began) }},
		{"helm upgrade keeps the replicas that kubectl scale has set, without a conflict", s.upgradeScaled},
		{"helm upgrade keeps the replicas that an autoscaler has set, without a conflict", s.upgradeAutoscaled},
		{"helm rollback keeps them", s.rollback},
		{"helm upgrade to a fixed number after that conflicts with nothing", s.upgradeFixed},
		{"helm uninstall leaves nothing behind", s.uninstall},
	})...)
}

// platform starts what the servers need, and nothing else. Metrics, traces and dashboards have
// tests of their own.
func (s *clustered) platform(t *testing.T) {
	p := s.namespace.release("platform", "platform")
	p.install(t, "--set", "prometheus.enabled=false,jaeger.enabled=false,grafana.enabled=false,metricsServer.enabled=false,rollout.release=q-quartet")
	p.rolledOut(t, platformTime)
	s.before = s.inventoryNow(t)
}

// rollout has services make enough unary calls to share out in a few seconds, and little of
// everything else.
func (s *clustered) rollout(t *testing.T) {
	values := settings([]string{"telemetry.otlpEndpoint=", "server.drain.scrapeWaitSeconds=0", "client.drain.scrapeWaitSeconds=0"},
		func(s service) string { return s.clusteredValues })
	s.install(t, "--values", s.chart+"/values-development.yaml", "--set", values)
	s.rolledOut(t, rolloutTime)
	s.began = s.verdictNow(t)
	s.unary = s.began.calls("unary")
}

// balance begins to count when the client has found all replicas. What others have called before is
// left out.
func (s *clustered) balance(t *testing.T) {
	s.needUnary(t)
	before := s.unaryNow(t)
	eventually(t, "calls to every replica", discoveryTime, func(ctx context.Context) error {
		now, err := s.perServer(ctx, s.unary...)
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
		now, err := s.perServer(ctx, s.unary...)
		var all float64
		if shares, all = growth(before, now); err == nil && all < windowCalls {
			err = fmt.Errorf("%v so far", all)
		}
		return err
	})
	s.wantFifths(t, shares)
}

// needUnary skips what counts unary calls where no service has one.
func (s *clustered) needUnary(t *testing.T) {
	t.Helper()
	if len(s.unary) == 0 {
		t.Skip("the client makes no unary calls")
	}
}

func (s *clustered) unaryNow(t *testing.T) map[string]float64 {
	t.Helper()
	now, err := s.perServer(t.Context(), s.unary...)
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

func (s *clustered) scaleUp(t *testing.T) {
	s.needUnary(t)
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
		if m.sum(s.unary...) > 0 {
			called[pod.Name] = true
			t.Logf("%s was called within %.0f s of being ready", pod.Name, waited.Seconds())
		} else if waited > discoveryTime {
			t.Fatalf("%s was ready for %v without a call", pod.Name, waited.Round(time.Second))
		}
	}
	return nil
}

func (s *clustered) restart(t *testing.T) {
	s.began = s.verdictNow(t)
	run(t, "kubectl", s.kubectl("rollout", "restart", "deployment/q-quartet-server")...)
	s.rolledOut(t, restartTime)
	s.findsAllRight(t, s.began)
}

// perReplica is a client on this machine for each replica.
func (s *clustered) perReplica(t *testing.T) (clients []cli) {
	t.Helper()
	for _, pod := range s.somePods(t, "server", serverReplicas) {
		clients = append(clients, cli{s.program, s.forward(t, "pod/"+pod.Name, 50051)})
	}
	return clients
}
