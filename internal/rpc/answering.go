package rpc

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// Answering knows the connections of an http.Server that have a request under way.
type Answering struct{ conns sync.Map }

// Watch is to be called by the ConnState of the http.Server.
func (a *Answering) Watch(conn net.Conn, state http.ConnState) {
	if state == http.StateActive {
		a.conns.Store(conn, nil)
	} else {
		a.conns.Delete(conn)
	}
}

// ResetOnClose is that for each of these connections, which the http.Server closes next.
func (a *Answering) ResetOnClose() {
	for conn := range a.conns.Range {
		ResetOnClose(conn.(net.Conn))
	}
}

// ResetOnClose has the peer of a connection learn at once when it is closed, because the process
// ends. Otherwise the kernel sends first what has been written before. For a peer that reads slowly
// that takes longer than the network of a pod lasts after its programs, so that the peer would hear
// nothing more and wait for as long as its keepalive allows, which is a minute or more.
func ResetOnClose(conn net.Conn) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // It fails for one that is closed already.
	}
}
