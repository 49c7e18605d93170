package cli

import (
	"errors"
	"slices"
	"strings"

	codepb "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// The exit codes, which the help of the root command explains.
const (
	exitDone   = 0
	exitFailed = 1
	// The server's refusal of a name counts as usage, too, see exitCode.
	exitUsage    = 2
	exitNotFound = 3
	// Later the same command may succeed, see IsUnavailable.
	exitUnavailable = 4
	exitDamaged     = 5
	// 128 and the number of SIGINT, as shells have it.
	exitInterrupted = 130
)

var (
	// errInterrupted and errTimeout are ours, and not those of a context, because the deadline of a
	// call is a context's error as well.
	errInterrupted = errors.New("interrupted")
	errTimeout     = errors.New("not done within")
	// errWrongAnswers says that content was lost, doubled, reordered or damaged.
	errWrongAnswers = errors.New("answers were wrong")
)

// usageError is a mistake in how the program was called.
type usageError struct{ error }

// Unwrap lets errors.Is and errors.As see the error below.
func (e usageError) Unwrap() error { return e.error }

// UsageError makes an error a mistake in the arguments of a command, with exit code 2.
func UsageError(err error) error { return usageError{err} }

// exitCode is the exit code for an error, by which scripts tell errors apart.
func (p Program) exitCode(err error) int {
	// The order counts where an error is of several kinds: wrapped in a usageError, a status is no
	// longer looked at, and damage comes before unavailability.
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case status.Code(err) == codes.InvalidArgument && strings.HasPrefix(rpc.Reason(err), "INVALID_"):
		return exitUsage // The server does not take a name, an id or a type.
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case p.isDamage(err):
		return exitDamaged
	case status.Code(err) == codes.NotFound:
		return exitNotFound
	case IsUnavailable(err):
		return exitUnavailable
	default:
		return exitFailed
	}
}

// isDamage asks the services, and knows DATA_LOSS by itself.
func (p Program) isDamage(err error) bool {
	return errors.Is(err, errWrongAnswers) || status.Code(err) == codes.DataLoss ||
		slices.ContainsFunc(p.Services, func(s Service) bool {
			return s.IsDamage != nil && s.IsDamage(err)
		})
}

// IsUnavailable reports whether the same command may succeed later.
func IsUnavailable(err error) bool {
	if errors.Is(err, errTimeout) || errors.Is(err, rpc.ErrGaveUp) {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	case codes.ResourceExhausted:
		// A server that is full says when to come back; what is too large stays so.
		return slices.ContainsFunc(status.Convert(err).Details(), func(detail any) bool {
			_, ok := detail.(*errdetails.RetryInfo)
			return ok
		})
	default:
		return false
	}
}

// message is the text of an error for people: the server's message and reason without what gRPC
// adds, in printable characters, on one line unless it is a list of our own.
func message(err error) string {
	var usage usageError
	// The texts are those of this program and of its configuration, one problem a line.
	if errors.As(err, &usage) {
		return strings.Join(
			strings.FieldsFunc(telemetry.Redacted(err.Error()), func(r rune) bool { return r == '\n' }),
			"\n  ",
		)
	}
	text := err.Error()
	var answer interface {
		error
		GRPCStatus() *status.Status
	}
	// The answer may be wrapped in text that says what was done: only its own part is replaced.
	if errors.As(err, &answer) {
		text = strings.Replace(text, answer.Error(), answerText(answer.GRPCStatus()), 1)
	}
	// A server or a proxy chose parts of the text.
	return Printable(strings.ReplaceAll(telemetry.Redacted(text), "\n", "; "))
}

// hints are what people can do about an error.
var hints = map[string]string{"TOKEN_MISSING": "; --token-file names one"}

// answerText is the message of a status with its reason, or with its code if it has none.
func answerText(s *status.Status) string {
	reason := rpc.Reason(s.Err())
	if reason == "" {
		reason = codepb.Code(s.Code()).String()
	}
	return s.Message() + " (" + reason + ")" + hints[reason]
}
