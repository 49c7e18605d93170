package transfer

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Frame is a message of a stream together with the buffers that hold the bulk of it, for SendMsg and RecvMsg. The bulk
// is the bytes field data of the field chunk, if the message has one. It works with any codec; with Codec the bulk is
// neither copied nor collected as garbage.
//
// Lifetimes: buffers are counted. A sender sets Data in the message as always, and Bulk to the buffer that the bytes
// are in; after SendMsg it calls Free, and the buffer goes back to its pool when the transport has written it too, which
// may be long after SendMsg has returned. A receiver may use what Pieces returns until it calls Free, which it has to do
// for every message, and must not change it: the bytes are the transport's own.
type Frame struct {
	proto.Message
	Bulk mem.BufferSlice

	apart int // bytes that were received into Bulk and are not in Message
}

// Pieces returns the bulk of a message that was received, in order: what Codec has set aside or, if another codec
// decoded the message, what it has put into the field, which is given.
func (f *Frame) Pieces(field []byte) [][]byte {
	if f.apart == 0 {
		return [][]byte{field}
	}
	pieces := make([][]byte, len(f.Bulk))
	for i, buffer := range f.Bulk {
		pieces[i] = buffer.ReadOnlyData()
	}
	return pieces
}

// Free gives the buffers back.
func (f *Frame) Free() {
	f.Bulk.Free()
	f.Bulk, f.apart = nil, 0
}

// Size is the size of the message as it is encoded, with its bulk, in bytes; less a few where the bulk was set aside.
func (f *Frame) Size() int { return proto.Size(f.Message) + f.apart }
