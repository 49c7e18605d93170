package object

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// webClient downloads through the port for browsers, as pages do: by Connect, with connect-go for a
// client. Everything else it does through the other port.
type webClient struct {
	*oursClient
	transport *http.Transport
	stream    *connect.Client[quartetv1.DownloadObjectRequest, quartetv1.DownloadObjectResponse]
}

// bothPorts is between the addresses of the two ports.
const bothPorts = " "

func newWebClient(ctx context.Context, addresses string, h2c bool) (*webClient, error) {
	grpc, web, _ := strings.Cut(addresses, bothPorts)
	ours, err := newOursClient(ctx, grpc, 1)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Protocols: protocols(h2c), DisableCompression: true, ReadBufferSize: 64 << 10,
	}
	url := "http://" + web + quartetv1.ObjectService_DownloadObject_FullMethodName
	return &webClient{ours, transport, connect.NewClient[quartetv1.DownloadObjectRequest, quartetv1.DownloadObjectResponse](
		&http.Client{Transport: transport}, url, connect.WithAcceptCompression("gzip", nil, nil))}, nil
}

func (c *webClient) close() {
	c.transport.CloseIdleConnections()
	c.oursClient.close()
}

// download computes the checksum always, as a client has to that wants to know what it got.
func (c *webClient) download(ctx context.Context, job Job) (Sum, error) {
	request := quartetv1.DownloadObjectRequest_builder{Name: contentName(job.Bytes)}.Build()
	stream, err := c.stream.CallServerStream(ctx, connect.NewRequest(request))
	if err != nil {
		return Sum{}, err
	}
	got := &sink{check: true}
	for stream.Receive() {
		_, _ = got.Write(stream.Msg().GetChunk().GetData()) // A sink takes everything.
	}
	if !job.Check {
		got.CRC = 0
	}
	return got.Sum, errors.Join(stream.Err(), stream.Close())
}
