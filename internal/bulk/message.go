// Package bulk sends and receives protobuf messages that consist of one big bytes field without
// copying it: a codec for grpc-go, buffers that are shared with the transport, and the budget of
// memory for all transfers of a process.
package bulk

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Message is a message of a stream together with the buffers that hold the bulk of it, for SendMsg
// and RecvMsg. The bulk is the bytes field data of the field chunk, if the message has one. It
// works with any codec; with Codec the bulk is neither copied nor collected as garbage.
//
// Lifetimes: buffers are counted. A sender sets Data in the message as always, and Bulk to the
// buffer that the bytes are in; after SendMsg it calls Free, and the buffer goes back to its pool
// when the transport has written it too, which may be long after SendMsg has returned. A receiver
// may use what Pieces returns until it calls Free, which it has to do for every message, and must
// not change it: the bytes are the transport's own.
type Message struct {
	proto.Message
	Bulk mem.BufferSlice

	apart int // bytes that were received into Bulk and are not in Message
}

// Pieces returns the bulk of a message that was received, in order: what Codec has set aside or, if
// another codec decoded the message, what it has put into the field, which is given.
func (m *Message) Pieces(field []byte) [][]byte {
	if m.apart == 0 {
		return [][]byte{field}
	}
	pieces := make([][]byte, len(m.Bulk))
	for i, buffer := range m.Bulk {
		pieces[i] = buffer.ReadOnlyData()
	}
	return pieces
}

// Free gives the buffers back.
func (m *Message) Free() {
	m.Bulk.Free()
	m.Bulk, m.apart = nil, 0
}

// Size is the size of the message as it is encoded, with its bulk, in bytes; less a few where the
// bulk was set aside.
func (m *Message) Size() int { return proto.Size(m.Message) + m.apart }
