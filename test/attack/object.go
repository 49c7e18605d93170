package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/test/process"
)

const (
	neighbourObject = "neighbour"
	neighbourBytes  = 1 << 20
	// attackedObject is what the attacker downloads.
	attackedObject = "attacked"
	attackedBytes  = 8 << 20
	// listedPrefix is what the names begin with of what is listed.
	listedPrefix = "listed/"
	partsObject  = "parts"
)

var _ = register(service{
	name:  "object",
	unary: quartetv1.ObjectService_GetObject_FullMethodName,
	// Its streams have rows of their own.
	neighbour: neighbourly{
		prepare: func(ctx context.Context, conn *grpc.ClientConn) error {
			return upload(ctx, conn, neighbourObject, make([]byte, neighbourBytes))
		},
		lookup: func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := quartetv1.NewObjectServiceClient(
				conn,
			).GetObject(
				ctx,
				quartetv1.GetObjectRequest_builder{Name: neighbourObject}.Build(),
			)
			return err
		},
		steady: []steady{
			{"download", 300 * time.Millisecond, each(download)},
			{"upload", time.Second, each(func(ctx context.Context, conn *grpc.ClientConn) error {
				return upload(ctx, conn, neighbourObject+"-upload", make([]byte, 256<<10))
			})},
		},
	},
	rows: []row{
		{
			name:    "list-one",
			holds:   true,
			does:    "lists 5,000 objects, one a page",
			load:    load{1, 200},
			flood:   true,
			prepare: makeListed,
			amount:  5000,
			run:     list(1),
		},
		{
			name:    "list-thousand",
			holds:   true,
			does:    "lists 5,000 objects, 1,000 a page",
			load:    load{4, 200},
			flood:   true,
			prepare: makeListed,
			amount:  5000,
			run:     list(1000),
			worst:   true,
		},
		{
			name:    "small-parts",
			holds:   true,
			does:    "looks up an object whose upload had 3,000 parts of a byte",
			load:    load{1, 200},
			flood:   true,
			prepare: makeSmallParts,
			amount:  3000,
			run: func(ctx context.Context, by *attacker) {
				by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, _ int) error {
					_, err := quartetv1.NewObjectServiceClient(
						conn,
					).GetObject(
						ctx,
						quartetv1.GetObjectRequest_builder{Name: partsObject}.Build(),
					)
					return err
				})
			},
		},
		{
			name:  "not-found",
			holds: true,
			does:  "looks up what is not there",
			load:  load{1, 100},
			flood: true,
			run: func(ctx context.Context, by *attacker) {
				by.slow = 0
				by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, n int) error {
					_, err := quartetv1.NewObjectServiceClient(
						conn,
					).GetObject(
						ctx,
						quartetv1.GetObjectRequest_builder{Name: fmt.Sprint(n)}.Build(),
					)
					return err
				})
			},
		},
		{
			name:    "upload-silent",
			does:    "sends the header of an upload, and nothing else",
			load:    load{1, 200},
			run:     uploadSlowly(0),
			refused: true,
		},
		{
			name: "upload-slow",
			does: "uploads a byte a second",
			load: load{1, 200},
			run:  uploadSlowly(time.Second),
		},
		{
			name: "download-unread", holds: true, refused: true, load: load{2, 250},
			does: "downloads with windows of zero bytes", prepare: makeAttacked,
			run: func(ctx context.Context, by *attacker) {
				downloadUnread(ctx, by, by.GRPC, "application/grpc")
			},
		},
		{
			name: "web-unread", holds: true, load: load{2, 250}, // It reads no refusal either.
			does: "downloads by Connect with windows of zero bytes", prepare: makeAttacked,
			run: func(ctx context.Context, by *attacker) {
				downloadUnread(ctx, by, by.Web, connectStream)
			},
		},
		{
			name:  "upload-started",
			holds: true,
			does:  "starts uploads, and leaves each with a byte",
			load:  load{1, 50},
			flood: true,
			keeps: "unfinished uploads count towards the quota, and a caller has 1,000 at most",
			run:   uploadStarted,
		},
		{
			name: "disk-full",
			does: "uploads until a disk of 200 MiB is full, and again after each deletion",
			load: load{1, 4},
			disk: 200,
			// Three quarters of the volume.
			set:   []string{process.Setting("OBJECT_QUOTA_BYTES", "150MiB")},
			keeps: "objects count towards the quota",
			run:   fillDisk,
		},
	},
})

