package rpc

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"example.com/quartet/internal/telemetry"
)

// HTTPHandler answers the calls of an http.Server. transcode returns a handler that turns requests
// of other protocols into those of gRPC, whose messages may be JSON, for the handler that it is
// given; unknown answers for methods that the server does not have.
//
// The calls have a grpc.Server of their own, which shares all else with the main one: grpc-go's
// GracefulStop cuts calls that came by ServeHTTP at once, so that the http.Server has to end them
// instead.
//
// grpc-go's ServeHTTP does without what the limits of its own transport rest upon: it reads all of
// a request into memory as fast as it comes, and to write a status waits for a client that does not
// read. An exchange makes up for both.
func (s *Server) HTTPHandler(
	transcode func(calls, unknown http.Handler) (http.Handler, error),
) (http.Handler, error) {
	handler, err := transcode(http.HandlerFunc(s.serveCall), http.HandlerFunc(s.refuseUnknown))
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := newExchange(w, r, s.incoming.send)
		defer x.end()
		r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
		r.Body = &source{r.Body, x}
		handler.ServeHTTP(&timedWriter{ResponseWriter: w, exchange: x}, r)
	}), nil
}

// AwaitHTTP waits until the handlers of all calls of HTTPHandler have returned. A request may end
// before the handler of its call, once its connection is closed. No more calls are answered.
func (s *Server) AwaitHTTP() { s.http.GracefulStop() }

// Services are all services by name, health and reflection among them.
func (s *Server) Services() map[string]grpc.ServiceInfo { return s.http.GetServiceInfo() }

// Bound returns a listener that closes connections at once beyond the limits on connections, which
// hold for each port.
func (s *Server) Bound(lis net.Listener) net.Listener { return s.bounds.Bound(lis, s.refused) }

// HTTPTLS is the TLS of the server for an http.Server, nil if it has none.
func (s *Server) HTTPTLS() *tls.Config {
	if s.tls == nil {
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			config := s.tls.newestConfig().Clone()
			config.NextProtos = []string{"h2", "http/1.1"}
			return config, nil
		},
	}
}

// serveCall answers a call that is gRPC by now.
func (s *Server) serveCall(w http.ResponseWriter, r *http.Request) {
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		http.Error(w, "no exchange", http.StatusInternalServerError)
		return
	}
	s.arrived(r)
	if err := checkMetadata(r.Header); err != nil {
		s.calls.Refused(contextOf(r), r.URL.Path, err)
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.Header().Set("Grpc-Status", strconv.Itoa(int(codes.InvalidArgument)))
		w.Header().Set("Grpc-Message", status.Convert(err).Message())
		return
	}
	x.json = strings.HasSuffix(r.Header.Get("Content-Type"), "+json")
	r.Body = &gate{r.Body, x}
	s.http.ServeHTTP(w, r)
}

// checkMetadata returns an error with a status if binary metadata are not in base64. grpc-go's
// ServeHTTP would answer with an HTTP status, which the clients of other protocols take for a fault
// of the server.
func checkMetadata(header http.Header) error {
	for name, values := range header {
		if !strings.HasSuffix(name, "-Bin") {
			continue
		}
		for _, value := range values {
			encoding := base64.RawStdEncoding
			if len(value)%4 == 0 {
				encoding = base64.StdEncoding
			}
			if _, err := encoding.DecodeString(value); err != nil {
				return status.Error(codes.InvalidArgument, "binary metadata are not in base64")
			}
		}
	}
	return nil
}

// arrived counts a call as the main port does in its grpc.InTapHandle, which ServeHTTP does not
// call.
func (s *Server) arrived(r *http.Request) {
	const attempts = "grpc-previous-rpc-attempts"
	s.calls.Arrived(&tap.Info{FullMethodName: r.URL.Path,
		Header: metadata.MD{attempts: r.Header.Values(attempts)}})
}

// refuseUnknown answers for methods that the server does not have. Clients of gRPC get the same
// code from the status of HTTP.
func (s *Server) refuseUnknown(w http.ResponseWriter, r *http.Request) {
	s.RefuseMethod(w, r, http.StatusNotFound, unknownMethod(r.URL.Path))
}

