package bulk

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// envelope describes a message like those of uploads and downloads: a oneof of something small and
// of a chunk.
var envelope = func() protoreflect.MessageDescriptor {
	field := func(
		name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, message string,
	) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{
			Name: new(
				name,
			),
			Number: new(number),
			Type:   new(kind),
			Label:  new(descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL),
		}
		if message != "" {
			f.TypeName, f.OneofIndex = new(message), new(int32(0))
		}
		return f
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("envelope.proto"), Package: new("t"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: new("Envelope"), Field: []*descriptorpb.FieldDescriptorProto{
				field("head", 1, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".t.Head"),
				field("chunk", 2, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".t.Chunk"),
			}, OneofDecl: []*descriptorpb.OneofDescriptorProto{{Name: new("content")}}},
			{Name: new("Head"), Field: []*descriptorpb.FieldDescriptorProto{
				field("name", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING, ""),
			}},
			{Name: new("Chunk"), Field: []*descriptorpb.FieldDescriptorProto{
				field("offset", 1, descriptorpb.FieldDescriptorProto_TYPE_UINT64, ""),
				field("data", 2, descriptorpb.FieldDescriptorProto_TYPE_BYTES, ""),
				field("crc32c", 3, descriptorpb.FieldDescriptorProto_TYPE_FIXED32, ""),
			}},
		},
	}, nil)
	if err != nil {
		panic(err)
	}
	return file.Messages().ByName("Envelope")
}()

func newEnvelope() *dynamicpb.Message { return dynamicpb.NewMessage(envelope) }

// chunkOf returns the chunk of a message, and its data.
func chunkOf(m proto.Message) (chunk protoreflect.Message, data protoreflect.FieldDescriptor) {
	field := envelope.Fields().ByName("chunk")
	return m.ProtoReflect().Mutable(field).Message(), field.Message().Fields().ByName("data")
}

func newChunk(offset uint64, content []byte, crc32c uint32) *dynamicpb.Message {
	m := newEnvelope()
	chunk, data := chunkOf(m)
	fields := chunk.Descriptor().Fields()
	chunk.Set(fields.ByName("offset"), protoreflect.ValueOfUint64(offset))
	chunk.Set(data, protoreflect.ValueOfBytes(content))
	chunk.Set(fields.ByName("crc32c"), protoreflect.ValueOfUint32(crc32c))
	return m
}

// pool counts what is out.
type pool struct{ out int }

func (p *pool) Get(size int) *[]byte { p.out++; return new(make([]byte, size)) }
func (p *pool) Put(*[]byte)          { p.out-- }

// split copies data into several buffers of the pool, as a transport that has read it in frames.
func (p *pool) split(data []byte, sizes func() int) (pieces mem.BufferSlice) {
	for len(data) > 0 {
		n := min(max(sizes(), 1), len(data))
		buffer := p.Get(n + 2<<10) // grpc-go does not count small ones.
		copy(*buffer, data[:n])
		*buffer = (*buffer)[:n]
		pieces, data = append(pieces, mem.NewBuffer(buffer, p)), data[n:]
	}
	return pieces
}

// whole puts the bulk back into the message.
func whole(f *Message) proto.Message {
	m := proto.Clone(f.Message)
	if f.apart > 0 {
		chunk, data := chunkOf(m)
		chunk.Set(data, protoreflect.ValueOfBytes(bytes.Join(f.Pieces(nil), nil)))
	}
	return m
}

func TestAFrameIsProtobufLikeAnyOther(t *testing.T) {
	content := bytes.Repeat([]byte("content "), 5<<10)
	for name, m := range map[string]*dynamicpb.Message{
		"a chunk":          newChunk(1<<40, content, 0xdeadbeef),
		"all but the data": newChunk(0, content[:1], 0),
		"no chunk":         newEnvelope(),
		"another field": func() *dynamicpb.Message {
			m := newEnvelope()
			if err := proto.Unmarshal([]byte{0x0a, 3, 0x0a, 1, 'x'}, m); err != nil {
				t.Fatal(err)
			}
			return m
		}(),
	} {
		for from, sender := range map[string]codec{"ours": Codec{}, "plain": plain} {
			for to, receiver := range map[string]codec{"ours": Codec{}, "plain": plain} {
				t.Run(name+" from "+from+" to "+to, func(t *testing.T) {
					sent := encoded(t, sender, m)
					var p pool
					message := p.split(sent, func() int { return 16 << 10 })
					f := &Message{Message: newEnvelope()}
					if err := receiver.Unmarshal(message, f); err != nil {
						t.Fatal(err)
					}
					message.Free()
					if !proto.Equal(whole(f), m) {
						t.Error("what was received is not what was sent")
					}
					f.Free()
					if p.out != 0 {
						t.Errorf("%d buffers were not given back", p.out)
					}
				})
			}
		}
	}
}

