package rpc

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers DNS questions, all of them with the same addresses, and
// with NXDOMAIN while it has none.
type nameServer struct {
	conn net.PacketConn

	mu        sync.Mutex
	addresses []string
	asked     int
}

func startNameServer(t *testing.T, addresses ...string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{conn: conn, addresses: addresses}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.serve(t)
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return n
}

func (n *nameServer) serve(t *testing.T) {
	packet := make([]byte, 512)
	for {
		size, from, err := n.conn.ReadFrom(packet)
		if err != nil {
			return
		}
		var message dnsmessage.Message
		if err := message.Unpack(packet[:size]); err != nil {
			t.Error(err)
			continue
		}
		reply, err := n.answer(message)
		if err != nil {
			t.Error(err)
		}
		_, _ = n.conn.WriteTo(reply, from) // A client without an answer asks again.
	}
}

func (n *nameServer) answer(query dnsmessage.Message) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	reply := dnsmessage.Message{
		Header: dnsmessage.Header{ID: query.ID, Response: true, RecursionDesired: true,
			RecursionAvailable: true},
		Questions: query.Questions,
	}
	if len(n.addresses) == 0 {
		reply.RCode = dnsmessage.RCodeNameError
	}
	for _, question := range query.Questions {
		for _, address := range n.addresses {
			if question.Type == dnsmessage.TypeA {
				reply.Answers = append(reply.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: question.Name, Type: question.Type,
						Class: question.Class},
					Body: &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()},
				})
			}
		}
	}
	return reply.Pack()
}

func (n *nameServer) set(addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses = addresses
}

func (n *nameServer) questions() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}
