package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// webRows are attacks on the port for browsers.
var webRows = []row{
	{
		name: "web-connections", holds: true, flood: true, load: load{3000, 1},
		does: "keeps connections to the web port: idle, with slow headers, with slow bodies " +
			"or with calls whose answers are not read",
		run: func(ctx context.Context, by *attacker) {
			by.hold(ctx, by.Web, webRequest, idle, slow, slowBody, unread)
		},
	},
	{
		name: "web-pipelined", holds: true, flood: true, load: load{100, 1},
		does: "sends calls to the web port one after the other, and reads no answer",
		run: func(ctx context.Context, by *attacker) {
			by.hold(ctx, by.Web, webRequest, unread)
		},
	},
	{
		name: "web-options", holds: true, flood: true, load: load{1000, 1},
		does: "sends requests for no path to the web port, with slow bodies",
		run: func(ctx context.Context, by *attacker) {
			by.hold(ctx, by.Web, webOptions, slowBody)
		},
	},
	{
		name: "web-streams", holds: true, refused: true, load: load{4, 250},
		does: "sends the headers of streams of Connect, and nothing else",
		run: func(ctx context.Context, by *attacker) {
			methods := streamMethods()
			by.eachOnWire(ctx, by.Web, func(_ context.Context, w *wire, n int) error {
				return w.wait(w.beginAs(connectStream, pick(methods, n)))
			})
		},
	},
	{
		name: "web-large", holds: true, flood: true, load: load{1, 20},
		does: "sends 1 MiB of JSON: at once, in chunks, as a message of a stream, and as 1 KB of gzip",
		run:  webLarge,
	},
}

// connectStream is the content type of streams of the Connect protocol.
const connectStream = "application/connect+proto"

const (
	// webRequest is a call by Connect, and webOptions a request that no handler is registered for.
	webRequest = "POST " + healthpb.Health_Check_FullMethodName + webMessage
	webOptions = "OPTIONS *" + webMessage
	webMessage = " HTTP/1.1\r\nHost: attack\r\n" +
		"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)

// webLarge sends bodies in the ways that there are, one after the other.
func webLarge(ctx context.Context, by *attacker) {
	if by.Web == "" {
		by.answers.add(noPort)
		return
	}
	body := []byte(`{"x":"` + strings.Repeat("x", 1<<20) + `"}`)
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	_, _ = writer.Write(body) // It writes to memory.
	_ = writer.Close()
	client := webClient("")
	defer client.CloseIdleConnections()
	by.slow = 0
	by.each(ctx, func(ctx context.Context, _ *grpc.ClientConn, n int) error {
		method := pick(unaryMethods(), n)
		var content io.Reader = bytes.NewReader(body)
		headers := []string{"Content-Type", "application/json"}
		switch n % 4 {
		case 1:
			content = io.MultiReader(content) // It has no length, so that it is sent in chunks.
		case 2:
			method = pick(streamMethods(), n)
			content = bytes.NewReader(message(0, body))
			headers = []string{"Content-Type", "application/connect+json"}
		case 3:
			content = bytes.NewReader(packed.Bytes())
			headers = append(headers, "Content-Encoding", "gzip")
		}
		return callWeb(ctx, client, by.Web, method, content, headers...)
	})
}

// webClient calls from an address of this machine, if there is one.
func webClient(from string) *http.Client {
	dialer := net.Dialer{}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
}

// callWeb makes a call, with headers in pairs, and reads all of its answer.
func callWeb(
	ctx context.Context,
	client *http.Client,
	address, method string,
	body io.Reader,
	headers ...string,
) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+method, body)
	if err != nil {
		return err
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	err = connectStatus(answer)
	if err == nil && response.StatusCode != http.StatusOK {
		err = status.Error(codes.Unknown, response.Status)
	}
	return err
}

// connectStatus is the error in an answer of the Connect protocol, which may be the last message of
// a stream, behind its flag and its length.
func connectStatus(answer []byte) error {
	const endOfStream, prefix = 2, 5
	if len(answer) > prefix && answer[0] == endOfStream {
		answer = answer[prefix:]
	}
	type problem struct{ Code, Message string }
	var of struct {
		problem
		Error problem
	}
	if json.Unmarshal(answer, &of) != nil || of.Code == "" && of.Error.Code == "" {
		return nil
	}
	found := cmp.Or(of.problem, of.Error)
	code := codes.Unknown
	_ = code.UnmarshalJSON([]byte(strconv.Quote(strings.ToUpper(found.Code)))) // or Unknown
	return status.Error(code, found.Message)
}

// talkWeb is what a neighbour does at the web port.
func talkWeb(address string) steady {
	const every = 100 * time.Millisecond
	client := webClient(target{GRPC: address}.local(neighbourAddress))
	return steady{"web", every, each(func(ctx context.Context, _ *grpc.ClientConn) error {
		return callWeb(
			ctx,
			client,
			address,
			healthpb.Health_Check_FullMethodName,
			strings.NewReader("{}"),
			"Content-Type",
			"application/json",
		)
	})}
}
