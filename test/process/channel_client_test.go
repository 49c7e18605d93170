package process_test

import (
	"testing"

	"example.com/quartet/test/process/processtest"
)

func TestMessagesThatCannotBeWrittenAreAFailure(t *testing.T) {
	server := processtest.Start(t)
	wantLost(t, server.Address, "chat room --after 0 <<<line")
	wantClosed(t, server.Address, "chat room <<<line")
}

func TestAChatObeysWhileItIsBlocked(t *testing.T) {
	server := processtest.Start(t)
	wantObedient(t, "", func(t *testing.T, more ...string) *processtest.Client {
		return converse(t, processtest.StartClient(t, server.Address, append([]string{"chat", "room"}, more...)...))
	})
}
