package bulk

import (
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Codec encodes protobuf as grpc-go does, except that it does not copy the bulk of a Message. Sent,
// the bulk goes to the transport in the buffer that it is in; received, it stays in the buffers
// that the transport has read it into. What is on the wire is protobuf like any other, so the peer
// may have any codec.
//
// grpc-go's own codec copies the bulk once to send it and twice to receive it, and the last copy is
// garbage as large as what is transferred.
//
// Everything here is in this file: without it, and without the line on each side that names it,
// everything works as before.
type Codec struct{}

var plain = encoding.GetCodecV2(encodingproto.Name)

// Name is protobuf's, so that peers see no difference.
func (Codec) Name() string { return encodingproto.Name }

// Marshal refers to the bulk of a Message, and encodes what is around it.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*Message)
	if !ok {
		return plain.Marshal(v)
	}
	b, ok := bulkOf(f.Message)
	if !ok || len(f.Bulk) == 0 {
		return plain.Marshal(f.Message)
	}
	head, err := b.head(f.Bulk.Len())
	if err != nil {
		return nil, err
	}
	f.Bulk.Ref() // The transport frees what it is given.
	return append(mem.BufferSlice{mem.SliceBuffer(head)}, f.Bulk...), nil
}

// Unmarshal sets the bulk of a Message aside, and decodes what is around it. A message that is put
// together in another way than those of known encoders is decoded as a whole.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*Message)
	if !ok {
		return decode(data, v)
	}
	f.Bulk, f.apart = nil, 0
	around, from, to, ok := cut(data, f.Message)
	if !ok {
		return decode(data, f.Message)
	}
	if err := knownFields.Unmarshal(around, f.Message); err != nil {
		return err
	}
	f.Bulk, f.apart = slice(data, from, to), to-from
	return nil
}

// knownFields are all that is kept of a message: a peer could fill memory with others.
var knownFields = proto.UnmarshalOptions{DiscardUnknown: true}

// decode is grpc-go's own, but for that.
func decode(data mem.BufferSlice, v any) error {
	message, ok := v.(proto.Message)
	if !ok {
		return plain.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	return knownFields.Unmarshal(buffer.ReadOnlyData(), message)
}

// bulk is where the bulk of a message is.
type bulk struct {
	chunk, data protoreflect.FieldDescriptor
	message     protoreflect.Message // the chunk
}

// fields finds the fields chunk and data of a kind of message.
func fields(m proto.Message) (b bulk, ok bool) {
	b.chunk = m.ProtoReflect().Descriptor().Fields().ByName("chunk")
	if b.chunk == nil || b.chunk.Message() == nil || b.chunk.IsList() {
		return b, false
	}
	b.data = b.chunk.Message().Fields().ByName("data")
	return b, b.data != nil && b.data.Kind() == protoreflect.BytesKind && !b.data.IsList()
}

// bulkOf returns where the bulk of this message is, if it has a chunk.
func bulkOf(m proto.Message) (b bulk, ok bool) {
	if b, ok = fields(m); !ok || !m.ProtoReflect().Has(b.chunk) {
		return b, false
	}
	b.message = m.ProtoReflect().Get(b.chunk).Message()
	return b, true
}

// head encodes everything before the bulk, which is put last: the other fields of the chunk, tags
// and lengths. Beside a chunk there is nothing in the message, since they are in a oneof.
func (b bulk) head(size int) ([]byte, error) {
	data := b.message.Get(b.data)
	b.message.Clear(b.data)
	others, err := proto.Marshal(b.message.Interface())
	b.message.Set(b.data, data)
	if err != nil {
		return nil, err
	}
	inner := len(others) + protowire.SizeTag(b.data.Number()) + protowire.SizeBytes(size)
	head := protowire.AppendTag(make([]byte, 0, maxAround), b.chunk.Number(), protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(inner))
	head = append(head, others...)
	head = protowire.AppendTag(head, b.data.Number(), protowire.BytesType)
	return protowire.AppendVarint(head, uint64(size)), nil
}

// maxAround is more than there is before or after the bulk: an offset, a checksum, tags and
// lengths.
const maxAround = 64

// cut finds the bulk in an encoded message that is one chunk and nothing else. It returns the
// message without the bulk, and where in data the bulk is.
func cut(data mem.BufferSlice, m proto.Message) (around []byte, from, to int, ok bool) {
	b, ok := fields(m)
	if !ok {
		return nil, 0, 0, false
	}
	size := data.Len()
	start := copyRange(data, 0, min(size, maxAround))
	begin, length, ok := lengthPrefix(start, b.chunk.Number())
	if !ok || length != uint64(size-begin) {
		return nil, 0, 0, false
	}
	tag, ok := find(start[begin:], b.data.Number())
	if !ok {
		return nil, 0, 0, false
	}
	before := start[begin : begin+tag]
	n, length, ok := lengthPrefix(start[begin+tag:], b.data.Number())
	from = begin + tag + n
	if !ok || length > uint64(size-from) || uint64(size-from)-length > maxAround {
		return nil, 0, 0, false
	}
	to = from + int(length)
	after := copyRange(data, to, size)
	if _, again := find(after, b.data.Number()); again {
		return nil, 0, 0, false
	}
	around = protowire.AppendTag(make([]byte, 0, 2*maxAround), b.chunk.Number(), protowire.BytesType)
	around = protowire.AppendVarint(around, uint64(len(before)+len(after)))
	return append(append(around, before...), after...), from, to, true
}

// lengthPrefix reads the tag and the length of a field that is of this number and has a length. It
// returns where its content begins.
func lengthPrefix(b []byte, number protowire.Number) (begin int, length uint64, ok bool) {
	found, kind, n := protowire.ConsumeTag(b)
	if n < 0 || found != number || kind != protowire.BytesType {
		return 0, 0, false
	}
	length, m := protowire.ConsumeVarint(b[n:])
	return n + m, length, m > 0
}

// find returns where the tag of the first field of this number is.
func find(b []byte, number protowire.Number) (at int, ok bool) {
	for at < len(b) {
		found, kind, n := protowire.ConsumeTag(b[at:])
		if n < 0 {
			return 0, false
		}
		if found == number {
			return at, true
		}
		m := protowire.ConsumeFieldValue(found, kind, b[at+n:])
		if m < 0 {
			return 0, false
		}
		at += n + m
	}
	return 0, false
}

// slice returns new references to the bytes from from to to, and holds no buffer that has none of
// them.
func slice(data mem.BufferSlice, from, to int) mem.BufferSlice {
	part := make(mem.BufferSlice, 0, len(data))
	for _, buffer := range data {
		size := buffer.Len()
		if low, high := max(from, 0), min(to, size); low < high {
			part = append(part, buffer.Slice(low, high))
		}
		from, to = from-size, to-size
	}
	return part
}

func copyRange(data mem.BufferSlice, from, to int) []byte {
	copied := make([]byte, 0, to-from)
	for _, buffer := range data {
		size := buffer.Len()
		if low, high := max(from, 0), min(to, size); low < high {
			copied = append(copied, buffer.ReadOnlyData()[low:high]...)
		}
		from, to = from-size, to-size
	}
	return copied
}
