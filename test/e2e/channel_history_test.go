package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.com/quartet/client/channel"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

const (
	// outageTime is how long a conversation may stand still because the broker was killed, and a
	// new broker may take until it has a new stream.
	outageTime = time.Minute
	// speakPause keeps participants from filling the machine with messages.
	speakPause = 20 * time.Millisecond
)

// perReplicaChannels is a client of channels for each replica.
func (s channelClustered) perReplicaChannels(t *testing.T) (clients []*channel.Client) {
	t.Helper()
	for _, client := range s.perReplica(t) {
		conn := clienttest.Dial(t, telemetry.Discard(), client.server,
			quartetv1.File_quartet_v1_channel_proto.Services().ByName("ChannelService"))
		clients = append(clients, channel.NewClient(conn, channel.Options{
			Resumption: rpc.Resumption{MaxTries: math.MaxInt},
		}))
	}
	return clients
}

// broker is the name of the pod of NATS.
func (s channelClustered) broker(t *testing.T) string {
	t.Helper()
	pods, err := s.labelled(t.Context(), "app.kubernetes.io/name=nats")
	if err != nil || len(pods) != 1 {
		t.Fatalf("NATS has %d pods (%v)", len(pods), err)
	}
	return pods[0].Name
}

// brokerKilled has a participant at each replica speak all the time while the process of NATS is
// killed. Each of them has to hear all that has a receipt, once and in one order.
func (s channelClustered) brokerKilled(t *testing.T) {
	var speakers []*speaker
	for i, client := range s.perReplicaChannels(t) {
		v, err := client.Join(
			t.Context(),
			channel.JoinOptions{Channel: "killed", Participant: fmt.Sprint("speaker ", i)},
		)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(v.Close)
		speakers = append(speakers, &speaker{conversation: v, name: fmt.Sprint("speaker ", i)})
	}
	stop := make(chan struct{})
	var speaking, hearing sync.WaitGroup
	for _, p := range speakers {
		speaking.Go(func() { p.speak(t.Context(), stop) })
		hearing.Go(func() { p.hear(t.Context()) })
	}
	allSpeak(t, speakers)
	s.crashPod(t, s.broker(t))
	allSpeak(t, speakers)
	close(stop)
	speaking.Wait()
	for _, p := range speakers {
		p.conversation.Leave()
	}
	hearing.Wait()
	for _, p := range speakers {
		if p.err != nil {
			t.Errorf("%s: %v", p.name, p.err)
		}
		if !slices.Equal(p.heard, speakers[0].heard) {
			t.Errorf("%s heard %d messages, %s %d others, or in another order", p.name, len(p.heard),
				speakers[0].name, len(speakers[0].heard))
		}
		own := slices.DeleteFunc(
			slices.Clone(p.heard),
			func(body string) bool { return !strings.HasPrefix(body, p.name+":") },
		)
		if !slices.Equal(own, p.kept) {
			t.Errorf(
				"%s has receipts for %d messages, of which %d were heard: %q",
				p.name,
				len(p.kept),
				len(own),
				own,
			)
		}
		t.Logf("%s: %d messages, and %d heard of all", p.name, len(p.kept), len(p.heard))
	}
}

// speaker is a participant that speaks and listens all the time.
type speaker struct {
	conversation *channel.Conversation
	name         string

	mu          sync.Mutex
	kept, heard []string // what has a receipt, and what was received of all participants
	err         error
}

func (p *speaker) note(to *[]string, body string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.err = errors.Join(p.err, err)
		return
	}
	*to = append(*to, body)
}

func (p *speaker) progress() (kept, heard int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.kept), len(p.heard), p.err
}

func (p *speaker) speak(ctx context.Context, stop <-chan struct{}) {
	for n := 1; ; n++ {
		body := fmt.Sprintf("%s: %d", p.name, n)
		_, err := p.conversation.Send(ctx, []byte(body))
		p.note(&p.kept, body, err)
		if err != nil {
			return
		}
		select {
		case <-stop:
			return
		case <-time.After(speakPause):
		}
	}
}

