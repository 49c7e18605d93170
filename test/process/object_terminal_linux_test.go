package process_test

import (
	"testing"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/test/process/processtest"
)

func TestAnOutageIsALineThatIsAliveOnATerminal(t *testing.T) {
	server := processtest.Start(t)
	processtest.Shell(t, 0, server.Address, "head -c 64M /dev/zero | client upload - big")
	proxy := clienttest.NewProxy(t, server.Address)
	killed := make(chan struct{})
	proxy.HoldAfter(16<<20, func() {
		server.Kill()
		close(killed)
	})
	download := clienttest.StartTerminal(
		t,
		processtest.Command(t, proxy.Address, "download", "big", t.TempDir()),
	)
	<-killed
	download.Await("connection lost, ")
	download.Await("MiB of 64.0 MiB are safe, trying again")
	download.Await("\r\x1b[Kconnection lost, ")
	server.Restart()
	download.Await(`downloaded "big"`)
}
