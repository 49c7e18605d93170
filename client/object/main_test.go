package object_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"example.com/quartet/client/object"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

func TestMain(m *testing.M) {
	// tusd has one for a few seconds after each request.
	tusd := goleak.IgnoreAnyFunction("github.com/tus/tusd/v2/pkg/handler.newDelayedContext.func1")
	goleak.VerifyTestMain(m, tusd, goleak.Cleanup(func(status int) {
		processtest.Clean()
		os.Exit(status)
	}))
}

// small has the server commit parts of 256 KiB, so that a file of a megabyte has several.
var small = []string{process.Setting("OBJECT_PART_BYTES", "256KiB"),
	process.Setting("OBJECT_CHUNK_BYTES", "32KiB")}

// newClient makes a client as the programs do, with shorter pauses between tries.
func newClient(t *testing.T, address string, options object.Options) *object.Client {
	t.Helper()
	if options.ChunkBytes == 0 {
		options.ChunkBytes = 32 << 10
	}
	if options.Resumption.RetryDelay == 0 {
		options.Resumption.RetryDelay = clienttest.FastRetries().RetryDelay
	}
	if options.Telemetry == nil {
		options.Telemetry = telemetry.Discard()
	}
	service := quartetv1.File_quartet_v1_object_proto.Services().ByName("ObjectService")
	return object.NewClient(clienttest.Dial(t, options.Telemetry, address, service), options)
}
