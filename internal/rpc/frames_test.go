package rpc

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"net"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// frames is a client that sends what no library would.
type frames struct {
	*http2.Framer
	conn   net.Conn
	t      *testing.T
	last   uint32 // the stream
	fields bytes.Buffer
	hpack  *hpack.Encoder
	ended  map[uint32]*status.Status
}

func dialFrames(t *testing.T, address string) *frames {
	t.Helper()
	return dialFramesFrom(t, "127.0.0.1", address)
}

func dialFramesFrom(t *testing.T, from, address string) *frames {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	f := &frames{Framer: http2.NewFramer(conn, conn), conn: conn, t: t,
		ended: map[uint32]*status.Status{}}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.hpack = hpack.NewEncoder(&f.fields)
	f.must(f.WriteSettings())
	return f
}

func (f *frames) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// call sends the headers of a call, and further ones in pairs.
func (f *frames) call(path string, more ...string) (stream uint32) {
	f.t.Helper()
	f.fields.Reset()
	fields := append([]string{":method", "POST", ":scheme", "http", ":path", path, ":authority",
		"test", "content-type", "application/grpc", "te", "trailers"}, more...)
	for i := 0; i < len(fields); i += 2 {
		f.must(f.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	stream = f.last*2 + 1
	f.last++
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.fields.Bytes(),
		EndHeaders: true}))
	return stream
}

// message is a message of gRPC with a flag before it.
func message(flag byte, data string) string {
	prefix := binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(data)))
	return string(prefix) + data
}

// end is the status that a call ends with.
func (f *frames) end(stream uint32) *status.Status {
	f.t.Helper()
	for f.ended[stream] == nil {
		_, err := f.read()
		f.must(err)
	}
	return f.ended[stream]
}

// read reads one frame, and answers it as a client has to.
func (f *frames) read() (http2.Frame, error) {
	f.t.Helper()
	frame, err := f.ReadFrame()
	if err != nil {
		return nil, err
	}
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			f.must(f.WriteSettingsAck())
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			f.must(f.WritePing(true, frame.Data))
		}
	case *http2.MetaHeadersFrame:
		if frame.StreamEnded() {
			f.ended[frame.StreamID] = f.status(frame.RegularFields())
		}
	}
	return frame, nil
}

func (f *frames) status(fields []hpack.HeaderField) *status.Status {
	f.t.Helper()
	st := &spb.Status{}
	for _, field := range fields {
		switch field.Name {
		case "grpc-status":
			code, err := strconv.Atoi(field.Value)
			f.must(err)
			st.Code = int32(code)
		case "grpc-message":
			st.Message = field.Value
		case "grpc-status-details-bin":
			encoded, err := base64.RawStdEncoding.DecodeString(field.Value)
			f.must(err)
			f.must(proto.Unmarshal(encoded, st))
			return status.FromProto(st)
		}
	}
	return status.FromProto(st)
}

// untilGoAway reads until the server says that it goes.
func (f *frames) untilGoAway() {
	f.t.Helper()
	for {
		frame, err := f.read()
		f.must(err)
		if _, ok := frame.(*http2.GoAwayFrame); ok {
			return
		}
	}
}

// untilClosed reads until the server has closed the connection.
func (f *frames) untilClosed() {
	f.t.Helper()
	var err error
	for err == nil {
		_, err = f.read()
	}
}
