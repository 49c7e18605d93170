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
		name: "probe-names", holds: true, does: "watches, on the probe port, services with names of 4 MB", load: load{10, 10},
		run: func(ctx context.Context, by *attacker) { by.watch(ctx, by.Probe, 4_000_000) },
	},
	{
		name: "watch-connections", holds: true, does: "watches the health once on each of its connections", load: load{5000, 1}, flood: true,
		run: func(ctx context.Context, by *attacker) { by.watch(ctx, by.GRPC, 0) },
	},
	{
		name: "metrics-port", holds: true, does: "keeps connections to the metrics port, a third idle, a third unread, a third slow", load: load{3000, 1}, flood: true, run: metricsPort,
	},
}

func metricsPort(ctx context.Context, by *attacker) {
	if by.HTTP == "" {
		by.answers.add("the port cannot be reached")
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	for n := range by.load.connections {
		all.Go(func() {
			for ctx.Err() == nil {
				if by.repeat(ctx, holdHTTP(ctx, by.HTTP, n%3)) != nil {
					pause(ctx, by.slow)
				}
			}
		})
	}
}

// The ways of holding a connection to an HTTP server.
const (
	idle = iota
	unread
	slow
)

// holdHTTP holds a connection until the server closes it.
func holdHTTP(ctx context.Context, address string, way int) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	const request = "GET /metrics HTTP/1.1\r\nHost: attack\r\n\r\n"
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
			if _, err = io.WriteString(conn, request[i:i+1]); err == nil {
				pause(ctx, time.Second)
			}
		}
	}
	return status.Errorf(codes.Unavailable, "closed: %v", err)
}
