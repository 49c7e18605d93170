// Package web answers the calls of browsers: the services of a server by the protocols Connect and
// gRPC-Web, with messages in protobuf or JSON, over HTTP/1.1 and HTTP/2. To all else a call is one
// like any other: it has the same limits, metrics, traces and errors.
package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"mime"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/vanguard"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/origin"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// Server is the web port of a server.
type Server struct {
	http  *http.Server
	calls *rpc.Server
	// failed is told of handshakes of TLS that have failed.
	failed    func(remote net.Addr, err error)
	silent    sync.Map       // connections that have brought no request
	answering rpc.Answering  // those with a request under way
	running   sync.WaitGroup // requests
	stopping  context.Context
	stop      context.CancelFunc
	age       time.Duration // at which connections end
}

// connectionBegan is the key for when the connection of a request was accepted.
type connectionBegan struct{}

const (
	// headerBytes bounds the headers of a request, as of a call of the main port.
	headerBytes = 16 << 10
	// idle is how long a connection may be without a request.
	idle = time.Minute
	// maxWindow is the receive window of an HTTP/2 connection: the calls of one share it.
	maxWindow = 16 << 20
	// preflightAge is how long a browser may remember that an origin may call; none remembers it for
	// longer.
	preflightAge = "7200"
)

// New makes the web port for the services of a server, with the limits that it has.
func New(
	cfg Config, limits rpc.ServerConfig, calls *rpc.Server, t *telemetry.Telemetry,
) (*Server, error) {
	handler, err := calls.HTTPHandler(func(handler, unknown http.Handler) (http.Handler, error) {
		transcoder, err := transcoder(calls, handler, unknown)
		turns := newTurns(cfg, limits, calls)
		return cfg.AllowedOrigins.guard(normalized(turns.guard(transcoder), turns.refuse,
			int64(limits.StreamWindowBytes))), err
	})
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s := &Server{calls: calls, failed: t.FailedHandshake, age: limits.MaxConnectionAge}
	s.stopping, s.stop = context.WithCancel(context.Background())
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler: s.renewConnections(handler),
		// net/http would answer OPTIONS * itself, without any of the limits.
		DisableGeneralOptionsHandler: true,
		Protocols:                    &protocols,
		TLSConfig:                    calls.HTTPTLS(),
		// Requests and answers take as long as their call does, whose messages have limits of their own.
		ReadHeaderTimeout: limits.ConnectionTimeout,
		IdleTimeout:       idle,
		MaxHeaderBytes:    headerBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          int(min(limits.MaxConcurrentStreams, math.MaxInt32)),
			MaxReceiveBufferPerStream:     int(limits.StreamWindowBytes),
			MaxReceiveBufferPerConnection: int(max(maxWindow, limits.StreamWindowBytes)),
			SendPingTimeout:               limits.KeepaliveTime,
			PingTimeout:                   limits.KeepaliveTimeout,
			WriteByteTimeout:              limits.SendTimeout,
		},
		ErrorLog:  errorLog(t.Log),
		ConnState: s.watch,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			t.AcceptedConnection(conn)
			return context.WithValue(ctx, connectionBegan{}, time.Now())
		},
	}
	return s, nil
}

// transcoder has messages pass as they are. The codecs of the server know both of their formats,
// and its limits apply to them as they have come.
func transcoder(calls *rpc.Server, handler, unknown http.Handler) (http.Handler, error) {
	var services []*vanguard.Service
	methods := map[string]bool{} // by path
	for name, info := range calls.Services() {
		services = append(services, vanguard.NewService(name, handler,
			vanguard.WithTargetProtocols(vanguard.ProtocolGRPC),
			vanguard.WithTargetCodecs(vanguard.CodecProto, vanguard.CodecJSON)))
		for _, method := range info.Methods {
			methods["/"+name+"/"+method.Name] = true
		}
	}
	transcoder, err := vanguard.NewTranscoder(services, vanguard.WithUnknownHandler(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// To the transcoder a method is unknown as well if the request is of none of its protocols.
			if methods[r.URL.Path] {
				calls.RefuseMethod(w, r, http.StatusUnsupportedMediaType,
					clientFault(codes.Unimplemented, "expected a Content-Type of %s, got %q", contentTypes,
						r.Header.Get("Content-Type")))
				return
			}
			unknown.ServeHTTP(w, r)
		})))
	return refusals(calls, transcoder), err
}