// RefuseMethod answers a request that its method is the reason to refuse, before it is gRPC, as the
// Connect protocol has it. httpStatus is for err, which is counted as what a call ended with. A
// caller that may not call the method is told that instead, so that it does not learn which methods
// there are.
func (s *Server) RefuseMethod(w http.ResponseWriter, r *http.Request, httpStatus int, err error) {
	ctx := metadata.NewIncomingContext(contextOf(r),
		metadata.MD{authorizationHeader: r.Header.Values(authorizationHeader)})
	if _, _, refused := s.access.admit(ctx, r.URL.Path); refused != nil {
		httpStatus, err = 0, refused
	}
	st, _ := s.Refuse(r, err)
	type detail struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	answer := struct {
		Code    string   `json:"code"`
		Message string   `json:"message"`
		Details []detail `json:"details,omitempty"`
	}{Code: strings.ToLower(code.Code(st.Code()).String()), Message: st.Message()}
	for _, packed := range st.Proto().GetDetails() {
		_, name, _ := strings.Cut(packed.GetTypeUrl(), "/")
		answer.Details = append(answer.Details,
			detail{name, base64.RawStdEncoding.EncodeToString(packed.GetValue())})
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(cmp.Or(httpStatus, statusOfHTTP[st.Code()], http.StatusInternalServerError))
	_ = json.NewEncoder(w).Encode(answer) // It fails if the client is gone.
}

// contextOf is the context of a request with its caller, as a call of gRPC has it.
func contextOf(r *http.Request) context.Context {
	caller := &peer.Peer{Addr: remoteAddr(r.RemoteAddr)}
	if r.TLS != nil {
		caller.AuthInfo = credentials.TLSInfo{State: *r.TLS}
	}
	return peer.NewContext(r.Context(), caller)
}

// remoteAddr is the address of a peer as http.Server has it.
type remoteAddr string

func (remoteAddr) Network() string  { return "tcp" }
func (a remoteAddr) String() string { return string(a) }

// statusOfHTTP are the codes with which a call ends that may not be made, by the Connect protocol.
var statusOfHTTP = map[codes.Code]int{
	codes.Unauthenticated:   http.StatusUnauthorized,
	codes.PermissionDenied:  http.StatusForbidden,
	codes.Unavailable:       http.StatusServiceUnavailable,
	codes.ResourceExhausted: http.StatusTooManyRequests,
}

// Refuse counts a request that is refused before it is gRPC as a call that ended with err, and
// returns what its client is to be told: the status, and the trailer.
func (s *Server) Refuse(r *http.Request, err error) (st *status.Status, trailer metadata.MD) {
	s.arrived(r)
	err = s.incoming.errs.of(r.URL.Path).translate(err, func(md metadata.MD) { trailer = md })
	s.calls.Refused(contextOf(r), r.URL.Path, err)
	return status.Convert(err), trailer
}

// exchange is an HTTP request that carries a call, and its response.
type exchange struct {
	control *http.ResponseController
	send    time.Duration // for a client to take what is written
	stuck   *time.Timer   // cuts the call off when that has passed
	json    bool          // whether messages are JSON
	duplex  bool          // whether a request may go on while it is answered, as by HTTP/2

	mu      sync.Mutex
	changed sync.Cond
	wanted  int   // bytes of the request that the call waits for
	reading bool  // whether grpc-go is reading them
	closed  bool  // grpc-go reads no more
	atEnd   bool  // all of the request has been read
	over    bool  // the handler has returned, after which control must not be used
	failed  error // why the request cannot be read on
	// authenticate is the header WWW-Authenticate, if the call is refused for its token.
	authenticate string
}

type exchangeKey struct{}

// exchangeOf is nil for calls of the main port.
func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

func newExchange(w http.ResponseWriter, r *http.Request, send time.Duration) *exchange {
	x := &exchange{control: http.NewResponseController(w), send: send, duplex: r.ProtoMajor > 1,
		atEnd: r.ContentLength == 0}
	x.changed.L = &x.mu
	// The sweep of incoming ends calls after this time and knows more of them. This is for what it
	// does not see: what is written after the handler of the call has returned.
	x.stuck = time.AfterFunc(time.Hour, x.cut)
	x.stuck.Stop()
	if r.ProtoMajor == 1 {
		// Without it, the server would first read on when the answer begins, and wait for a client that
		// sends slowly.
		_ = x.control.EnableFullDuplex() // It fails for writers of tests only.
	}
	return x
}

// bodyGrace is how long a client may go on sending a request that has been answered, so that it
// gets the answer over HTTP/1.1.
const bodyGrace = time.Second

// end is called when the handler returns. What is left of the request is not waited for, as
// http.Server would for 256 KiB.
func (x *exchange) end() {
	x.stuck.Stop()
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.atEnd {
		_ = x.control.SetReadDeadline(time.Now().Add(bodyGrace)) // It fails if the connection is gone.
	}
	x.over = true
}

// hasAll is false if the client has to send more before its connection can carry another request.
func (x *exchange) hasAll() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.duplex || x.atEnd
}

// challenge has a status 401 say what the caller needs. A call of the main port has no exchange.
func (x *exchange) challenge(authenticate string) {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.authenticate = authenticate
}

// challenged is the header for such a status.
func (x *exchange) challenged(code int) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if code != http.StatusUnauthorized {
		return ""
	}
	return x.authenticate
}

// cut has everything fail that waits for the client.
func (x *exchange) cut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over {
		_ = x.control.SetWriteDeadline(time.Now()) // It fails if the connection is gone.
		_ = x.control.SetReadDeadline(time.Now())
	}
}

// want lets grpc-go read so many bytes of the request. A call of the main port, whose transport
// asks the client for them, has no exchange.
func (x *exchange) want(bytes int) {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wanted = bytes
	x.changed.Signal()
}

// failure is why the request could not be read, where that is known better than grpc-go does.
func (x *exchange) failure(err error) error {
	if x == nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := errors.AsType[*telemetry.ClientFault](x.failed); ok {
		return x.failed
	}
	return err
}

