package console

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// startFrame is the first that a page sends; docs/console.md has the protocol.
type startFrame struct {
	// Type is "start".
	Type string `json:"type"`
	// Method is package.Service/Method, Metadata pairs of name and value, and Deadline what Go writes
	// for a duration ("5s"; empty for none). Resume has the call made again after a break.
	Method   string      `json:"method"`
	Metadata [][2]string `json:"metadata"`
	Deadline string      `json:"deadline"`
	Resume   bool        `json:"resume"`
	// Messages is how many replies the page takes at first, 0 for any number.
	Messages int `json:"messages"`
}

// frame is what a page sends after that. It takes no more memory than its text.
type frame struct {
	// Type is "message", "more", "half_close", or "cancel".
	Type string `json:"type"`
	// Messages is how many replies the page takes besides.
	Messages int `json:"messages"`
	// Message is a request, in the JSON of protobuf.
	Message json.RawMessage `json:"message"`
}

// event is what a page is sent. A frame has a list of them.
type event struct {
	// Type is "started", "attempt", "header", "sent", "message", "error", "break", "resume", or
	// "status", which is the last.
	Type string `json:"type"`
	// Time is in milliseconds since the call started.
	Time float64 `json:"time"`

	// Of started.
	TraceID  string `json:"trace_id,omitempty"`
	TraceURL string `json:"trace_url,omitempty"`

	// Attempt counts them from 1; Peer is the server's address.
	Attempt int    `json:"attempt,omitempty"`
	Peer    string `json:"peer,omitempty"`

	// Metadata are those of a header, Trailers those of a status. Values of names that end with -bin
	// are in base64.
	Metadata [][2]string `json:"metadata,omitempty"`
	Trailers [][2]string `json:"trailers,omitempty"`

	// Of messages: the number of the request that is sent, or that one with an error would have had,
	// from 0; whether it was sent before; the size in bytes as protobuf, and the reply.
	Number  *int            `json:"number,omitempty"`
	Again   bool            `json:"again,omitempty"`
	Bytes   *int            `json:"bytes,omitempty"`
	Message json.RawMessage `json:"message,omitempty"`

	// Error says what is wrong with a frame that was left out, or with a reply that cannot be written
	// as JSON.
	Error string `json:"error,omitempty"`
	// Status is that of a status or a break.
	Status *statusJSON `json:"status,omitempty"`
}

// statusJSON is a status of gRPC. Details are messages in protobuf's JSON, with their type as
// "@type".
type statusJSON struct {
	Code    uint32            `json:"code"`
	Name    string            `json:"name"`
	Message string            `json:"message,omitempty"`
	Details []json.RawMessage `json:"details,omitempty"`
}

// describe is a status with its details.
func describe(err error) *statusJSON {
	s := status.Convert(err)
	described := &statusJSON{
		Code:    uint32(s.Code()),
		Name:    rpccode.Code(s.Code()).String(), // as gRPC documents it; Go's own says Canceled
		Message: s.Message(),
	}
	for _, detail := range s.Proto().GetDetails() {
		described.Details = append(described.Details, describeDetail(detail))
	}
	return described
}

// describeDetail writes a detail as JSON, and one of a type that the client does not know in
// base64.
func describeDetail(detail *anypb.Any) json.RawMessage {
	if text, err := protojson.Marshal(detail); err == nil {
		return text
	}
	text, _ := json.Marshal(map[string]string{ // Maps of strings can always be written.
		"@type": detail.GetTypeUrl(), "value": base64.StdEncoding.EncodeToString(detail.GetValue()),
	})
	return text
}

// pairs are metadata as JSON has them.
func pairs(md metadata.MD) (all [][2]string) {
	for name, values := range md {
		for _, value := range values {
			if strings.HasSuffix(name, "-bin") {
				value = base64.StdEncoding.EncodeToString([]byte(value))
			}
			all = append(all, [2]string{name, value})
		}
	}
	return all
}
