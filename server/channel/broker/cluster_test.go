package broker

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"example.com/quartet/internal/porttest"
)

func TestReplicasShareTheirChannels(t *testing.T) {
	t.Parallel()
	srv := startServer(t, t.TempDir(), -1)
	here, there := openBroker(t, serverURL(srv), Options{}), openBroker(t, serverURL(srv), Options{})
	s := subscribe(t, there, "room", nil)
	sent := publishMany(t, here, "room", 100, 100)
	if got := sequencesOf(receive(t, s, 100)); !slices.Equal(got, sent) {
		t.Errorf("got %d", got)
	}
	if again := publish(t, there, "room", "many", "5", ""); !again.Duplicate ||
		again.Sequence != sent[5] {
		t.Errorf("repeated at the other replica: %+v", again)
	}
	resumed := subscribe(t, here, "room", &sent[49])
	if got := sequencesOf(receive(t, resumed, 50)); !slices.Equal(got, sent[50:]) {
		t.Errorf("resumed at the other replica: %d", got)
	}
}

func TestRestartOfTheServerCausesNeitherGapNorDuplicate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port := porttest.Port(t)
	srv := startServer(t, dir, port)
	url := serverURL(srv)
	here, there := openBroker(t, url, Options{}), openBroker(t, url, Options{})
	const n = 200
	s := subscribe(t, there, "room", nil)
	half := make(chan struct{})
	var sent []uint64
	var task sync.WaitGroup
	task.Go(func() {
		for i := range n {
			if i == n/2 {
				close(half)
			}
			r := publishPatiently(t, here, "room", "ann", fmt.Sprint(i))
			if r.Duplicate {
				t.Errorf("message %d was taken for a duplicate", i)
			}
			sent = append(sent, r.Sequence)
		}
	})
	<-half
	stopServer(srv)
	if err := here.Check(testContext(t)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Check without a server: %v", err)
	}
	startServer(t, dir, port)
	got := sequencesOf(receive(t, s, n))
	task.Wait()
	if !slices.Equal(got, sent) {
		t.Errorf("got %d, want %d", got, sent)
	}
	eventually(t, "the replica is ready again",
		func() bool { return there.Check(testContext(t)) == nil })
}

func TestClusterThatLosesItsLeaderCausesNeitherGapNorDuplicate(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 seconds, mostly elections")
	}
	t.Parallel()
	cluster, _ := startCluster(t, 3)
	brokers := make([]*Broker, len(cluster))
	for i, srv := range cluster {
		brokers[i] = openBroker(t, serverURL(srv)+","+serverURL(cluster[(i+1)%3]), Options{Replicas: 3})
	}
	const publishers, each = 3, 150
	var tasks sync.WaitGroup
	var once sync.Once
	half := make(chan struct{})
	var sent, seen [publishers][]uint64
	for i, b := range brokers {
		s := subscribe(t, b, "room", nil)
		tasks.Go(func() { seen[i] = sequencesOf(receive(t, s, publishers*each)) })
	}
	for i, b := range brokers {
		tasks.Go(func() {
			for n := range each {
				if n == each/2 {
					once.Do(func() { close(half) })
				}
				r := publishPatiently(t, b, "room", fmt.Sprint("publisher", i), fmt.Sprint(n))
				sent[i] = append(sent[i], r.Sequence)
			}
		})
	}
	<-half
	info, err := brokers[0].stream.Info(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, srv := range cluster {
		if srv.Name() == info.Cluster.Leader {
			stopServer(srv)
		}
	}
	tasks.Wait()
	all := slices.Concat(sent[:]...)
	slices.Sort(all)
	for i := range seen {
		if !slices.Equal(seen[i], all) {
			t.Errorf("replica %d saw %d messages, not the %d that were acknowledged", i, len(seen[i]),
				len(all))
		}
	}
}