func download(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := quartetv1.NewObjectServiceClient(
		conn,
	).DownloadObject(
		ctx,
		quartetv1.DownloadObjectRequest_builder{Name: neighbourObject}.Build(),
	)
	received := 0
	for err == nil {
		var reply *quartetv1.DownloadObjectResponse
		if reply, err = stream.Recv(); err == nil {
			received += len(reply.GetChunk().GetData())
		}
	}
	switch {
	case err != io.EOF: //nolint:errorlint // Recv returns it as it is.
		return err
	case received != neighbourBytes:
		return status.Errorf(codes.DataLoss, "%d bytes of %d", received, neighbourBytes)
	}
	return nil
}

func header(name string) *quartetv1.UploadObjectRequest {
	return quartetv1.UploadObjectRequest_builder{
		Header: quartetv1.UploadHeader_builder{UploadId: uuid.NewString(), Name: name}.Build(),
	}.Build()
}

func chunk(offset int, data []byte) *quartetv1.UploadObjectRequest {
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	return quartetv1.UploadObjectRequest_builder{
		Chunk: quartetv1.UploadChunk_builder{Offset: uint64(offset), Data: data, Crc32C: sum}.Build(),
	}.Build()
}

// send sends the messages of one stream, half-closes it, and returns how it ended.
func send(
	ctx context.Context,
	conn *grpc.ClientConn,
	messages ...*quartetv1.UploadObjectRequest,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := quartetv1.NewObjectServiceClient(conn).UploadObject(ctx)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if stream.Send(m) != nil {
			break // The status follows.
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

var finish = quartetv1.UploadObjectRequest_builder{Finish: &quartetv1.UploadFinish{}}.Build()

func upload(ctx context.Context, conn *grpc.ClientConn, name string, content []byte) error {
	messages := []*quartetv1.UploadObjectRequest{header(name)}
	for offset := 0; offset < len(content); offset += 256 << 10 {
		messages = append(messages, chunk(offset, content[offset:min(offset+256<<10, len(content))]))
	}
	return send(ctx, conn, append(messages, finish)...)
}

// prepared is done with a connection of its own.
func prepared(t target, do func(conn *grpc.ClientConn) error) error {
	conn, err := dial(t.GRPC, "")
	if err != nil {
		return err
	}
	defer conn.Close()
	return do(conn)
}

// untilTaken repeats what is refused for a while, as an honest caller does.
func untilTaken(ctx context.Context, do func() error) error {
	for {
		err := do()
		if code := status.Code(err); code != codes.ResourceExhausted && code != codes.Unavailable {
			return err
		}
		if pause(ctx, 200*time.Millisecond); ctx.Err() != nil {
			return err
		}
	}
}

// makeListed uploads what is listed, as several callers at once where the machine has their
// addresses.
func makeAttacked(ctx context.Context, t target, _ int) error {
	return prepared(t, func(conn *grpc.ClientConn) error {
		return upload(ctx, conn, attackedObject, make([]byte, attackedBytes))
	})
}

func makeListed(ctx context.Context, t target, amount int) error {
	var all sync.WaitGroup
	var next atomic.Int64
	problems := make(chan error, 16)
	for i := range cap(problems) {
		all.Go(func() {
			conn, err := dial(t.GRPC, t.local(fmt.Sprintf("127.0.1.%d", 1+i)))
			for err == nil {
				n := next.Add(1)
				if n > int64(amount) {
					break
				}
				err = untilTaken(
					ctx,
					func() error { return upload(ctx, conn, fmt.Sprintf("%s%06d", listedPrefix, n), []byte{1}) },
				)
			}
			if conn != nil {
				_ = conn.Close()
			}
			problems <- err
		})
	}
	all.Wait()
	close(problems)
	for err := range problems {
		if err != nil {
			return fmt.Errorf("upload what is listed: %w", err)
		}
	}
	return nil
}

func makeSmallParts(ctx context.Context, t target, amount int) error {
	return prepared(t, func(conn *grpc.ClientConn) error {
		first := header(partsObject)
		for offset := range amount {
			commit := func() error { return send(ctx, conn, first, chunk(offset, []byte{1})) }
			if err := untilTaken(ctx, commit); err != nil {
				return fmt.Errorf("commit a byte at %d: %w", offset, err)
			}
		}
		return send(ctx, conn, first, finish)
	})
}

func list(pageSize int32) func(ctx context.Context, by *attacker) {
	return func(ctx context.Context, by *attacker) {
		by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, _ int) error {
			request := quartetv1.ListObjectsRequest_builder{Prefix: listedPrefix, PageSize: pageSize}.Build()
			for {
				reply, err := quartetv1.NewObjectServiceClient(conn).ListObjects(ctx, request)
				if err != nil || reply.GetNextPageToken() == "" {
					return err
				}
				by.answers.add("pages")
				request.SetPageToken(reply.GetNextPageToken())
			}
		})
	}
}

