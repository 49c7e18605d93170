package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/rpc"
)

// Numbers are received over a stream that breaks after each three. Each attempt asks for what is
// missing, and says what has come.
func ExampleResumption_Resume() {
	next := 0
	stream := func(from int, send func(int)) error {
		for n := from; n < 8; n++ {
			if n == from+3 {
				return status.Error(codes.Unavailable, "the server is stopping")
			}
			send(n)
		}
		return nil
	}
	resumption := rpc.Resumption{RetryDelay: time.Millisecond}
	err := resumption.Resume(context.Background(), "numbers",
		func(_ context.Context, a *rpc.Attempt) error {
			return stream(next, func(n int) {
				a.Wait() // The next number has to come within StallTimeout.
				fmt.Print(n, " ")
				next = n + 1
				a.Progress()
			})
		})
	fmt.Println(err)
	// Output: 0 1 2 3 4 5 6 7 <nil>
}

// Handlers return the sentinels of their domain, and one table has the status code and the reason
// of each. What is in no rule is INTERNAL, without its text.
func ExampleErrorTable() {
	errNotFound := errors.New("no such order")
	table := rpc.ErrorTable{
		Domain: "shop.example.com",
		Rules:  []rpc.ErrorRule{{Is: errNotFound, Code: codes.NotFound, Reason: "ORDER_NOT_FOUND"}},
	}

	for _, err := range []error{
		fmt.Errorf("%w: 17", errNotFound),
		errors.New("open /var/lib/orders: permission denied"),
	} {
		st := table.Status(err)
		fmt.Printf("%s: %s (%s)\n", st.Code(), st.Message(), rpc.Reason(st.Err()))
	}
	// Output:
	// NotFound: no such order: 17 (ORDER_NOT_FOUND)
	// Internal: internal error ()
}

// A server that is about to stop sends clients to another one, and says when to try again.
func ExampleStopping() {
	err := rpc.Stopping("the server is stopping; another one continues the stream")
	fmt.Println(status.Code(err), rpc.Reason(err), rpc.RetryDelay(err) > 0)
	// Output: Unavailable STOPPING true
}