func TestAReaderThatHasSeenMoreThanTheLeaderHasIsNotTurnedAwayAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 seconds, mostly elections")
	}
	t.Parallel()
	cluster, _ := startCluster(t, 3)
	b, there := openBroker(t, serverURL(cluster[0]), Options{Replicas: 3}),
		openBroker(t, serverURL(cluster[1]), Options{Replicas: 3})
	first := publish(t, there, "room", "ann", "1", "").Sequence
	history := subscribe(t, there, "room", nil).After().History
	joined := make(chan error, 2)
	// As with a leader that has still to apply the second message.
	for _, after := range []Position{{History: history, Sequence: first + 1},
		{History: history + ".2." + strconv.FormatInt(time.Now().UnixNano(), 36)}} {
		go func() {
			s, err := b.Subscribe(testContext(t), "room", Start{After: &after})
			if err == nil {
				s.Close()
			}
			joined <- err
		}()
	}
	select {
	case err := <-joined:
		t.Fatal("before the leader had its time:", err)
	case <-time.After(proofPause):
	}
	publish(t, there, "room", "ann", "2", "")
	for range 2 {
		if err := <-joined; err != nil {
			t.Error(err)
		}
	}
}

func TestReadersAreToldThatAServerRolledBackThatTheyAreNotConnectedTo(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 seconds, mostly elections")
	}
	t.Parallel()
	cluster, options := startCluster(t, 3)
	info, err := openBroker(t, serverURL(cluster[0]), Options{}).stream.Info(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	holder := slices.IndexFunc(cluster,
		func(srv *server.Server) bool { return srv.Name() == info.Cluster.Leader })
	b := openBroker(t, serverURL(cluster[(holder+1)%3]), Options{})
	s := subscribe(t, b, "room", nil)
	publish(t, b, "room", "ann", "kept", "")
	receive(t, s, 1)

	srv, dir := cluster[holder], options[holder].StoreDir
	restart := func(meanwhile func()) {
		stopServer(srv)
		meanwhile()
		srv = startWith(t, options[holder])
	}
	var snapshot string
	restart(func() { snapshot = copyFolder(t, dir) })
	for i := range 5 {
		publishPatiently(t, b, "room", "ann", fmt.Sprint("lost", i))
	}
	receive(t, s, 5)
	restart(func() {
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(snapshot))); err != nil {
			t.Fatal(err)
		}
	})
	// The stream passes the sequences that were seen, in a channel that is not heard here.
	for i := range 8 {
		publishPatiently(t, b, "another", "bob", strconv.Itoa(i))
	}
	_, err = s.Next(testContext(t))
	wantBreak(t, err, ErrHistoryChanged)
}

// startWith runs a server, and does not wait until it is ready.
func startWith(t *testing.T, options *server.Options) *server.Server {
	t.Helper()
	srv, err := server.NewServer(options.Clone())
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	t.Cleanup(func() { stopServer(srv) })
	return srv
}

// startCluster runs servers that replicate streams among them. With its options each can be started
// again.
func startCluster(t *testing.T, n int) (cluster []*server.Server, options []*server.Options) {
	t.Helper()
	// Each must know the others before they run, so the ports are chosen here.
	ports, routes := make([]int, n), make([]*url.URL, n)
	for i := range n {
		ports[i] = porttest.Port(t)
		routes[i] = &url.URL{Scheme: "nats", Host: fmt.Sprint("127.0.0.1:", ports[i])}
	}
	cluster, options = make([]*server.Server, n), make([]*server.Options, n)
	for i := range cluster {
		options[i] = &server.Options{
			ServerName: fmt.Sprint("server", i), Host: "127.0.0.1", Port: porttest.Port(t),
			JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "cluster", Host: "127.0.0.1", Port: ports[i]},
			Routes:  routes,
		}
		cluster[i] = startWith(t, options[i])
	}
	for _, srv := range cluster {
		if !srv.ReadyForConnections(testTimeout) {
			t.Fatal("server does not start")
		}
	}
	return cluster, options
}

func TestUnreachableBrokerIsReportedAsSuchAndDoesNotKeepCloseWaiting(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes as long as Publish is patient")
	}
	srv := startServer(t, t.TempDir(), -1)
	b := openBroker(t, serverURL(srv), Options{})
	stopServer(srv)
	message := Message{Participant: "ann", ID: "1"}
	if _, err := b.Publish(testContext(t), "room", message); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Publish: %v", err)
	}
	if _, err := b.Subscribe(testContext(t), "room", startAfter(nil)); !errors.Is(err,
		ErrUnavailable) {
		t.Errorf("Subscribe: %v", err)
	}
	failed := make(chan error)
	go func() {
		_, err := b.Publish(testContext(t), "room", message)
		failed <- err
	}()
	closeBroker(t, b)
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Errorf("Publish during Close: %v", err)
	}
}
