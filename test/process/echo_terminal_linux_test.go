package process_test

import (
	"testing"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/test/process/processtest"
)

func TestALineAboutTheConnectionMakesRoomForWhatComesBack(t *testing.T) {
	server := processtest.Start(t)
	terminal := clienttest.StartTerminal(t, processtest.Command(t, server.Address, "converse"))
	terminal.Type("one\r")
	terminal.Await("one\r\none\r\n") // As it is typed, and as it comes back.
	server.Kill()
	terminal.Await("\r\x1b[Kconnection lost, trying again")
	server.Restart()
	terminal.Type("two\r")
	terminal.Await("\r\x1b[Ktwo\r\n")
	terminal.Type("\x04")
	if err := terminal.Wait(); err != nil {
		t.Error(err)
	}
}