// contentTypes are those that calls have.
const contentTypes = "Connect (application/json, application/proto, application/connect+json, " +
	"application/connect+proto), gRPC-Web (application/grpc-web, application/grpc-web+proto, " +
	"application/grpc-web+json) or gRPC (application/grpc, application/grpc+proto, " +
	"application/grpc+json)"

// normalized takes requests as curl and fetch send them for those of the Connect protocol that they
// are.
func normalized(
	next http.Handler, refuse func(http.ResponseWriter, *http.Request, error), window int64,
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", "POST, OPTIONS")
			http.Error(w, "calls are POST requests for /package.Service/Method", http.StatusMethodNotAllowed)
			return
		}
		contentType := r.Header.Get("Content-Type")
		if kind, _, err := mime.ParseMediaType(contentType); err == nil && kind == "application/json" {
			contentType = kind // without the character set: JSON has only one
			r.Header.Set("Content-Type", kind)
		}
		if contentType == "application/json" || contentType == "application/proto" {
			r.Header.Set("Connect-Protocol-Version", "1")
		}
		if err := checkTimeout(r.Header); err != nil {
			refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, checked(r, window))
	})
}

var (
	// connectTimeout is lenient: by its specification the number has at most ten digits.
	connectTimeout = regexp.MustCompile(`^[0-9]{1,18}$`)
	grpcTimeout    = regexp.MustCompile(`^[0-9]{1,8}[HMSmun]$`)
)

// checkTimeout returns an error with a status if the deadline of a request is none by its protocol.
func checkTimeout(header http.Header) error {
	name, valid, expected := "Connect-Timeout-Ms", connectTimeout, "milliseconds in digits"
	if strings.HasPrefix(header.Get("Content-Type"), "application/grpc") {
		name, valid = "Grpc-Timeout", grpcTimeout
		expected = "up to eight digits and one of H, M, S, m, u and n"
	}
	text := header.Get(name)
	if text != "" && !valid.MatchString(text) {
		return status.Errorf(codes.InvalidArgument, "%s is %q, expected %s", name,
			telemetry.Text(text), expected)
	}
	if hours, found := strings.CutSuffix(text, "H"); found {
		// The transcoder refuses a timeout of more than eight hours, but not if it is in minutes.
		number, _ := strconv.Atoi(hours) // It has up to eight digits.
		header.Set(name, strconv.Itoa(min(number, maxHours)*60)+"M")
	}
	return nil
}

// maxHours is the longest timeout that has eight digits in minutes: 190 years.
const maxHours = 99_999_999 / 60

// guard lets pages of other origins call only if they are in the list, and of the server's own
// origin only if no page elsewhere can have that. Requests without an Origin are those of programs.
func (o Origins) guard(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	for _, origin := range o {
		if origin == anyOrigin {
			protection.AddInsecureBypassPattern("/")
			continue
		}
		// It fails for what is no origin, which the configuration refuses.
		_ = protection.AddTrustedOrigin(origin)
	}
	denied := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "pages of this origin may not call", http.StatusForbidden)
	})
	protection.SetDenyHandler(denied)
	protected := protection.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := r.Header.Get("Origin")
		allowed := from != "" && o.allow(from)
		// With TLS no page elsewhere has the name of the server: its certificate would be for another
		// one.
		named := r.TLS != nil || o.allow(anyOrigin) || origin.KnowsHost(r.Host, o)
		program := from == "" && r.Header.Get("Sec-Fetch-Site") == ""
		headers := w.Header()
		headers.Set("X-Content-Type-Options", "nosniff")
		headers.Add("Vary", "Origin")
		if allowed {
			headers.Set("Access-Control-Allow-Origin", from)
			headers.Set("Access-Control-Expose-Headers", "*")
		}
		switch {
		case r.Method != http.MethodOptions && (program || allowed || named):
			protected.ServeHTTP(w, r)
		case !allowed:
			denied.ServeHTTP(w, r)
		default:
			// Metadata is headers, of which a service may have any.
			headers.Add("Vary", "Access-Control-Request-Headers")
			headers.Set("Access-Control-Allow-Methods", http.MethodPost)
			headers.Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
			headers.Set("Access-Control-Max-Age", preflightAge)
			w.WriteHeader(http.StatusNoContent)
		}
	})
}

