package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// wire is a connection on which streams do what no library would.
type wire struct {
	conn net.Conn

	writing sync.Mutex // of frames, and of the encoder's table
	framer  *http2.Framer
	fields  bytes.Buffer
	hpack   *hpack.Encoder
	last    uint32

	mu      sync.Mutex
	changed *sync.Cond
	window  int64 // of the connection
	initial int64 // of streams
	streams map[uint32]*wireStream
	closed  bool
}

// wireStream is a stream until it has ended.
type wireStream struct {
	id     uint32
	window int64
	ended  bool
	status error
}

var errConnection = status.Error(codes.Unavailable, "the connection is closed")

// dialWire opens a connection on which the server may send so many bytes on each stream.
func dialWire(ctx context.Context, address string, window uint32) (*wire, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	w := &wire{
		conn:    conn,
		window:  defaultWindow,
		initial: defaultWindow,
		streams: map[uint32]*wireStream{},
	}
	w.changed = sync.NewCond(&w.mu)
	w.framer = http2.NewFramer(conn, conn)
	w.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.hpack = hpack.NewEncoder(&w.fields)
	_, err = io.WriteString(conn, http2.ClientPreface)
	settings := http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}
	if err = errors.Join(err, w.framer.WriteSettings(settings)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	go w.read()
	return w, nil
}

func (w *wire) close() {
	_ = w.conn.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.changed.Broadcast()
}

func (w *wire) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// read answers as a client has to, until the connection is closed.
func (w *wire) read() {
	defer w.close()
	for {
		frame, err := w.framer.ReadFrame()
		if err != nil {
			var stream http2.StreamError
			if errors.As(err, &stream) {
				continue
			}
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if frame.IsAck() {
				continue
			}
			w.write(func() error { return w.framer.WriteSettingsAck() })
			if window, ok := frame.Value(http2.SettingInitialWindowSize); ok {
				w.resize(int64(window))
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				w.write(func() error { return w.framer.WritePing(true, frame.Data) })
			}
		case *http2.WindowUpdateFrame:
			w.widen(frame.StreamID, int64(frame.Increment))
		case *http2.DataFrame:
			// The connection's window is renewed, and those of streams never are.
			if n := frame.Length; n > 0 {
				w.write(func() error { return w.framer.WriteWindowUpdate(0, n) })
			}
			if frame.StreamEnded() { // as streams of Connect do
				w.end(frame.StreamID, connectStatus(frame.Data()))
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamEnded() {
				w.end(frame.StreamID, statusOf(frame))
			}
		case *http2.RSTStreamFrame:
			w.end(frame.StreamID, status.Error(codes.Canceled, frame.ErrCode.String()))
		}
	}
}

func statusOf(frame *http2.MetaHeadersFrame) error {
	code, text := uint64(codes.Unknown), ""
	for _, field := range frame.RegularFields() {
		switch field.Name {
		case "grpc-status":
			code, _ = strconv.ParseUint(field.Value, 10, 32) // It is 0 if it is no number.
		case "grpc-message":
			text = field.Value
		}
	}
	return status.Error(codes.Code(code), text)
}

func (w *wire) write(frame func() error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	_ = frame() // The reader notices that the connection is closed.
}

func (w *wire) resize(initial int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.streams {
		s.window += initial - w.initial
	}
	w.initial = initial
	w.changed.Broadcast()
}

func (w *wire) widen(stream uint32, by int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if stream == 0 {
		w.window += by
	} else if s := w.streams[stream]; s != nil {
		s.window += by
	}
	w.changed.Broadcast()
}

func (w *wire) end(stream uint32, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.streams[stream]; s != nil {
		s.ended, s.status = true, err
		delete(w.streams, stream)
	}
	w.changed.Broadcast()
}

// begin sends the headers of a call, and further ones in pairs.
func (w *wire) begin(path string, more ...string) *wireStream {
	return w.beginAs("application/grpc", path, more...)
}

// beginAs is the same for another protocol.
func (w *wire) beginAs(contentType, path string, more ...string) *wireStream {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.fields.Reset()
	fields := append(
		[]string{
			":method",
			"POST",
			":scheme",
			"http",
			":path",
			path,
			":authority",
			"attack",
			"content-type",
			contentType,
			"te",
			"trailers",
		},
		more...)
	for i := 0; i < len(fields); i += 2 {
		_ = w.hpack.WriteField(
			hpack.HeaderField{Name: fields[i], Value: fields[i+1]},
		) // It writes to memory.
	}
	s := &wireStream{id: w.last*2 + 1}
	w.last++
	w.mu.Lock()
	s.window = w.initial
	w.streams[s.id] = s
	w.mu.Unlock()
	_ = w.framer.WriteHeaders(
		http2.HeadersFrameParam{StreamID: s.id, BlockFragment: w.fields.Bytes(), EndHeaders: true},
	)
	return s
}

// maxFrame is what HTTP/2 lets every peer send.
const maxFrame = 16 << 10

// send sends data as the server's windows allow, and returns early if the stream has ended.
func (w *wire) send(s *wireStream, data []byte, last bool) error {
	for {
		w.mu.Lock()
		for len(data) > 0 && !w.closed && !s.ended && min(w.window, s.window) <= 0 {
			w.changed.Wait()
		}
		if w.closed || s.ended {
			err := cmp.Or(s.status, errConnection)
			w.mu.Unlock()
			return err
		}
		n := max(0, min(int64(len(data)), w.window, s.window, maxFrame))
		w.window -= n
		s.window -= n
		w.mu.Unlock()
		part := data[:n]
		data = data[n:]
		w.write(func() error { return w.framer.WriteData(s.id, last && len(data) == 0, part) })
		if len(data) == 0 {
			return nil
		}
	}
}

// wait waits for the end of a stream.
func (w *wire) wait(s *wireStream) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closed && !s.ended {
		w.changed.Wait()
	}
	if !s.ended {
		return errConnection
	}
	return s.status
}

// reset cancels a stream.
func (w *wire) reset(s *wireStream) {
	w.write(func() error { return w.framer.WriteRSTStream(s.id, http2.ErrCodeCancel) })
	w.end(s.id, status.Error(codes.Canceled, "by the attacker"))
}

// message is a message of gRPC, with its flag and its length.
func message(flag byte, data []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(data))), data...)
}
