package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// maxBytes is what a log may grow by in a minute, whatever callers do.
const maxBytes = 1_000_000

// logging is telemetry whose log is written to out, at every level.
func logging(out *bytes.Buffer) *Telemetry {
	return New(
		Identity{Namespace: "test", Service: "test"},
		Config{LogFormat: "json", LogLevel: slog.LevelDebug},
		out,
	)
}

// ends is a side's way to end a call of a method, with nothing before it.
func ends(s *side, m *method) func(called string, err error) {
	ctx := peer.NewContext(
		context.Background(),
		&peer.Peer{Addr: &net.TCPAddr{IP: net.IPv6loopback, Port: 50051}},
	)
	return func(called string, err error) {
		c := s.arrive(ctx, m, called)
		c.begin()
		c.end(err)
		c.release()
	}
}

func TestAFloodOfCallsOfOneKindIsAFewLinesAndTheirNumber(t *testing.T) {
	for _, isServer := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			telemetry := logging(&out)
			families := telemetry.server
			if !isServer {
				families = telemetry.client
			}
			end := ends(
				newSide(telemetry, isServer, methods{}),
				families.method(unary, "test.Service", "Call", trace.SpanKindServer),
			)
			shed := status.Error(codes.ResourceExhausted, "too many calls at once")
			for range 60 * 100 {
				end("/test.Service/Call", shed)
				time.Sleep(10 * time.Millisecond)
			}
			end("/test.Service/Call", status.Error(codes.Internal, "another kind"))
			written := lines(t, &out)
			if want := lineBurst + 5 + 1; len(written) < want || len(written) > want+1 {
				t.Fatalf("%d lines", len(written))
			}
			if got, want := written[len(written)-2]["suppressed"],
				float64(lineInterval/(10*time.Millisecond)-1); got != want {
				t.Errorf("%v were left out before a line, want %v", got, want)
			}
			if last := written[len(written)-1]; last["code"] != "Internal" || last["suppressed"] != nil {
				t.Errorf("another kind of call is %v", last)
			}
		})
	}
}

// TestTheLogStaysBelowAMegabyteAMinute floods every code of 20 methods, with texts of any length
// that a handler escapes, and all other kinds of lines.
func TestTheLogStaysBelowAMegabyteAMinute(t *testing.T) {
	for name, text := range map[string]string{"short": "no such object", "long": strings.Repeat("\"\x01\xff", 3500)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				telemetry := logging(&out)
				server := newSide(telemetry, true, methods{})
				var floods []func(string, error)
				for i := range 20 {
					floods = append(
						floods,
						ends(
							server,
							telemetry.server.method(unary, "test.Service", fmt.Sprint("Call", i), trace.SpanKindServer),
						),
					)
				}
				for minute := range 3 {
					before := out.Len()
					for range 60 * 4 {
						for _, end := range floods {
							for code := range codes.Unauthenticated + 1 {
								end("/test.Service/Call", status.Error(code, text))
							}
						}
						telemetry.Log.Error("a kind", "text", text)
						telemetry.Log.Error(text)
						time.Sleep(time.Second / 4)
					}
					if size := out.Len() - before; size > maxBytes {
						t.Errorf("minute %d: %d bytes", minute, size)
					} else {
						t.Logf("minute %d: %d bytes", minute, size)
					}
				}
				out.Reset()
				time.Sleep(time.Minute)
				telemetry.Log.Info("after the flood")
				if line := lines(t, &out)[0]; line["over_budget"] == nil {
					t.Errorf("the line after it does not say how many were left out: %v", line)
				}
			})
		})
	}
}

func TestAFloodOfOneLineHidesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := logging(&out).Log.With("part", "test")
		for range 1000 {
			log.Warn("a flood")
			log.Debug("a flood")
		}
		log.Warn("another")
		time.Sleep(lineInterval)
		log.Warn("a flood")
		written := lines(t, &out)
		if len(written) != 2*lineBurst+2 {
			t.Fatalf("%d lines", len(written))
		}
		if last := written[len(written)-1]; last["suppressed"] != 1000.0-lineBurst ||
			last["part"] != "test" {
			t.Errorf("the last line is %v", last)
		}
	})
}

func TestLinesOfAnyTextTakeBoundedMemory(t *testing.T) {
	kinds := newLineKinds()
	for i := range 10 * maxKinds {
		kinds.limit(slog.Record{Message: fmt.Sprintf("%1000d", i)})
		kinds.limit(slog.Record{Message: fmt.Sprint(i)})
	}
	if len(kinds.known) != maxKinds {
		t.Errorf("%d kinds", len(kinds.known))
	}
	for kind := range kinds.known {
		if len(kind.text) > maxKindText {
			t.Errorf("a text has %d bytes", len(kind.text))
		}
	}
}

// fill uses up what the budget of a log has for lines of a level.
func fill(log passedLog, level slog.Level) {
	unlimited := newLineLimit(logBurst, time.Nanosecond)
	for {
		if _, ok := log.pass(unlimited, level); !ok {
			return
		}
		log.Log(context.Background(), level, "a filler", "text", strings.Repeat("x", 100))
	}
}

