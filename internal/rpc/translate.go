package rpc

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
)

// translated is a status for the client that still wraps its cause, which
// telemetry logs.
type translated struct {
	status *status.Status
	cause  error
}

func (e *translated) Error() string              { return e.status.Err().Error() }
func (e *translated) GRPCStatus() *status.Status { return e.status }
func (e *translated) Unwrap() error              { return e.cause }

// translate applies the table, and repeats a RetryInfo where grpc-go reads it.
func (t ErrorTable) translate(err error, setTrailer func(metadata.MD)) error {
	st := t.Status(err)
	if _, ok := errors.AsType[*telemetry.ClientFault](err); ok {
		return &telemetry.ClientFault{Status: st}
	}
	for _, detail := range st.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			setTrailer(pushback(retry))
		}
	}
	if retry, ok := errors.AsType[*retryError](err); ok && retry.why != "" {
		return &telemetry.Ended{Status: st, Why: retry.why}
	}
	// It was translated when the call was ended, and comes here once more as its handler returns.
	if ended, ok := errors.AsType[*telemetry.Ended](err); ok {
		return &telemetry.Ended{Status: st, Why: ended.Why}
	}
	if status.Convert(err).Message() == st.Message() || err.Error() == st.Message() {
		return st.Err() // nothing is hidden
	}
	return &translated{st, err}
}

// pushback is the trailer of gRPC's retry design (A6), in milliseconds.
func pushback(retry *errdetails.RetryInfo) metadata.MD {
	ms := retry.GetRetryDelay().AsDuration().Milliseconds()
	return metadata.Pairs("grpc-retry-pushback-ms", strconv.FormatInt(max(ms, 0), 10))
}

// errorTables has the table of each service, and one without rules for everything else.
type errorTables struct {
	domain   string
	services map[string]ErrorTable
}

func (t errorTables) of(fullMethod string) ErrorTable {
	service, _, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	table := t.services[service]
	table.Domain = t.domain
	return table
}

func (t errorTables) unary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	reply, err := handler(ctx, req)
	if err != nil {
		err = t.of(info.FullMethod).translate(err, func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) })
	}
	return reply, err
}