func (p *speaker) hear(ctx context.Context) {
	for {
		m, err := p.conversation.Receive(ctx)
		if errors.Is(err, channel.ErrLeft) {
			return
		}
		p.note(&p.heard, string(m.GetBody()), err)
		if err != nil {
			return
		}
	}
}

// allSpeak waits until each of them has said and heard some more.
func allSpeak(t *testing.T, speakers []*speaker) {
	t.Helper()
	const some = 10
	var kept, heard []int
	for _, p := range speakers {
		k, h, _ := p.progress()
		kept, heard = append(kept, k), append(heard, h)
	}
	took := eventually(t, "messages of every speaker", outageTime, func(context.Context) error {
		for i, p := range speakers {
			k, h, err := p.progress()
			if err != nil {
				t.Fatalf("%s: %v", p.name, err)
			}
			if k < kept[i]+some || h < heard[i]+some {
				return fmt.Errorf("%s said %d and heard %d since then", p.name, k-kept[i], h-heard[i])
			}
		}
		return nil
	})
	t.Logf("all have said and heard some more after %.1f s", took.Seconds())
}

// historyReplaced has NATS start on an empty volume. Participants at each replica, the ones that
// stayed and the ones that come back with a position, have to be told before they hear anything,
// and where to read from.
func (s channelClustered) historyReplaced(t *testing.T) {
	const room = "replaced"
	clients := s.perReplicaChannels(t)
	join := func(client *channel.Client, options channel.JoinOptions) (*channel.Conversation, error) {
		options.Channel, options.Participant = room, "ann"
		v, err := client.Join(t.Context(), options)
		if err == nil {
			t.Cleanup(v.Close)
		}
		return v, err
	}
	var stayed, left []*channel.Conversation
	for _, client := range clients {
		for _, group := range []*[]*channel.Conversation{&stayed, &left} {
			v, err := join(client, channel.JoinOptions{})
			if err != nil {
				t.Fatal(err)
			}
			*group = append(*group, v)
		}
	}
	operator := cli{
		s.program,
		s.forward(t, "pod/"+s.somePods(t, "server", serverReplicas)[0].Name, 50051),
	}
	terminal := start(
		t,
		nil,
		operator.program,
		"--server",
		operator.server,
		"chat",
		room,
		"--as",
		"bob",
		"--after",
		"0",
		"--listen",
	)
	old := []string{"old 1", "old 2", "old 3"}
	say(t, stayed[0], old...)
	wantHeard(t, append(slices.Clone(stayed[1:]), left...), old...)
	// Only a participant that has heard something knows which history it was.
	eventually(t, "old messages at the command line", outageTime, func(context.Context) error {
		if heard := terminal.stdout.String(); !strings.Contains(heard, old[len(old)-1]) {
			return fmt.Errorf("it wrote %q and said %q", heard, &terminal.stderr)
		}
		return nil
	})
	for _, v := range left {
		v.Close()
	}

	s.replaceVolume(t)

	// A replica that has told them knows the new history; one that has not would end a new participant.
	var first uint64
	ctx, cancel := context.WithTimeout(t.Context(), outageTime)
	defer cancel()
	for i, v := range stayed {
		m, err := v.Receive(ctx)
		if first = channel.First(err); !errors.Is(err, channel.ErrHistoryChanged) || first == 0 {
			t.Errorf(
				"the participant that stayed at replica %d got %q and %v, and is to read from %d",
				i,
				m.GetBody(),
				err,
				first,
			)
		}
	}
	newer := []string{"new 1", "new 2", "new 3", "new 4", "new 5"}
	speaker := s.joinAnew(t, clients[0], room)
	say(t, speaker, newer...)
	for i, v := range left {
		_, err := join(clients[i], channel.JoinOptions{Position: v.Position()})
		if first = channel.First(err); !errors.Is(err, channel.ErrHistoryChanged) || first == 0 {
			t.Fatalf(
				"the participant that came back to replica %d got %v, and is to read from %d",
				i,
				err,
				first,
			)
		}
	}
	eventually(t, "the end of the command line", outageTime, func(context.Context) error {
		if terminal.running() {
			return fmt.Errorf("it wrote %q and said %q", &terminal.stdout, &terminal.stderr)
		}
		return nil
	})
	if told := terminal.stderr.String(); terminal.err == nil ||
		!strings.Contains(told, "history of the channel") ||
		strings.Contains(terminal.stdout.String(), "new") {
		t.Errorf(
			"the command line ended with %v, wrote %q and said %q",
			terminal.err,
			&terminal.stdout,
			told,
		)
	}
	t.Logf("the command line said %s", &terminal.stderr)

	var again []*channel.Conversation
	for _, client := range clients {
		v, err := join(client, channel.JoinOptions{From: first})
		if err != nil {
			t.Fatal(err)
		}
		again = append(again, v)
	}
	say(t, speaker, "newest")
	wantHeard(t, again, append(newer, "newest")...)
	s.beginAnew(t)
}

