package e2e

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// channelSecured is the state with certificates and permissions, for channels.
type channelSecured struct{ *secured }

const visitor = "spiffe://test/visitor"

// listens is the command line in a conversation, of which it has heard something.
func (s channelSecured) listens(t *testing.T, channel string, environ []string) *process {
	t.Helper()
	withEnviron := func(cmd *exec.Cmd) { cmd.Env = append(cmd.Environ(), environ...) }
	args := []string{"--server", s.address, "chat", channel, "--as", "ann", "--after", "0"}
	eventually(t, "permission to speak", permissionTime, func(ctx context.Context) error {
		_, err := tryWith(ctx, environ, "hello\n", s.program, args...)
		return err
	})
	listener := start(t, withEnviron, s.program, append(args, "--listen")...)
	eventually(t, "what was said", 20*time.Second, func(context.Context) error {
		if !strings.Contains(listener.stdout.String(), "hello") {
			return errors.New(listener.stdout.String() + listener.stderr.String())
		}
		return nil
	})
	return listener
}

// withdrawnPermission has a conversation of a caller whose permission is taken out of the server's
// ConfigMap, which it has to notice in an open stream.
func (s channelSecured) withdrawnPermission(t *testing.T) {
	s.permit(t, permission{Callers: []string{"uri:" + visitor}, Methods: []string{"*"}})
	p := s.listens(t, "permission", s.environ(t, s.visitors, person(t, visitor)))
	s.permit(t)
	s.wantTold(t, p, "NOT_PERMITTED")
}

// withdrawnName has a caller that may be in some channels under one name try others, and then has
// these channels taken from it while it is in one.
func (s channelSecured) withdrawnName(t *testing.T) {
	within := func(channel string) permission {
		return permission{
			Callers: []string{"uri:" + visitor}, Methods: []string{"quartet.v1.ChannelService/*"},
			Names: map[string][]string{"channel": {channel}, "participant": {"ann"}},
		}
	}
	s.permit(t, within("visitors/*"))
	environ := s.environ(t, s.visitors, person(t, visitor))
	p := s.listens(t, "visitors/names", environ)
	for _, args := range [][]string{{"permission", "--as", "ann"}, {"visitors", "--as", "ann"}, {"visitors/names", "--as", "bob"}} {
		args = append([]string{"--server", s.address, "--timeout", "20s", "chat"}, args...)
		out, err := tryWith(t.Context(), environ, "hello\n", s.program, args...)
		if told := out.stdout + out.stderr; err == nil || !strings.Contains(told, "NOT_PERMITTED") {
			t.Errorf("%v: %v, %s", args, err, told)
		}
	}
	s.permit(t, within("others/*"))
	s.wantTold(t, p, "NOT_PERMITTED")
}

func (s channelSecured) withdrawnAuthority(t *testing.T) {
	p := s.listens(t, "authority", s.environ(t, s.visitors, person(t, listed)))
	s.visitors = nil
	s.deliver(t)
	s.wantTold(t, p, "the authority of the client's certificate is no longer trusted")
}

// wantTold wants a client to say why its conversation has ended.
func (s channelSecured) wantTold(t *testing.T, p *process, why string) {
	t.Helper()
	took := eventually(t, "the end of the conversation", withdrawalTime, func(context.Context) error {
		if told := p.stderr.String(); !strings.Contains(told, why) {
			return errors.New("the client says " + told)
		}
		return nil
	})
	t.Logf("it ended %.1f s after the pod had the files", took.Seconds())
}
