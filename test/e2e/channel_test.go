package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/quartet"
)

var _ = register(service{
	name: "channel",
	embedded: func(e *embedded) []promise {
		return []promise{{"the command line works through kubectl port-forward",
			func(t *testing.T) { keepConversation(t, e) }}}
	},
	clusteredValues: strings.Join([]string{
		"client.config.CHANNEL_TRAFFIC_MESSAGES=2",
		"services.channel.prefixes[0].prefix=apart/", "services.channel.prefixes[0].retention=24h",
		"services.channel.prefixes[0].maxBytes=1MiB",
	}, ","),
	clustered: func(s *clustered) []promise {
		c := channelClustered{s}
		return []promise{
			{"any replica joins any channel", c.anyReplica},
			{"a flood below a prefix erases no history of others", c.flood},
			{"no message is lost or doubled when NATS is killed", c.brokerKilled},
			{"participants are told that the volume of NATS was replaced", c.historyReplaced},
		}
	},
	observed: func(s *observed) []promise {
		o := channelObserved{s}
		return []promise{
			{"a message is a short trace of its own, linked to the streams that carried it", o.messageTrace},
			{"a conversation that ends is counted", o.ended},
		}
	},
	secured: func(s *secured) []promise {
		c := channelSecured{s}
		return []promise{
			{"a conversation ends within 5 s when its permission is withdrawn", c.withdrawnPermission},
			{"a caller is in its channels under its name only, and its conversation ends within 5 s when they are withdrawn", c.withdrawnName},
			{"a conversation ends within 5 s when its authority is withdrawn", c.withdrawnAuthority},
		}
	},
})

// keepConversation has one participant listen while another one speaks. Every later look has to
// find what was said.
func keepConversation(t *testing.T, e *embedded) {
	client := e.cli(t)
	listener := start(t, nil, client.program,
		client.args("chat", "lobby", "--as", "ann", "--after", "0", "--listen")...)
	client.run(t, "hello\nare you there?\n", "chat", "lobby", "--as", "bob")
	eventually(t, "what bob said, at ann's", 20*time.Second, func(context.Context) error {
		if heard := listener.stdout.String(); !strings.Contains(heard, "bob: hello\n") ||
			!strings.Contains(heard, "bob: are you there?\n") {
			return fmt.Errorf("heard %q %s", heard, &listener.stderr)
		}
		return nil
	})
	e.kept = append(e.kept, func(t *testing.T, client cli) {
		t.Helper()
		if heard := client.run(t, "", "chat", "lobby", "--as", "cid", "--after",
			"0"); !strings.Contains(heard, "bob: hello\n") {
			t.Errorf("of what was said there is only %q", heard)
		}
	})
}

// channelClustered is the state with three replicas, for channels.
type channelClustered struct{ *clustered }

// anyReplica has one listener at each replica, and something said through each. All have to hear
// all, in one order.
func (s channelClustered) anyReplica(t *testing.T) {
	clients := s.perReplica(t)
	var listeners []*process
	for _, client := range clients {
		listeners = append(listeners,
			start(t, nil, client.program,
				client.args("chat", "shared", "--as", "listener", "--after", "0", "--listen", "--json")...))
	}
	for i, client := range clients {
		client.run(t, fmt.Sprintf("by way of %d\n", i), "chat", "shared", "--as",
			fmt.Sprint("speaker", i))
	}
	for i, listener := range listeners {
		eventually(t, fmt.Sprint("all that was said, at replica ", i), 20*time.Second,
			func(context.Context) error {
				heard := listener.stdout.String()
				if strings.Count(heard, "\n") != len(clients) {
					return fmt.Errorf("heard %q %s", heard, &listener.stderr)
				}
				return nil
			})
		if first := listeners[0].stdout.String(); listener.stdout.String() != first {
			t.Errorf("replica %d tells\n%sand replica 0\n%s", i, &listener.stdout, first)
		}
	}
}

// flood says more below a prefix than is kept there. What was said elsewhere before has to be there.
func (s channelClustered) flood(t *testing.T) {
	client := s.perReplica(t)[0]
	client.run(t, "before the flood\n", "chat", "dry", "--as", "ann")
	line := strings.Repeat("x", 30<<10) + "\n"
	client.run(t, "the first\n"+strings.Repeat(line, 60), "chat", "apart/flood", "--as", "bob")
	read := func(channel string) string {
		return client.run(t, "", "chat", channel, "--as", "cid", "--after", "0")
	}
	if heard := read("dry"); !strings.Contains(heard, "before the flood") {
		t.Errorf("heard %q", heard)
	}
	if heard := read("apart/flood"); strings.Contains(heard, "the first") {
		t.Error("all of the flood is kept, so that it shows nothing")
	}
}

// channelObserved is the state under Prometheus and Jaeger, for channels.
type channelObserved struct{ *observed }

// messageTrace wants what it takes to follow one message: that it was sent, kept and received, in
// one small trace, and from there a link to the stream on which the server got it.
func (o channelObserved) messageTrace(t *testing.T) {
	eventually(t, "the trace of a message", traceTime, func(ctx context.Context) error {
		spans, err := o.jaeger.named(ctx, quartet.Identity.Component("server"), "keep")
		if err != nil {
			return err
		}
		for _, keep := range spans {
			if keep.OperationName != "keep" || !heard(spans, keep) || calledAcrossPods(spans) != nil {
				continue
			}
			for _, link := range keep.links() {
				stream, err := o.jaeger.trace(ctx, link.TraceID)
				if err != nil {
					return err
				}
				if slices.ContainsFunc(stream,
					func(s span) bool { return s.SpanID == link.SpanID && s.OperationName == "join" }) {
					return nil
				}
			}
		}
		return fmt.Errorf("%d spans, none of them a message that was said, kept, heard and linked to a stream", len(spans))
	})
}

// heard tells whether a message that was said was kept and heard, in this order.
func heard(spans []span, keep span) bool {
	said := slices.ContainsFunc(spans,
		func(s span) bool { return s.SpanID == keep.parent() && s.OperationName == "send" })
	return said &&
		slices.ContainsFunc(spans,
			func(s span) bool { return s.parent() == keep.SpanID && s.OperationName == "receive" })
}

// ended has conversations end until Prometheus has seen one.
func (o channelObserved) ended(t *testing.T) {
	const ended = `sum(rate(grpc_server_handled_total{grpc_method="Exchange",namespace="e2e-telemetry"}[5m]))`
	client := o.somePods(t, "client", 1)[0].Name
	eventually(t, "the end of a conversation", time.Minute, func(ctx context.Context) error {
		run(t, "kubectl", o.inClient(client, "chat", "lobby", "--as", "ann", "--after", "0")...)
		rate, err := o.prometheus.value(ctx, ended)
		if err == nil && rate == 0 {
			err = errors.New("none is counted")
		}
		return err
	})
}
