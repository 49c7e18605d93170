package channel_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"example.com/quartet/client/channel"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process/processtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		processtest.Clean()
		os.Exit(status)
	}))
}

// newClient makes a client as the programs do, with shorter pauses between tries.
func newClient(t *testing.T, address string, options channel.Options) *channel.Client {
	t.Helper()
	if options.Resumption.RetryDelay == 0 {
		options.Resumption.RetryDelay = clienttest.FastRetries().RetryDelay
	}
	if options.Telemetry == nil {
		options.Telemetry = telemetry.Discard()
	}
	service := quartetv1.File_quartet_v1_channel_proto.Services().ByName("ChannelService")
	return channel.NewClient(clienttest.Dial(t, options.Telemetry, address, service), options)
}