// uploadSlowly sends the header of an upload, then a byte at intervals; 0 is never.
func uploadSlowly(interval time.Duration) func(ctx context.Context, by *attacker) {
	return func(ctx context.Context, by *attacker) {
		by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, n int) error {
			stream, err := quartetv1.NewObjectServiceClient(conn).UploadObject(ctx)
			if err == nil {
				err = stream.Send(header(fmt.Sprintf("slow-%d", n)))
			}
			for offset := 0; err == nil && interval > 0; offset++ {
				pause(ctx, interval)
				err = stream.Send(chunk(offset, []byte{1}))
			}
			return ended(stream, err)
		})
	}
}

func uploadStarted(ctx context.Context, by *attacker) {
	by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, n int) error {
		return send(
			ctx,
			conn,
			header(fmt.Sprintf("started-%d-%d", n, rand.Uint64())),
			chunk(0, []byte{1}),
		)
	})
}

// downloadUnread has a download on each stream of a port that it has the address of, and a
// protocol.
func downloadUnread(ctx context.Context, by *attacker, address, contentType string) {
	if address == "" {
		by.answers.add(noPort)
		return
	}
	request, err := proto.Marshal(
		quartetv1.DownloadObjectRequest_builder{Name: attackedObject}.Build(),
	)
	if err != nil {
		by.answers.addError(err)
		return
	}
	by.window = 0
	by.eachOnWire(ctx, address, func(_ context.Context, w *wire, _ int) error {
		s := w.beginAs(contentType, quartetv1.ObjectService_DownloadObject_FullMethodName)
		if err := w.send(s, message(0, request), true); err != nil {
			return err
		}
		return w.wait(s)
	})
}

// fillDisk deletes an object whenever there is no room for the next.
func fillDisk(ctx context.Context, by *attacker) {
	content := make([]byte, 4<<20)
	by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, n int) error {
		for i := 0; ; i++ {
			err := upload(ctx, conn, fmt.Sprintf("fill-%d-%d", n, i), content)
			if status.Code(err) == codes.ResourceExhausted && i > 0 {
				by.answers.addError(err)
				_, err = quartetv1.NewObjectServiceClient(
					conn,
				).DeleteObject(
					ctx,
					quartetv1.DeleteObjectRequest_builder{
						Name: fmt.Sprintf("fill-%d-%d", n, i-1), AllowMissing: true,
					}.Build(),
				)
				i -= 2
			}
			if err != nil {
				return err
			}
			by.answers.add("OK")
		}
	})
}
