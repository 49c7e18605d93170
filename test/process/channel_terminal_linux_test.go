package process_test

import (
	"strings"
	"testing"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/test/process/processtest"
)

func TestAChatKeepsTheLineThatIsTypedApartFromWhatComesIn(t *testing.T) {
	server := processtest.Start(t)
	ann := clienttest.StartTerminal(
		t,
		processtest.Command(t, server.Address, "chat", "room", "--as", "ann"),
	)
	ann.Await(`* joined "room" as "ann"; Ctrl-D leaves`)
	ann.Await("ann> ")
	bob := clienttest.StartTerminal(
		t,
		processtest.Command(t, server.Address, "chat", "room", "--as", "bob"),
	)
	bob.Await("bob> ")

	ann.Type("hel")
	ann.Await("hel")
	bob.Type("good morning\r")
	shown := ann.Await("bob: good morning\r\n")
	if _, behind, _ := strings.Cut(shown, "\r\x1b[J"); strings.Contains(behind, "hel") ||
		behind == "" {
		t.Errorf("the line that is typed is not cleared first: %q", shown)
	}
	ann.Await("ann> hel") // It is shown again below.
	ann.Type("lo\r")
	bob.Await("ann: hello\r\n")

	server.Kill()
	ann.Await("* connection lost, trying again")
	ann.Type("are you there?\r")
	// The receipt of "hello" may have been lost with the server, and then that line waits too.
	told := ann.Await(" to be sent")
	next := "* 2 lines wait to be sent"
	if !strings.Contains(told, "* 1 line waits to be sent") {
		if next = "* 3 lines wait to be sent"; !strings.Contains(told, "* 2 lines wait to be sent") {
			t.Errorf("neither one line waits nor two: %q", told)
		}
	}
	ann.Type("I am\r")
	ann.Await(next)
	server.Restart()
	ann.Await("* connected again")
	bob.Await("ann: are you there?\r\n")
	bob.Await("ann: I am\r\n")

	if !ann.Raw() {
		t.Error("the editor does not take the keys")
	}
	ann.Type("\x04")
	_ = ann.Wait() // The exit code says how it ended.
	bob.Type("unfinished\x03")
	bob.Await("interrupted")
	_ = bob.Wait()
	for person, code := range map[*clienttest.Terminal]int{ann: 0, bob: 130} {
		if got := person.ProcessState.ExitCode(); got != code || person.Raw() {
			t.Errorf("exit code %d, expected %d; the terminal is left raw: %v", got, code, person.Raw())
		}
	}
}

func TestLinesThatCouldNotBeSentAreTold(t *testing.T) {
	server := processtest.Start(t)
	ann := clienttest.StartTerminal(
		t,
		processtest.Command(t, server.Address, "chat", "room", "--as", "ann"),
	)
	ann.Await("ann> ")
	server.Kill()
	ann.Await("* connection lost")
	ann.Type("hello\r")
	ann.Await("* 1 line waits to be sent")
	ann.Type("\x04")
	ann.Await("* leaving when all is sent; Ctrl-C leaves at once")
	ann.Type("\x03")
	ann.Await("1 line waits to be sent, and may not have been")
	_ = ann.Wait()
	if got := ann.ProcessState.ExitCode(); got != 130 {
		t.Errorf("exit code %d", got)
	}
}