// beginAnew leaves what the client found wrong meanwhile out of what later promises count.
func (s channelClustered) beginAnew(t *testing.T) {
	t.Helper()
	since := s.verdictNow(t)
	eventually(t, "good answers of every operation", outageTime, func(ctx context.Context) error {
		now, err := s.verdict(ctx)
		if err != nil {
			return err
		}
		for _, o := range now.operations() {
			if now.good[o] == since.good[o] {
				return fmt.Errorf("%v has none", o)
			}
		}
		s.began = now
		return nil
	})
}

// replaceVolume deletes the claim of NATS with its volume, and makes one like it.
func (s channelClustered) replaceVolume(t *testing.T) {
	t.Helper()
	claims, name := s.kube.CoreV1().PersistentVolumeClaims(s.namespace.name), "platform-nats"
	claim, err := claims.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// It goes when its pod has gone; the next pod waits for a claim that is not on its way out.
	if err := claims.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.deletePod(t, s.broker(t))
	claim.ObjectMeta = metav1.ObjectMeta{Name: name, Labels: claim.Labels}
	claim.Spec.VolumeName = ""
	took := eventually(t, "a new claim", time.Minute, func(ctx context.Context) error {
		_, err := claims.Create(ctx, claim, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return errors.New("the old claim is still there")
		}
		return err
	})
	t.Logf("the claim was replaced after %.1f s", took.Seconds())
	s.namespace.release("platform", "platform").rolledOut(t, platformTime)
	// What is left at the end of the installation has the new pod, not the old one.
	s.before = append(s.before, "pod/"+s.broker(t))
}

// joinAnew joins from now on, as soon as the stream is there again. A join in between may still
// find the history that goes.
func (s channelClustered) joinAnew(
	t *testing.T,
	client *channel.Client,
	room string,
) (v *channel.Conversation) {
	t.Helper()
	took := eventually(
		t,
		"a conversation in the new history",
		outageTime,
		func(context.Context) (err error) {
			v, err = client.Join(t.Context(), channel.JoinOptions{Channel: room, Participant: "cid"})
			return err
		},
	)
	t.Cleanup(v.Close)
	t.Logf("a participant could join after %.1f s", took.Seconds())
	return v
}

// say says something in a conversation that hears it itself.
func say(t *testing.T, v *channel.Conversation, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		sent := make(chan error, 1)
		go func() {
			_, err := v.Send(t.Context(), []byte(body))
			sent <- err
		}()
		wantHeard(t, []*channel.Conversation{v}, body)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// wantHeard wants each of some conversations to bring these messages next.
func wantHeard(t *testing.T, conversations []*channel.Conversation, bodies ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), outageTime)
	defer cancel()
	for i, v := range conversations {
		for _, body := range bodies {
			if m, err := v.Receive(ctx); err != nil || string(m.GetBody()) != body {
				t.Fatalf("participant %d heard %q and %v instead of %q", i, m.GetBody(), err, body)
			}
		}
	}
}
