package process_test

import (
	"testing"

	"example.com/quartet/test/process/processtest"
)

func TestTextsThatCannotBeWrittenAreAFailure(t *testing.T) {
	server := processtest.Start(t)
	wantLost(t, server.Address, "echo hello", "expand 'one two'", "collect one", "converse <<<line")
	wantClosed(t, server.Address, "echo hello", "expand hello", "collect hello", "converse <<<line")
	processtest.Shell(t, 0, server.Address, "client echo hello >/dev/null")
}

func TestConverseObeysWhileItIsBlocked(t *testing.T) {
	t.Parallel()
	server := processtest.Start(t)
	wantObedient(t, "", func(t *testing.T, more ...string) *processtest.Client {
		return converse(
			t,
			processtest.StartClient(t, server.Address, append([]string{"converse"}, more...)...),
		)
	})
}
