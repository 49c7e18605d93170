package cli

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/quartet/internal/rpc"
)

var errDamaged = errors.New("damaged")

// reason is an error as servers give it.
func reason(code codes.Code, text, reason string) error {
	s, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Domain: "test", Reason: reason})
	if err != nil {
		return err
	}
	return s.Err()
}

// program has a service that knows its own damage, and one that knows none.
var program = Program{Services: []Service{
	{
		Name:     "a",
		IsDamage: func(err error) bool { return errors.Is(err, errDamaged) || rpc.Reason(err) == "GONE" },
	},
	{Name: "b"},
}}

func TestExitCode(t *testing.T) {
	full, err := status.New(
		codes.ResourceExhausted,
		"full",
	).WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("disk full"), 1},
		{status.Error(codes.Internal, "x"), 1},
		{status.Error(codes.InvalidArgument, "x"), 1},
		{reason(codes.ResourceExhausted, "x", "TOO_LARGE"), 1},
		{rpc.ErrProtocol, 1},
		{usageError{errors.New("x")}, 2},
		{reason(codes.InvalidArgument, "x", "INVALID_NAME"), 2},
		{reason(codes.InvalidArgument, "x", "SIZE_MISMATCH"), 1},
		{status.Error(codes.NotFound, "x"), 3},
		{status.Error(codes.Unavailable, "x"), 4},
		{status.Error(codes.DeadlineExceeded, "x"), 4},
		{full.Err(), 4},
		{fmt.Errorf("download: %w after 10 tries: %w", rpc.ErrGaveUp, errors.New("stalled")), 4},
		{fmt.Errorf("%w 5s", errTimeout), 4},
		{errDamaged, 5},
		{status.Error(codes.DataLoss, "x"), 5},
		{fmt.Errorf("%w: %w", rpc.ErrGaveUp, errDamaged), 5},
		{reason(codes.Aborted, "x", "GONE"), 5},
		{errInterrupted, 130},
	} {
		for _, err := range []error{test.err, wrapped(test.err)} {
			if got := program.exitCode(err); got != test.want {
				t.Errorf("%v: %d, expected %d", err, got, test.want)
			}
		}
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("upload %q: %w", "x", err)
}

func TestMessage(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{reason(codes.NotFound, "not found", "BOOK_NOT_FOUND"), `upload "x": not found (BOOK_NOT_FOUND)`},
		{status.Error(codes.Unavailable, "connection refused"), `upload "x": connection refused (UNAVAILABLE)`},
		{status.Error(codes.Internal, "a\x1b[2J\nb"), `upload "x": a\x1b[2J; b (INTERNAL)`},
		{fmt.Errorf("%w: %w", errDamaged, reason(codes.Aborted, "gone", "GENERATION_GONE")),
			`upload "x": damaged: gone (GENERATION_GONE)`},
		{errors.Join(errors.New("one"), errors.New("two")), `upload "x": one; two`},
	} {
		if got := message(wrapped(test.err)); got != test.want {
			t.Errorf("%s\nexpected %s", got, test.want)
		}
	}
}