// source is the body of the request as the http.Server has it.
type source struct {
	io.ReadCloser
	exchange *exchange
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (n int, err error) {
	n, err = s.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		s.exchange.mu.Lock()
		defer s.exchange.mu.Unlock()
		s.exchange.atEnd = true
	}
	return n, err
}

// gate is the body of the request as grpc-go reads it: no more of it than the call waits for, and
// that in pieces as large as they can be. grpc-go keeps each piece in a buffer of 16 KiB, however
// small it is.
type gate struct {
	io.ReadCloser
	exchange *exchange
}

// Read implements io.Reader.
func (g *gate) Read(p []byte) (n int, err error) {
	x := g.exchange
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.wanted == 0 && !x.closed {
		x.changed.Wait()
	}
	if x.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	x.reading = true
	size := min(len(p), x.wanted)
	x.mu.Unlock()
	n, err = io.ReadFull(g.ReadCloser, p[:size])
	x.mu.Lock()
	x.reading = false
	x.wanted -= n
	x.failed = err
	return n, err
}

// Close implements io.Closer. It ends a Read that waits for the client, which net/http's own does
// not. That one reads on instead, for up to 256 KiB, which a client may send as slowly as it likes.
func (g *gate) Close() error {
	x := g.exchange
	x.mu.Lock()
	x.closed = true
	x.changed.Signal()
	deadline := time.Now()
	if !x.reading {
		deadline = deadline.Add(bodyGrace)
	}
	if !x.atEnd {
		_ = x.control.SetReadDeadline(deadline) // It fails if the connection is gone.
	}
	x.mu.Unlock()
	return g.ReadCloser.Close()
}

// timedWriter is the response. A client that takes nothing of what is written is cut off.
type timedWriter struct {
	http.ResponseWriter
	exchange *exchange
	begun    bool
}

// WriteHeader implements http.ResponseWriter. Over HTTP/1.1 a request that is answered before its
// end is the last one of its connection: http.Server would wait for the rest of it.
func (w *timedWriter) WriteHeader(status int) {
	if !w.begun && !w.exchange.hasAll() {
		w.Header().Set("Connection", "close")
	}
	if text := w.exchange.challenged(status); text != "" {
		w.Header().Set("WWW-Authenticate", text)
	}
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

// sendGrace is how much longer a write may take than the sweep of incoming lets a message take, so
// that the sweep, which has a status for it, is first.
const sendGrace = 2 * time.Second

// Write implements io.Writer.
func (w *timedWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	w.exchange.stuck.Reset(w.exchange.send + sendGrace)
	defer w.exchange.stuck.Stop()
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (w *timedWriter) Flush() {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	w.exchange.stuck.Reset(w.exchange.send + sendGrace)
	defer w.exchange.stuck.Stop()
	_ = w.exchange.control.Flush() // The request's context ends if it fails.
}

// Unwrap is for http.ResponseController.
func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// jsonCodec is for messages of callers that have no protobuf, as protobuf maps them to JSON.
// Unknown fields are dropped, as of other messages.
type jsonCodec struct{}

// Name implements encoding.CodecV2.
func (jsonCodec) Name() string { return "json" }

// Marshal implements encoding.CodecV2.
func (jsonCodec) Marshal(v any) (mem.BufferSlice, error) {
	message, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("a %T has no JSON", v)
	}
	data, err := protojson.Marshal(message)
	return mem.BufferSlice{mem.SliceBuffer(data)}, err
}

// Unmarshal implements encoding.CodecV2.
func (jsonCodec) Unmarshal(data mem.BufferSlice, v any) error {
	message, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("a %T has no JSON", v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(buffer.ReadOnlyData(), message)
}

// codecOf is the codec for the messages of a call.
func (in *incoming) codecOf(x *exchange) encoding.CodecV2 {
	if x != nil && x.json {
		return jsonCodec{}
	}
	return in.codec
}

// encode gives a message as a call sends it.
func (in *incoming) encode(ctx context.Context, msg any) (*encoded, error) {
	codec := in.codecOf(exchangeOf(ctx))
	data, err := codec.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("a message cannot be encoded: %w", err)
	}
	size := data.Len()
	if codec == (jsonCodec{}) {
		size = sizeOf(msg)
	}
	return &encoded{data: data, size: size}, nil
}

func sizeOf(msg any) int {
	switch m := msg.(type) {
	case interface{ Size() int }:
		return m.Size()
	case proto.Message:
		return proto.Size(m)
	default:
		return 0
	}
}

// withEncoded is a codec that leaves messages as they are which have been encoded.
type withEncoded struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c withEncoded) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(*encoded); ok {
		return e.data, nil
	}
	return c.CodecV2.Marshal(v)
}

// writeStatus ends a call by the server, in a goroutine of its own: a call by HTTP has it written
// by the goroutine that writes its messages, which may wait for a client that takes none. So that
// one is cut off after a moment.
func (x *exchange) writeStatus(stream transportStream, st *status.Status) {
	go func() {
		late := time.AfterFunc(bodyGrace, x.cut)
		defer late.Stop()
		_ = stream.WriteStatus(st) // It fails if the client is gone.
	}()
}
