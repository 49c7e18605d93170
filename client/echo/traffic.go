package echo

import (
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/traffic"
)

func (c Config) traffic(s cli.Connection) traffic.Source {
	v := verified{connect(s)}
	return traffic.Source{Service: descriptor, Operations: []traffic.Operation{
		{Method: "Echo", Rate: c.Echoes, Do: v.echo},
		{Method: "Expand", Rate: c.Expansions, Do: v.expand},
		{Method: "Collect", Rate: c.Collections, Do: v.collect},
		{Method: "Chat", Rate: c.Chats, Do: v.chat},
	}}
}