type codec interface {
	Marshal(v any) (mem.BufferSlice, error)
	Unmarshal(data mem.BufferSlice, v any) error
}

// encoded is what a codec makes of a frame whose bulk is in a buffer of a pool.
func encoded(t *testing.T, c codec, m *dynamicpb.Message) []byte {
	t.Helper()
	f, p := &Message{Message: m}, &pool{}
	if field := envelope.Fields().ByName("chunk"); m.Has(field) {
		content := m.Get(field).Message().Get(field.Message().Fields().ByName("data")).Bytes()
		f.Bulk = p.split(content, func() int { return len(content) })
	}
	before := proto.Clone(m)
	data, err := c.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Free()
	sent := data.Materialize()
	data.Free()
	if p.out != 0 {
		t.Errorf("%d buffers were not given back", p.out)
	}
	if !proto.Equal(before, m) {
		t.Error("the message was changed")
	}
	return sent
}

func TestTheBulkIsNotCopied(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 100<<10)
	buffer := mem.SliceBuffer(content)
	sent, err := Codec{}.Marshal(
		&Message{Message: newChunk(7, content, 1), Bulk: mem.BufferSlice{buffer}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if last := sent[len(sent)-1].ReadOnlyData(); &last[0] != &content[0] {
		t.Error("the content was copied to be sent")
	}
	f := &Message{Message: newEnvelope()}
	if err := (Codec{}).Unmarshal(sent, f); err != nil {
		t.Fatal(err)
	}
	if pieces := f.Pieces(nil); len(pieces) != 1 || &pieces[0][0] != &content[0] {
		t.Error("the content was copied when it was received")
	}
	if size := f.Size(); size < len(content) || size > sent.Len() {
		t.Errorf("Size = %d of %d bytes on the wire", size, sent.Len())
	}
}

// FuzzCodec compares with grpc-go's codec: whatever comes, in whatever pieces, both understand the
// same or nothing, but for fields that the contract does not have, which this one drops.
func FuzzCodec(f *testing.F) {
	content := bytes.Repeat([]byte("abcdefgh"), 64)
	chunk, err := proto.Marshal(newChunk(300, content, 5))
	if err != nil {
		f.Fatal(err)
	}
	ours, err := Codec{}.Marshal(
		&Message{Message: newChunk(300, content, 5), Bulk: mem.BufferSlice{mem.SliceBuffer(content)}},
	)
	if err != nil {
		f.Fatal(err)
	}
	data := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), []byte("again"))
	twice := protowire.AppendBytes(
		protowire.AppendTag(nil, 2, protowire.BytesType),
		slices.Concat(data, data),
	)
	for _, seed := range [][]byte{
		nil, chunk, ours.Materialize(), slices.Concat(chunk, chunk), twice, chunk[:len(chunk)-3],
		{0x12}, {0x12, 0x80}, {0x12, 3, 0x12, 9, 1}, {0x30, 0x30},
	} {
		for split := range uint64(4) {
			f.Add(seed, split)
		}
	}
	f.Fuzz(func(t *testing.T, message []byte, split uint64) {
		random := rand.New(rand.NewPCG(split, 0))
		var p pool
		pieces := p.split(message, func() int { return random.IntN(1 + len(message)) })
		want, got := newEnvelope(), &Message{Message: newEnvelope()}
		wantErr, gotErr := plain.Unmarshal(pieces, want), Codec{}.Unmarshal(pieces, got)
		pieces.Free()
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("%v, where grpc-go's codec says %v", gotErr, wantErr)
		}
		if gotErr == nil {
			known, err := proto.Marshal(want)
			if err == nil {
				err = proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(known, want)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if gotErr == nil && !proto.Equal(whole(got), want) {
			t.Fatalf("understood %v, and grpc-go's codec %v", whole(got), want)
		}
		got.Free()
		if p.out != 0 {
			t.Errorf("%d buffers were not given back", p.out)
		}
	})
}
