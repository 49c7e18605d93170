package rpc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	errMissing = errors.New("no such object")
	errOffset  = errors.New("offset is not the committed size")
	errFull    = errors.New("the disk is full")
	errSecret  = errors.New("open /var/lib/secret: permission denied")
)

const testDomain = "shop.test"

var testTable = ErrorTable{
	Domain: testDomain,
	Rules: []ErrorRule{
		{Is: errMissing, Code: codes.NotFound, Reason: "OBJECT_NOT_FOUND"},
		{Is: errOffset, Code: codes.OutOfRange, Reason: "WRONG_OFFSET"},
		{Is: errFull, Code: codes.ResourceExhausted, Reason: "FULL", Hide: true},
	},
	Metadata: func(err error) map[string]string {
		if errors.Is(err, errOffset) {
			return map[string]string{"committed_size_bytes": "42"}
		}
		return nil
	},
}

func TestErrorTable(t *testing.T) {
	unknown := status.Error(codes.Unknown, "secret")
	tests := []struct {
		name   string
		err    error
		code   codes.Code
		text   string
		reason string
	}{
		{"nil", nil, codes.OK, "", ""},
		{"sentinel", errMissing, codes.NotFound, "no such object", "OBJECT_NOT_FOUND"},
		{"wrapped sentinel", fmt.Errorf("cat.jpg: %w", errMissing), codes.NotFound,
			"cat.jpg: no such object", "OBJECT_NOT_FOUND"},
		{"joined sentinel", errors.Join(errOffset, errMissing), codes.NotFound,
			"offset is not the committed size\nno such object", "OBJECT_NOT_FOUND"},
		{"hidden", fmt.Errorf("write /var/lib/secret: %w", errFull), codes.ResourceExhausted,
			"the disk is full", "FULL"},
		{"status", status.Error(codes.Aborted, "gone"), codes.Aborted, "gone", ""},
		{"wrapped status", fmt.Errorf("secret: %w", status.Error(codes.Aborted, "gone")), codes.Aborted,
			"gone", ""},
		{"status that was not chosen", unknown, codes.Internal, internalText, ""},
		{"wrapped status that was not chosen", fmt.Errorf("secret: %w", unknown), codes.Internal,
			internalText, ""},
		{"retry", fmt.Errorf("secret: %w",
			RetryAfter(codes.Unavailable, "draining", "DRAINING", time.Second)), codes.Unavailable,
			"draining", "DRAINING"},
		{"cancelled", fmt.Errorf("secret: %w", context.Canceled), codes.Canceled, cancelText, ""},
		{"deadline", fmt.Errorf("secret: %w", context.DeadlineExceeded), codes.DeadlineExceeded,
			deadlineText, ""},
		{"timeout", fmt.Errorf("secret: %w", os.ErrDeadlineExceeded), codes.Unavailable, timeoutText, ""},
		{"anything else", errSecret, codes.Internal, internalText, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			st := testTable.Status(test.err)
			if st.Code() != test.code || st.Message() != test.text {
				t.Errorf("got %s %q, want %s %q", st.Code(), st.Message(), test.code, test.text)
			}
			info := errorInfo(st)
			if info.GetReason() != test.reason || (test.reason != "" && info.GetDomain() != "shop.test") {
				t.Errorf("got the details %v, want reason %q", info, test.reason)
			}
		})
	}
}

func TestErrorMetadata(t *testing.T) {
	info := errorInfo(testTable.Status(errOffset))
	if got := info.GetMetadata()["committed_size_bytes"]; got != "42" {
		t.Errorf("got %v", info)
	}
}

func errorInfo(st *status.Status) *errdetails.ErrorInfo {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

// TestErrorsInFourModes looks at what reaches the client, and at what the log
// keeps of it.
func TestErrorsInFourModes(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := defaults()
			var log strings.Builder
			s.log = textLog(&log)
			result := fmt.Errorf("cat.jpg: %w", errMissing)
			r := s.start(t, func(context.Context) error { return result })

			st := status.Convert(mode.call(testContext(t), r.stub, 1))
			if st.Code() != codes.NotFound || st.Message() != result.Error() ||
				errorInfo(st).GetReason() != "OBJECT_NOT_FOUND" {
				t.Errorf("got %v with %v", st, st.Details())
			}
			result = errSecret
			st = status.Convert(mode.call(testContext(t), r.stub, 1))
			if st.Code() != codes.Internal || st.Message() != internalText || len(st.Details()) != 0 {
				t.Errorf("got %v with %v", st, st.Details())
			}
			stop(t, r)
			if !strings.Contains(log.String(), errSecret.Error()) {
				t.Errorf("the log does not know the cause: %s", &log)
			}
		})
	}
}