// TestLinesThatFindNoRoomAreCountedInTheNextOfTheirKind has each kind of line that has a limit.
func TestLinesThatFindNoRoomAreCountedInTheNextOfTheirKind(t *testing.T) {
	for name, newLine := range map[string]func(*Telemetry) (write func()){
		"any line": func(telemetry *Telemetry) func() {
			return func() { telemetry.Log.Error("flood") }
		},
		"call": func(telemetry *Telemetry) func() {
			end := ends(
				newSide(telemetry, true, methods{}),
				telemetry.server.method(unary, "test.Service", "Call", trace.SpanKindServer),
			)
			return func() { end("/test.Service/Call", status.Error(codes.Internal, "flood")) }
		},
		"handshake": func(telemetry *Telemetry) func() {
			return func() { telemetry.RefusedConnection(&net.TCPAddr{IP: net.IPv6loopback}) }
		},
		"export": func(telemetry *Telemetry) func() {
			handler := telemetry.ErrorHandler()
			return func() { handler.Handle(errors.New("flood")) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				telemetry := logging(&out)
				write := newLine(telemetry)
				const flood = 100
				for range flood {
					write()
				}
				before := len(lines(t, &out))
				time.Sleep(rareInterval) // The kind may have its next line, and finds no room.
				fill(withinBudget(telemetry.Log), slog.LevelError)
				full := out.Len()
				write()
				if out.Len() != full {
					t.Fatal("there was room for the line")
				}
				time.Sleep(rareInterval)
				out.Reset()
				write()
				written := lines(t, &out)
				if len(written) != 1 {
					t.Fatalf("%d lines", len(written))
				}
				if got, want := written[0]["suppressed"], float64(flood+1-before); got != want {
					t.Errorf("%v were left out before the line, want %v", got, want)
				}
				// The other is the one that ended fill.
				if got := written[0]["over_budget"]; got != 2.0 {
					t.Errorf("%v lines of all kinds found no room, want 2", got)
				}
			})
		})
	}
}

// TestLinesThatAreNotLoggedAreNotCounted has those of a level that is not logged.
func TestLinesThatAreNotLoggedAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		telemetry := New(
			Identity{Namespace: "test", Service: "test"}, Config{LogFormat: "json"}, &out)
		fill(withinBudget(telemetry.Log), slog.LevelWarn)
		for range 10 {
			telemetry.server.handshakes.fail(
				telemetry.Log, &net.TCPAddr{IP: net.IPv6loopback}, handshakeClosed, io.EOF)
		}
		out.Reset()
		time.Sleep(rareInterval)
		telemetry.Log.Error("after it")
		if line := lines(t, &out)[0]; line["over_budget"] != 1.0 {
			t.Errorf("only the last filler found no room: %v", line)
		}
	})
}

func TestWarningsFindRoomAfterAFloodOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := withinBudget(logging(&out).Log)
		fill(log, slog.LevelInfo)
		log.Warn("a warning")
		if !strings.Contains(out.String(), "a warning") {
			t.Errorf("%d bytes without the warning", out.Len())
		}
	})
}

func TestTheNameOfAnUnknownMethodIsShortWhereverItIsShown(t *testing.T) {
	for _, name := range []string{"/" + strings.Repeat("\xff", 3500), "/x/" + strings.Repeat("long", 900), "/x/" + strings.Repeat("\u202e\x1b", 20)} {
		var out bytes.Buffer
		telemetry, spans := recorded()
		telemetry.Log = logging(&out).Log
		ends(
			newSide(telemetry, true, methods{}),
			telemetry.server.method(bidiStream, other, other, trace.SpanKindServer),
		)(
			name,
			status.Error(codes.Unimplemented, "unknown method "+MethodName(name)),
		)
		line := lines(t, &out)[0]
		if method := line["method"].(string); len(method) > maxMethod ||
			strings.ContainsAny(method, "\u202e\x1b") ||
			out.Len() > 600 {
			t.Errorf("a line of %d bytes has the method %q", out.Len(), method)
		}
		for _, attribute := range spans.Ended()[0].Attributes() {
			if value := attribute.Value.AsString(); len(value) > maxMethod {
				t.Errorf("a span has %s of %d bytes", attribute.Key, len(value))
			}
		}
	}
}

func TestALineHasAtMostTwiceTheBytesOfItsTexts(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		for _, text := range []string{"\x01", "\xff", "\"", "\\", "\u200b", "\u202e", "\U000e0001", "é", "\x7f"} {
			var out bytes.Buffer
			newLogger(
				Config{LogFormat: format},
				&out,
			).Info(
				"m",
				"error",
				errors.New(strings.Repeat(text, 4*maxText)),
			)
			if out.Len() > 2*maxText+200 {
				t.Errorf("%s: %q: %d bytes", format, text, out.Len())
			}
		}
	}
}

func TestAddressesInLinesHaveNoPasswords(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		long := strings.Repeat("x", 2*maxText)
		newLogger(
			Config{LogFormat: format},
			&out,
		).With(
			"with",
			"http://me:hunter2@proxy:1",
		).Error(
			"to https://me:hunter2@host/path",
			"error",
			errors.New(`invalid proxy address "http://me:hun ter2/hunter2@proxy": parse`),
			"several",
			"queue://me:hunter2@a:1,queue://me:hunter2@b:1",
			"long",
			"http://me:hunter2"+long+"@host",
		)
		for _, secret := range []string{"hunter2", "ter2", "me:"} {
			if strings.Contains(out.String(), secret) {
				t.Errorf("%s: %s", format, &out)
			}
		}
		for _, kept := range []string{"to https://***@host/path", "***@proxy", "***@b:1"} {
			if !strings.Contains(out.String(), kept) {
				t.Errorf("%s: no %q in %s", format, kept, &out)
			}
		}
	}
}
