package main

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// terminal starts the program at a terminal.
func terminal(t *testing.T, address string, arguments ...string) *clienttest.Terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, processtest.Binary(t, "client"), arguments...)
	c.Env = process.Environ(process.Setting("SERVER", address))
	return clienttest.StartTerminal(t, c)
}

func TestAChatKeepsTheLineThatIsTypedApartFromWhatComesIn(t *testing.T) {
	server := processtest.Start(t)
	ann := terminal(t, server.Address, "chat", "room", "--as", "ann")
	ann.Await(`* joined "room" as "ann"; Ctrl-D leaves`)
	ann.Await("ann> ")
	bob := terminal(t, server.Address, "chat", "room", "--as", "bob")
	bob.Await("bob> ")

	ann.Type("hel")
	ann.Await("hel")
	bob.Type("good morning\r")
	shown := ann.Await("bob: good morning\r\n")
	if _, behind, _ := strings.Cut(shown, "\r\x1b[J"); strings.Contains(behind, "hel") || behind == "" {
		t.Errorf("the line that is typed is not cleared first: %q", shown)
	}
	ann.Await("ann> hel") // It is shown again below.
	ann.Type("lo\r")
	bob.Await("ann: hello\r\n")

	server.Kill()
	ann.Await("* connection lost, trying again")
	ann.Type("are you there?\r")
	ann.Await("* 1 line waits to be sent")
	ann.Type("I am\r")
	ann.Await("* 2 lines wait to be sent")
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
	for who, code := range map[*clienttest.Terminal]int{ann: 0, bob: 130} {
		if got := who.ProcessState.ExitCode(); got != code || who.Raw() {
			t.Errorf("exit code %d, expected %d; the terminal is left raw: %v", got, code, who.Raw())
		}
	}
}

func TestLinesThatCouldNotBeSentAreTold(t *testing.T) {
	server := processtest.Start(t)
	ann := terminal(t, server.Address, "chat", "room", "--as", "ann")
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

func TestAnOutageIsALineThatIsAliveOnATerminal(t *testing.T) {
	server := processtest.Start(t)
	shell(t, 0, server.Address, "head -c 64M /dev/zero | client upload - big")
	proxy := clienttest.NewProxy(t, server.Address)
	killed := make(chan struct{})
	proxy.HoldAfter(16<<20, func() {
		server.Kill()
		close(killed)
	})
	download := terminal(t, proxy.Address, "download", "big", t.TempDir())
	<-killed
	download.Await("connection lost, ")
	download.Await("MiB of 64.0 MiB are safe, trying again")
	download.Await("\r\x1b[Kconnection lost, ")
	server.Restart()
	download.Await(`downloaded "big"`)
}
