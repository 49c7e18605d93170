package main

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// portRows are attacks on the ports of operators, and on the number of connections.
var portRows = []row{
	{
		name:  "probe-names",
		holds: true,
		does:  "watches, on the probe port, services with names of 4 MB",
		load:  load{10, 10},
		run:   func(ctx context.Context, by *attacker) { by.watch(ctx, by.Probe, 4_000_000) },
	},
	{
		name:  "watch-connections",
		holds: true,
		does:  "watches the health once on each of its connections",
		load:  load{5000, 1},
		flood: true,
		run:   func(ctx context.Context, by *attacker) { by.watch(ctx, by.GRPC, 0) },
	},
	{
		name: "metrics-port", holds: true, flood: true, load: load{3000, 1},
		does: "keeps connections to the metrics port, a third idle, a third unread, a third slow",
		run: func(ctx context.Context, by *attacker) {
			const request = "GET /metrics HTTP/1.1\r\nHost: attack\r\n\r\n"
			by.hold(ctx, by.HTTP, request, idle, unread, slow)
		},
	},
}

// noPort is what an attacker notes if there is nothing to attack.
const noPort = "the port cannot be reached"

// hold keeps connections to an HTTP server in some ways, each with requests like the one given.
func (a *attacker) hold(ctx context.Context, address, request string, ways ...holding) {
	if address == "" {
		a.answers.add(noPort)
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	for n := range a.load.connections {
		all.Go(func() {
			for ctx.Err() == nil {
				if a.repeat(ctx, ways[n%len(ways)].hold(ctx, address, request)) != nil {
					pause(ctx, a.slow)
				}
			}
		})
	}
}

// holding is a way of keeping a connection to an HTTP server.
type holding int

const (
	idle     holding = iota // after an answer
	unread                  // with many requests
	slow                    // a byte of the headers a second
	slowBody                // a byte of the body a second
)

// hold keeps a connection until the server closes it.
func (way holding) hold(ctx context.Context, address, request string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	switch way {
	case idle:
		if _, err = io.WriteString(conn, request); err == nil {
			_, err = io.Copy(io.Discard, conn)
		}
	case unread:
		for err == nil {
			_, err = io.WriteString(conn, strings.Repeat(request, 10)) // It blocks when the server does.
		}
	case slow:
		for i := 0; err == nil; i = (i + 1) % 10 {
			err = drip(ctx, conn, request[i:i+1])
		}
	case slowBody:
		head, _, _ := strings.Cut(request, "\r\n\r\n")
		_, err = io.WriteString(
			conn,
			strings.Replace(head, "Content-Length: 2", "Content-Length: 1000", 1)+"\r\n\r\n{",
		)
		for err == nil {
			err = drip(ctx, conn, " ")
		}
	}
	return status.Errorf(codes.Unavailable, "closed: %v", err)
}

// drip sends a byte, and waits a second.
func drip(ctx context.Context, conn net.Conn, text string) error {
	_, err := io.WriteString(conn, text)
	if err == nil {
		pause(ctx, time.Second)
	}
	return err
}