// renewConnections has a connection that is old end with the request, so that callers find new
// replicas, and counts requests.
func (s *Server) renewConnections(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.running.Add(1)
		defer s.running.Done()
		if began, ok := r.Context().Value(connectionBegan{}).(time.Time); ok &&
			time.Since(began) > s.age {
			w.Header().Set("Connection", "close") // By HTTP/2 it is a GOAWAY.
		}
		next.ServeHTTP(w, r)
	})
}

// errorLog takes what the http.Server has to say but for handshakes that have failed, of which
// watch tells.
func errorLog(to *slog.Logger) *log.Logger {
	lines := telemetry.StandardLog(to, "web", slog.LevelWarn)
	lines.SetOutput(otherThanHandshakes{lines.Writer()})
	return lines
}

type otherThanHandshakes struct{ io.Writer }

// Write implements io.Writer. Each call of it has one line.
func (w otherThanHandshakes) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, []byte("http: TLS handshake error ")) {
		return len(line), nil
	}
	return w.Writer.Write(line)
}

// watch knows the connections that have brought no request: to Shutdown they may be about to. It
// tells of those that were closed because their handshake has failed.
func (s *Server) watch(conn net.Conn, state http.ConnState) {
	if secured, ok := conn.(*tls.Conn); ok && state == http.StateClosed &&
		!secured.ConnectionState().HandshakeComplete {
		// A handshake is not tried again: this is the error that it has failed with.
		if err := secured.HandshakeContext(context.Background()); err != nil {
			s.failed(conn.RemoteAddr(), err)
		}
	}
	s.answering.Watch(conn, state)
	s.silent.Delete(conn)
	if state == http.StateNew {
		s.silent.Store(conn, nil)
	}
	if s.stopping.Err() != nil {
		s.closeSilent()
	}
}

func (s *Server) closeSilent() {
	for conn := range s.silent.Range {
		_ = conn.(net.Conn).Close() // It has carried nothing.
	}
}

// Serve accepts connections on lis until the server is shut down, and then returns nil.
func (s *Server) Serve(lis net.Listener) error {
	lis = s.calls.Bound(lis)
	serve := s.http.Serve
	if s.http.TLSConfig != nil {
		serve = func(lis net.Listener) error { return s.http.ServeTLS(lis, "", "") }
	}
	if err := serve(lis); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handlerGrace is how long handlers have to return after their connections were closed.
const handlerGrace = time.Second

// Shutdown lets calls under way end until shortly before the deadline of ctx and then cuts them
// off, which it reports as an error. It is for the drain, beside GracefulStop of the rpc.Server,
// which has calls end that have not begun.
func (s *Server) Shutdown(ctx context.Context) error {
	limited := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		grace := min(handlerGrace, time.Until(deadline)/4)
		limited, cancel = context.WithDeadline(ctx, deadline.Add(-grace))
		defer cancel()
	}
	s.stop()
	s.closeSilent()
	cut := s.http.Shutdown(limited)
	if cut != nil {
		s.answering.ResetOnClose()
		_ = s.http.Close() // What did not end by itself has no more time.
		cut = fmt.Errorf("calls were cut off: %w", cut)
	}
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		s.calls.AwaitHTTP()
		close(ended)
	}()
	select {
	case <-ended:
		return cut
	case <-ctx.Done():
		return errors.New("handlers ignore that they were cut off")
	}
}
