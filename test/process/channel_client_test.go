package process_test

import (
	"strings"
	"testing"

	"example.com/quartet/test/process/processtest"
)

func TestMessagesThatCannotBeWrittenAreAFailure(t *testing.T) {
	server := processtest.Start(t)
	wantLost(t, server.Address, "chat room --after 0 <<<line")
	wantClosed(t, server.Address, "chat room <<<line")
}

func TestAChatObeysWhileItIsBlocked(t *testing.T) {
	t.Parallel()
	server := processtest.Start(t)
	wantObedient(t, "", func(t *testing.T, more ...string) *processtest.Client {
		return converse(
			t,
			processtest.StartClient(t, server.Address, append([]string{"chat", "room"}, more...)...),
		)
	})
}

func TestANameThatIsTooLongIsAMistakeInTheArgument(t *testing.T) {
	server := processtest.Start(t)
	chat := processtest.Command(t, server.Address, "chat", strings.Repeat("x", 129))
	output, err := chat.CombinedOutput()
	if got := chat.ProcessState.ExitCode(); got != 2 {
		t.Errorf("exit code %d, expected 2: %v\n%s", got, err, output)
	}
}
