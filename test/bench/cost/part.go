package cost

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/interop/grpc_testing"
)

// A part is one kind of traffic: how it is made, how much of it at a time, and what is to be
// reached.
type part struct {
	name  string
	title string
	unit  string // of what is counted
	loads []Load
	run   func(context.Context, *worker) error
	goals []goal
}

var parts = []part{unary, stream, oneway, transfer}

// Parts are the names of what can be measured.
func Parts() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

func partNamed(name string) (part, error) {
	for _, p := range parts {
		if p.name == name {
			return p, nil
		}
	}
	return part{}, fmt.Errorf("there is no part %q, only %v", name, Parts())
}

func partsNamed(names []string) (chosen []part, err error) {
	for _, name := range names {
		p, err := partNamed(name)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, p)
	}
	return chosen, nil
}

// Load is what a client is told to do.
type Load struct {
	Part    string
	Title   string
	Workers int // goroutines, which share one connection
	Chunk   int // bytes of a chunk, in a transfer
	For     time.Duration
}

// worker makes traffic until its time is over, and keeps count.
type worker struct {
	Load
	stub      grpc_testing.TestServiceClient
	end       time.Time
	done      int64
	latencies []time.Duration
}

func (w *worker) over() bool { return !time.Now().Before(w.end) }

// did counts one that began at start.
func (w *worker) did(start time.Time) {
	w.done++
	w.latencies = append(w.latencies, time.Since(start))
}

// smallBytes is the body of a small message.
const smallBytes = 100

func payload(size int) *grpc_testing.Payload { return &grpc_testing.Payload{Body: make([]byte, size)} }
