package object

import (
	"context"
	"testing"

	"google.golang.org/grpc"
)

// counting counts the calls that go over it.
type counting struct{ unary, streams int }

func (c *counting) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	c.unary++
	return nil
}

func (c *counting) NewStream(
	context.Context, *grpc.StreamDesc, string, ...grpc.CallOption,
) (grpc.ClientStream, error) {
	c.streams++
	return nil, nil
}

func TestCallsAreSpreadEvenlyOverConnections(t *testing.T) {
	connections := []*counting{{}, {}, {}}
	all := spreadOver(connections[0], connections[1], connections[2])
	for range 6 {
		if _, err := all.NewStream(t.Context(), nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := all.Invoke(t.Context(), "", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range connections {
		if c.streams != 2 || c.unary != 1 {
			t.Errorf("connection %d had %d streams and %d unary calls, want 2 and 1", i, c.streams, c.unary)
		}
	}
}
