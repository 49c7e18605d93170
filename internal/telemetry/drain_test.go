package telemetry

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestDrainCanBeWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		telemetry := Discard()
		telemetry.SetDrain(45*time.Second, "close", "work")
		want := func(draining, seconds, failed string) {
			t.Helper()
			text := `
# HELP test_drain_limit_seconds How long the steps of a drain may take together.
# TYPE test_drain_limit_seconds gauge
test_drain_limit_seconds 45
# HELP test_drain_seconds How long the drain lasts already, 0 before.
# TYPE test_drain_seconds gauge
test_drain_seconds ` + seconds + `
# HELP test_drain_step_failed 1 if the step of the drain failed, or ignored its deadline.
# TYPE test_drain_step_failed gauge
test_drain_step_failed{step="close"} 0
test_drain_step_failed{step="work"} ` + failed + `
# HELP test_draining 1 while the process drains.
# TYPE test_draining gauge
test_draining ` + draining + "\n"
			names := []string{
				"test_draining", "test_drain_seconds", "test_drain_limit_seconds", "test_drain_step_failed",
			}
			if err := testutil.GatherAndCompare(
				telemetry.Registry,
				strings.NewReader(text),
				names...); err != nil {
				t.Error(err)
			}
		}
		want("0", "0", "0")
		time.Sleep(time.Hour)
		telemetry.BeginDrain()
		want("1", "0", "0")
		time.Sleep(2 * time.Second)
		telemetry.BeginDrain() // A drain begins once.
		want("1", "2", "0")
		telemetry.FailDrain("work")
		want("1", "2", "1")
	})
}
