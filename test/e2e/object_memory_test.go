package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	slowReaders = 150
	// readerBytes is more than buffers and windows on the way can hold, and readerPace a bad line.
	readerBytes = 64 << 20
	readerPace  = 4 << 10
	// fileBytes is many times what the server has, and diskBytes what a node needs for it.
	fileBytes = 8 << 30
	diskBytes = fileBytes + 4<<30
	// burst is how many uploads begin at once, each of burstBytes.
	burst      = 20
	burstBytes = 64 << 20
)

var endedDownloads = series{"grpc_server_handled_total", labels{"grpc_method": "DownloadObject"}}

// cramped is one server that keeps everything itself and has 128 MiB to do so.
type cramped struct {
	release
	address string
	pattern pattern
	pod     corev1.Pod
	peak    peak
	readers []*transfer
}

// TestMemory has a server with little memory serve more than it could hold. It must slow down, and
// not be killed.
func TestMemory(t *testing.T) {
	n := openCluster(t).newNamespace(t, "e2e-memory")
	m := &cramped{release: n.release("q", "quartet"), pattern: newPattern(t)}
	inOrder(t,
		promise{"one server with 128 MiB starts", m.start},
		promise{"it serves more than it could hold", m.serve},
	)
}

func (m *cramped) start(t *testing.T) {
	m.install(t, "--set", strings.Join([]string{
		"client.replicas=0", "server.service.type=NodePort", "server.persistence.size=16Gi",
		"server.resources.requests.memory=128Mi", "server.resources.limits.memory=128Mi",
	}, ","))
	m.rolledOut(t, rolloutTime)
	m.address = m.nodePort(t, "q-quartet-server", "grpc")
	m.pod = m.somePods(t, "server", 1)[0]
	free, err := onNode(t.Context(), m.pod.Spec.NodeName, "df --output=avail --block-size=1 /var | tail -1")
	if err != nil {
		t.Fatal(err)
	}
	free = strings.TrimSpace(free)
	if bytes, err := strconv.ParseInt(free, 10, 64); err != nil || bytes < diskBytes {
		t.Fatalf("the disk of the nodes has %s bytes left, and this test needs %d (%v)", free, diskBytes, err)
	}
}

// serve has readers hold on to the server while others come and go.
func (m *cramped) serve(t *testing.T) {
	m.peak.watch(t, func(ctx context.Context) (memory, error) { return m.memoryOf(ctx, m.pod) })
	m.startReaders(t)
	inOrder(t,
		promise{"each of 150 slow readers gets its first bytes", m.readersServed},
		promise{"meanwhile a file of 8 GiB is uploaded and downloaded", m.bigFile},
		promise{"meanwhile 20 uploads at once end well", m.uploads},
		promise{"no reader was refused or cut off, and the server was not killed", m.undisturbed},
	)
}

// startReaders begins downloads that would take hours, each with a connection of its own, until the
// end of the test.
func (m *cramped) startReaders(t *testing.T) {
	t.Helper()
	content := m.pattern.number(0, readerBytes)
	if err := m.newTransfer(t, "read", content).upload(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	t.Cleanup(reading.Wait) // The test's context is over then, and so are they.
	for range slowReaders {
		reader := m.newTransfer(t, "read", content)
		reader.pace = readerPace
		m.readers = append(m.readers, reader)
		reading.Go(func() {
			if err := reader.download(); t.Context().Err() == nil {
				t.Errorf("a slow reader ended: %v", err)
			}
		})
	}
}

func (m *cramped) newTransfer(t *testing.T, name string, content bulk) *transfer {
	t.Helper()
	return &transfer{ctx: t.Context(), client: newCaller(t, m.address), name: name, content: content}
}

func (m *cramped) readersServed(t *testing.T) {
	took := eventually(t, "the first bytes of every slow reader", time.Minute, func(context.Context) error {
		served := 0
		for _, reader := range m.readers {
			if reader.moved.Load() > 0 {
				served++
			}
		}
		if served < slowReaders {
			return fmt.Errorf("%d of %d have some", served, slowReaders)
		}
		return nil
	})
	t.Logf("all had some after %.1f s", took.Seconds())
}

func (m *cramped) bigFile(t *testing.T) {
	content := m.pattern.number(1, fileBytes)
	up, down := m.newTransfer(t, "big", content), m.newTransfer(t, "big", content)
	if err := up.upload(); err != nil {
		t.Fatal(err)
	}
	if err := down.download(); err != nil {
		t.Fatal(err)
	}
	t.Logf("up with %.0f MiB/s and %d resumes, down with %.0f MiB/s and %d resumes",
		up.mibPerSecond(), up.resumes, down.mibPerSecond(), down.resumes)
}

// uploads are more than there is memory for, so that some have to wait or to come back.
func (m *cramped) uploads(t *testing.T) {
	ups, problems := make([]*transfer, burst), make([]error, burst)
	var sending sync.WaitGroup
	for i := range ups {
		ups[i] = m.newTransfer(t, fmt.Sprint("burst-", i), m.pattern.number(int64(2+i), burstBytes))
		sending.Go(func() { problems[i] = ups[i].upload() })
	}
	sending.Wait()
	if err := errors.Join(problems...); err != nil {
		t.Fatal(err)
	}
	var slowest time.Duration
	resumes := 0
	for _, up := range ups {
		slowest, resumes = max(slowest, up.took), resumes+up.resumes
	}
	t.Logf("%d uploads of %d MiB took at most %.1f s, and came back %d times",
		burst, burstBytes>>20, slowest.Seconds(), resumes)
}

// undisturbed asks the server, because a slow reader that is cut off learns of it only behind all
// that is on its way.
func (m *cramped) undisturbed(t *testing.T) {
	now := m.somePods(t, "server", 1)[0]
	if now.UID != m.pod.UID || restarts(now) > 0 {
		t.Errorf("the server was restarted: %+v", now.Status.ContainerStatuses)
	}
	ended, err := m.perServer(t.Context(), endedDownloads)
	if err != nil || ended[now.Name] != 1 {
		t.Errorf("%v downloads have ended, expected that of the big file and none of a reader (%v)", ended[now.Name], err)
	}
	t.Log(&m.peak)
}
