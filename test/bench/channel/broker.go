package channel

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"example.com/quartet/test/bench/child"
)

// brokerArgument tells a child that it is a NATS server; the folder that it keeps messages in
// follows.
const brokerArgument = "channel-broker"

// Child does the work of a child if the arguments are those of one, and says whether they were.
func Child(arguments []string) (bool, error) {
	if len(arguments) == 2 && arguments[0] == bareArgument {
		return true, serveBare(arguments[1])
	}
	if len(arguments) != 2 || arguments[0] != brokerArgument {
		return false, nil
	}
	nats, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: arguments[1],
	})
	if err != nil {
		return true, err
	}
	nats.Start()
	defer nats.Shutdown()
	if !nats.ReadyForConnections(timeout) {
		return true, errors.New("NATS is not ready")
	}
	return true, child.Serve(&Broker{nats})
}

// Broker is a NATS server, as its parent sees it.
type Broker struct{ nats *server.Server }

// Nothing is what a question without an argument has.
type Nothing struct{}

// URL is where it listens.
func (b *Broker) URL(_ Nothing, answer *string) error {
	*answer = b.nats.ClientURL()
	return nil
}

// startBroker starts a NATS server in a process of its own, and says where it listens.
func startBroker(ctx context.Context, folder string) (*child.Process, string, error) {
	process, err := child.Start(ctx, brokerArgument, folder)
	if err != nil {
		return nil, "", err
	}
	var url string
	if err := process.Ask("URL", time.Minute, Nothing{}, &url); err != nil {
		return nil, "", errors.Join(err, process.Stop())
	}
	return process, url, nil
}
