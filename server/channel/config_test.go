package channel

import (
	"strings"
	"testing"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

// TestAnAddressThatLeadsNowhereIsAProblemOfTheConfiguration expects the name of the variable, and
// nothing secret.
func TestAnAddressThatLeadsNowhereIsAProblemOfTheConfiguration(t *testing.T) {
	for _, url := range []string{
		"nats://h:99999", "nats://", "nats:4222", "nats://a:1, nats://b:2", "'nats://a:1'",
		"nats://me:hush@", "nats://me:hu/hush@h:4222", "embedded",
	} {
		server := app.Server{Identity: apptest.Identity, Services: []app.Service{Service()}}
		_, err := server.Open(t.Context(), apptest.Environ("TEST_CHANNEL_URL="+url), telemetry.Discard())
		if err == nil || !strings.HasPrefix(err.Error(), "TEST_CHANNEL_URL: ") ||
			strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}
