package object

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/crc32c"
	"example.com/quartet/internal/rpc"
)

// The messages of an upload, made short.

func header(id, name string) *quartetv1.UploadObjectRequest {
	return quartetv1.UploadObjectRequest_builder{Header: quartetv1.UploadHeader_builder{UploadId: id,
		Name: name}.Build()}.Build()
}

func chunk(offset int, data []byte) *quartetv1.UploadObjectRequest {
	return chunkWithChecksum(offset, data, crc32c.Checksum(data))
}

func chunkWithChecksum(offset int, data []byte, crc32c uint32) *quartetv1.UploadObjectRequest {
	return quartetv1.UploadObjectRequest_builder{Chunk: quartetv1.UploadChunk_builder{Offset: uint64(offset), Data: data, Crc32C: crc32c}.Build()}.Build()
}

func finish(content []byte) *quartetv1.UploadObjectRequest {
	return quartetv1.UploadObjectRequest_builder{Finish: quartetv1.UploadFinish_builder{
		SizeBytes: new(uint64(len(content))),
		Crc32C:    new(crc32c.Checksum(content)),
	}.Build()}.Build()
}

// send sends messages over a new stream and returns the answer.
func (ts *testServer) send(
	t testing.TB, messages ...*quartetv1.UploadObjectRequest,
) (*quartetv1.UploadObjectResponse, error) {
	t.Helper()
	stream, err := ts.objects.UploadObject(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			break // The answer says why.
		}
	}
	return stream.CloseAndRecv()
}

// upload sends content as a whole, in chunks that fit into nothing evenly.
func (ts *testServer) upload(t testing.TB, name string, content []byte) *quartetv1.Object {
	t.Helper()
	messages := []*quartetv1.UploadObjectRequest{header(uuid.NewString(), name)}
	offset := 0
	for piece := range slices.Chunk(content, 10_007) {
		messages = append(messages, chunk(offset, piece))
		offset += len(piece)
	}
	response, err := ts.send(t, append(messages, finish(content))...)
	if err != nil {
		t.Fatal(err)
	}
	return response.GetObject()
}

// download fetches a range and checks that the replies keep the order that the contract promises.
func (ts *testServer) download(
	t *testing.T, request *quartetv1.DownloadObjectRequest,
) (*quartetv1.Object, []byte, error) {
	t.Helper()
	stream, err := ts.objects.DownloadObject(apptest.Deadline(t), request)
	if err != nil {
		t.Fatal(err)
	}
	var object *quartetv1.Object
	content := []byte{}
	for {
		reply, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return object, content, nil
		case err != nil:
			return object, content, err
		case reply.HasObject() && object == nil:
			object = reply.GetObject()
			continue
		case !reply.HasChunk() || object == nil:
			t.Fatalf("reply out of order: %v", reply)
		}
		c := reply.GetChunk()
		if c.GetOffset() != request.GetReadOffset()+uint64(len(content)) ||
			c.GetCrc32C() != crc32c.Checksum(c.GetData()) || len(c.GetData()) == 0 {
			t.Fatalf("chunk of %d bytes at %d does not continue at %d or has a wrong checksum",
				len(c.GetData()), c.GetOffset(), len(content))
		}
		content = append(content, c.GetData()...)
	}
}

func get(name string) *quartetv1.GetObjectRequest {
	return quartetv1.GetObjectRequest_builder{Name: name}.Build()
}

func whole(name string) *quartetv1.DownloadObjectRequest {
	return quartetv1.DownloadObjectRequest_builder{Name: name}.Build()
}

func TestTheModes(t *testing.T) {
	for engine, start := range starts {
		t.Run(engine, func(t *testing.T) { testTheModes(t, start(t)) })
	}
}

func testTheModes(t *testing.T, ts *testServer) {
	content := pattern(300_000)
	t.Run("client streaming: an upload in several parts becomes one object", func(t *testing.T) {
		object := ts.upload(t, "report.pdf", content)
		if object.GetName() != "report.pdf" || object.GetSizeBytes() != uint64(len(content)) ||
			object.GetCrc32C() != crc32c.Checksum(content) {
			t.Errorf("got %v", object)
		}
	})
	t.Run("unary: the object is found by its name", func(t *testing.T) {
		found, err := ts.objects.GetObject(apptest.Deadline(t), get("report.pdf"))
		if err != nil || found.GetObject().GetSizeBytes() != uint64(len(content)) ||
			found.GetObject().GetContentType() != "application/octet-stream" {
			t.Errorf("got %v, %v", found, err)
		}
	})
	t.Run("server streaming: the object comes back byte for byte", func(t *testing.T) {
		object, got, err := ts.download(t, whole("report.pdf"))
		if err != nil || !bytes.Equal(got, content) || object.GetCrc32C() != crc32c.Checksum(got) {
			t.Errorf("got %d bytes of %v, %v", len(got), object, err)
		}
	})
}

func TestAnEmptyObjectIsAnObject(t *testing.T) {
	ts := startServer(t, t.TempDir())
	ts.upload(t, "empty", nil)
	object, content, err := ts.download(t, whole("empty"))
	if err != nil || object.GetSizeBytes() != 0 || len(content) != 0 {
		t.Errorf("got %v with %d bytes, %v", object, len(content), err)
	}
}

func TestDownloadSendsTheRangeThatWasAskedFor(t *testing.T) {
	ts := startServer(t, t.TempDir())
	content := pattern(200_000)
	ts.upload(t, "o", content)
	for _, r := range []struct{ offset, limit, from, to int }{
		{0, 0, 0, 200_000},
		{0, 1, 0, 1},
		{65_535, 2, 65_535, 65_537}, // over the edge between two parts
		{65_536, 65_536, 65_536, 131_072},
		{199_999, 0, 199_999, 200_000},
		{199_999, 1000, 199_999, 200_000},
		{200_000, 0, 200_000, 200_000},
	} {
		request := whole("o")
		request.SetReadOffset(uint64(r.offset))
		request.SetReadLimit(uint64(r.limit))
		if _, got, err := ts.download(t, request); err != nil || !bytes.Equal(got, content[r.from:r.to]) {
			t.Errorf("offset %d limit %d: got %d bytes, %v; want %d to %d", r.offset, r.limit, len(got), err,
				r.from, r.to)
		}
	}
	request := whole("o")
	for _, offset := range []uint64{200_001, 1 << 63, 1<<64 - 1} {
		request.SetReadOffset(offset)
		_, _, err := ts.download(t, request)
		if size := apptest.WantStatus(t, err, codes.OutOfRange,
			"OUT_OF_RANGE")["size_bytes"]; size != "200000" {
			t.Errorf("offset %d: the details say the size is %q", offset, size)
		}
	}
}

func TestAnotherGenerationIsNeverMixedIn(t *testing.T) {
	ts := startServer(t, t.TempDir())
	first := ts.upload(t, "o", pattern(200_000))
	second := ts.upload(t, "o", pattern(100))
	if first.GetGeneration() == second.GetGeneration() {
		t.Fatal("two contents have the same generation")
	}
	request := whole("o")
	request.SetGeneration(first.GetGeneration())
	_, _, err := ts.download(t, request)
	apptest.WantStatus(t, err, codes.Aborted, "GENERATION_GONE")
}

func TestADownloadEndsWithAbortedWhenItsObjectGoes(t *testing.T) {
	for engine, start := range starts {
		ts := start(t)
		for what, remove := range map[string]func(t *testing.T){
			"replaced": func(t *testing.T) { ts.upload(t, "o", pattern(100)) },
			"deleted": func(t *testing.T) {
				request := quartetv1.DeleteObjectRequest_builder{Name: "o"}.Build()
				if _, err := ts.objects.DeleteObject(apptest.Deadline(t), request); err != nil {
					t.Fatal(err)
				}
			},
		} {
			for _, named := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s in %s, generation named: %v", what, engine, named), func(t *testing.T) {
					ts.downloadWhile(t, remove, named)
				})
			}
		}
	}
}

// downloadWhile removes an object in the middle of its download, after which no other end than
// ABORTED is right, and no byte that is not the object's.
func (ts *testServer) downloadWhile(t *testing.T, remove func(t *testing.T), named bool) {
	// More than all buffers between the two ends hold, so that the server is still reading when the
	// object goes.
	content := pattern(4 << 20)
	request := whole("o")
	object := ts.upload(t, "o", content)
	if named {
		request.SetGeneration(object.GetGeneration())
	}
	stream, err := ts.objects.DownloadObject(apptest.Deadline(t), request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	remove(t)
	received := 0
	for {
		reply, err := stream.Recv()
		if err != nil {
			apptest.WantStatus(t, err, codes.Aborted, "GENERATION_GONE")
			break
		}
		data := reply.GetChunk().GetData()
		if received+len(data) > len(content) || !bytes.Equal(data, content[received:received+len(data)]) {
			t.Fatalf("%d bytes at %d are not the object's", len(data), received)
		}
		received += len(data)
	}
	// A client that resumes with the generation gets the same error.
	request.SetGeneration(object.GetGeneration())
	request.SetReadOffset(uint64(received))
	_, _, err = ts.download(t, request)
	apptest.WantStatus(t, err, codes.Aborted, "GENERATION_GONE")
}

func TestNamesThatBreakTheRulesAreRefused(t *testing.T) {
	ts := startServer(t, t.TempDir())
	for what, name := range map[string]string{
		"empty":       "",
		"NUL":         "a\x00b",
		"newline":     "a\nb",
		"C1 control":  "a\u0085b",
		"129 bytes":   strings.Repeat("x", 129),
		"3 kB":        strings.Repeat("x", 3000),
		"65 × 2 byte": strings.Repeat("é", 65),
	} {
		t.Run(what, func(t *testing.T) {
			_, err := ts.objects.GetObject(apptest.Deadline(t), get(name))
			apptest.WantStatus(t, err, codes.InvalidArgument, "INVALID_NAME")
			_, err = ts.objects.DeleteObject(apptest.Deadline(t),
				quartetv1.DeleteObjectRequest_builder{Name: name}.Build())
			apptest.WantStatus(t, err, codes.InvalidArgument, "INVALID_NAME")
			_, _, err = ts.download(t, whole(name))
			apptest.WantStatus(t, err, codes.InvalidArgument, "INVALID_NAME")
			_, err = ts.send(t, header(uuid.NewString(), name))
			apptest.WantStatus(t, err, codes.InvalidArgument, "INVALID_NAME")
		})
	}
}

func TestNamesThatLookLikePathsAreJustNames(t *testing.T) {
	ts := startServer(t, t.TempDir())
	names := []string{"../../etc/passwd", "/", ".", "..", "a/b", "a", "C:\\x", "x.tmp", "x.attrs",
		"%2e%2e", strings.Repeat("x", 128), "日本語"}
	for _, name := range names {
		ts.upload(t, name, []byte(name))
	}
	page, err := ts.objects.ListObjects(apptest.Deadline(t), &quartetv1.ListObjectsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	listed := []string{}
	for _, o := range page.GetObjects() {
		listed = append(listed, o.GetName())
		if _, content, err := ts.download(t, whole(o.GetName())); err != nil ||
			string(content) != o.GetName() {
			t.Errorf("%q holds %q, %v", o.GetName(), content, err)
		}
	}
	slices.Sort(names)
	if !slices.Equal(listed, names) {
		t.Errorf("listed %q, want %q in byte order", listed, names)
	}
}

// rawCodec sends bytes as they are: what no generated client would send.
type rawCodec struct{ encoding.Codec }

func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawCodec) Unmarshal([]byte, any) error   { return nil }
func (rawCodec) Name() string                  { return "proto" }

func TestANameThatIsNotUTF8IsRefusedAtOnce(t *testing.T) {
	ts := startServer(t, t.TempDir())
	request := []byte{0x0a, 2, 0xff, 0xfe} // field 1, two bytes
	err := ts.Conn.Invoke(apptest.Deadline(t), quartetv1.ObjectService_GetObject_FullMethodName,
		request, new([]byte), grpc.ForceCodec(rawCodec{}))
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "UTF-8") ||
		rpc.Reason(err) != "UNDECODABLE" {
		t.Errorf("got %v", err)
	}
}

func TestAnUploadThatBreaksTheContractIsRefusedAndLeavesNothing(t *testing.T) {
	ts := startServer(t, t.TempDir(), "TEST_OBJECT_MAX_BYTES=1MiB")
	content := pattern(1000)
	wrongWhole := quartetv1.UploadObjectRequest_builder{Finish: quartetv1.UploadFinish_builder{Crc32C: new(uint32(1))}.Build()}.Build()
	wrongSHA := quartetv1.UploadObjectRequest_builder{Finish: quartetv1.UploadFinish_builder{Sha256: make([]byte, sha256.Size)}.Build()}.Build()
	shortSHA := quartetv1.UploadObjectRequest_builder{Finish: quartetv1.UploadFinish_builder{Sha256: []byte("short")}.Build()}.Build()
	wrongSize := quartetv1.UploadObjectRequest_builder{Finish: quartetv1.UploadFinish_builder{SizeBytes: new(uint64(999))}.Build()}.Build()
	tooLarge := header(uuid.NewString(), "o")
	tooLarge.GetHeader().SetSizeBytes(1 << 63)
	begin := func() *quartetv1.UploadObjectRequest { return header(uuid.NewString(), "o") }
	type requests = []*quartetv1.UploadObjectRequest
	for what, c := range map[string]struct {
		messages requests
		code     codes.Code
		reason   string
	}{
		"nothing at all":       {nil, codes.InvalidArgument, "MESSAGE_ORDER"},
		"no header":            {requests{chunk(0, content)}, codes.InvalidArgument, "MESSAGE_ORDER"},
		"two headers":          {requests{begin(), begin()}, codes.InvalidArgument, "MESSAGE_ORDER"},
		"an empty message":     {requests{begin(), {}}, codes.InvalidArgument, "MESSAGE_ORDER"},
		"upload id too short":  {requests{header("short", "o")}, codes.InvalidArgument, "INVALID_UPLOAD_ID"},
		"upload id with slash": {requests{header("../../../etc/passwd", "o")}, codes.InvalidArgument, "INVALID_UPLOAD_ID"},
		"empty chunk":          {requests{begin(), chunk(0, nil)}, codes.InvalidArgument, "EMPTY_CHUNK"},
		"chunk checksum":       {requests{begin(), chunkWithChecksum(0, content, 1)}, codes.InvalidArgument, "CHECKSUM_MISMATCH"},
		"gap at the start":     {requests{begin(), chunk(1, content)}, codes.OutOfRange, "OFFSET_MISMATCH"},
		"gap":                  {requests{begin(), chunk(0, content), chunk(1001, content)}, codes.OutOfRange, "OFFSET_MISMATCH"},
		"overlap":              {requests{begin(), chunk(0, content), chunk(999, content)}, codes.OutOfRange, "OFFSET_MISMATCH"},
		"whole checksum":       {requests{begin(), chunk(0, content), wrongWhole}, codes.InvalidArgument, "CHECKSUM_MISMATCH"},
		"whole SHA-256":        {requests{begin(), chunk(0, content), wrongSHA}, codes.InvalidArgument, "CHECKSUM_MISMATCH"},
		"SHA-256 of 5 bytes":   {requests{begin(), chunk(0, content), shortSHA}, codes.InvalidArgument, "INVALID_ARGUMENT"},
		"whole size":           {requests{begin(), chunk(0, content), wrongSize}, codes.InvalidArgument, "SIZE_MISMATCH"},
		"stated size too big":  {requests{tooLarge}, codes.ResourceExhausted, "OBJECT_TOO_LARGE"},
		"real size too big":    {requests{begin(), chunk(0, make([]byte, 600<<10)), chunk(600<<10, make([]byte, 600<<10))}, codes.ResourceExhausted, "OBJECT_TOO_LARGE"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := ts.send(t, c.messages...)
			apptest.WantStatus(t, err, c.code, c.reason)
			_, err = ts.objects.GetObject(apptest.Deadline(t), get("o"))
			apptest.WantStatus(t, err, codes.NotFound, "OBJECT_NOT_FOUND")
		})
	}
}

func TestAGapIsAnsweredWithTheRightOffset(t *testing.T) {
	ts := startServer(t, t.TempDir())
	_, err := ts.send(t, header(uuid.NewString(), "o"), chunk(0, pattern(1000)),
		chunk(5000, pattern(10)))
	if got := apptest.WantStatus(t, err, codes.OutOfRange,
		"OFFSET_MISMATCH")["committed_size_bytes"]; got != "1000" {
		t.Errorf("the details say %q, want 1000", got)
	}
}

func TestAMessageAboveTheLimitIsRefused(t *testing.T) {
	ts := startServer(t, t.TempDir())
	_, err := ts.send(t, header(uuid.NewString(), "o"), chunk(0, make([]byte, 4<<20)))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}

func TestAPausedUploadContinuesAfterARestartOfTheServer(t *testing.T) {
	dir, id, content := t.TempDir(), uuid.NewString(), pattern(150_000)
	ts := startServer(t, dir)
	paused, err := ts.send(t, header(id, "o"), chunk(0, content[:100_000]))
	if err != nil || paused.GetCommittedSizeBytes() != 100_000 || paused.HasObject() {
		t.Fatalf("got %v, %v", paused, err)
	}
	if err := ts.Stop(); err != nil {
		t.Fatal(err)
	}
	ts = startServer(t, dir)
	state, err := ts.objects.GetUpload(apptest.Deadline(t),
		quartetv1.GetUploadRequest_builder{UploadId: id}.Build())
	if err != nil || state.GetCommittedSizeBytes() != 100_000 || state.HasObject() {
		t.Fatalf("got %v, %v", state, err)
	}
	if _, err := ts.send(t, header(id, "o"), chunk(100_000, content[100_000:]),
		finish(content)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := ts.download(t, whole("o")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestAnUploadThatIsFinishedTwiceIsTheSameObject(t *testing.T) {
	ts := startServer(t, t.TempDir())
	id, content := uuid.NewString(), pattern(100_000)
	first, err := ts.send(t, header(id, "o"), chunk(0, content), finish(content))
	if err != nil {
		t.Fatal(err)
	}
	second, err := ts.send(t, header(id, "o"), finish(content))
	if err != nil || second.GetObject().GetGeneration() != first.GetObject().GetGeneration() {
		t.Errorf("got %v, %v; want generation %d again", second, err, first.GetObject().GetGeneration())
	}
	state, err := ts.objects.GetUpload(apptest.Deadline(t),
		quartetv1.GetUploadRequest_builder{UploadId: id}.Build())
	if err != nil || state.GetObject().GetGeneration() != first.GetObject().GetGeneration() {
		t.Errorf("the upload's state is %v, %v", state, err)
	}
}

func TestTheNewestWriterOfAnUploadWins(t *testing.T) {
	ts := startServer(t, t.TempDir())
	id, content := uuid.NewString(), pattern(100_000)
	// The older stream stays open and sends nothing, as one behind a half-open connection does.
	older, err := ts.objects.UploadObject(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*quartetv1.UploadObjectRequest{header(id, "o"), chunk(0, content[:70_000])} {
		if err := older.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	ts.awaitCommitted(t, id)
	newer, err := ts.objects.UploadObject(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := newer.Send(header(id, "o")); err != nil {
		t.Fatal(err)
	}
	apptest.WantStatus(t, older.RecvMsg(&quartetv1.UploadObjectResponse{}), codes.Aborted,
		"WRITER_REPLACED")
	state, err := ts.objects.GetUpload(apptest.Deadline(t),
		quartetv1.GetUploadRequest_builder{UploadId: id}.Build())
	if err != nil {
		t.Fatal(err)
	}
	at := int(state.GetCommittedSizeBytes())
	for _, m := range []*quartetv1.UploadObjectRequest{chunk(at, content[at:]), finish(content)} {
		if err := newer.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := newer.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	if _, got, err := ts.download(t, whole("o")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// awaitCommitted waits until the server has committed the first part of an upload.
func (ts *testServer) awaitCommitted(t *testing.T, id string) {
	t.Helper()
	ctx := apptest.Deadline(t)
	for {
		state, err := ts.objects.GetUpload(ctx, quartetv1.GetUploadRequest_builder{UploadId: id}.Build())
		if err == nil && state.GetCommittedSizeBytes() >= 65_536 {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("not committed in time: %v, %v", state, err)
		}
	}
}

func TestDeletedObjectsAreGone(t *testing.T) {
	ts := startServer(t, t.TempDir())
	object := ts.upload(t, "o", pattern(10))
	request := quartetv1.DeleteObjectRequest_builder{Name: "o", Generation: object.GetGeneration() +
		1}.Build()
	_, err := ts.objects.DeleteObject(apptest.Deadline(t), request)
	apptest.WantStatus(t, err, codes.Aborted, "GENERATION_GONE")
	request.SetGeneration(object.GetGeneration())
	if _, err := ts.objects.DeleteObject(apptest.Deadline(t), request); err != nil {
		t.Fatal(err)
	}
	request.SetGeneration(0)
	_, err = ts.objects.DeleteObject(apptest.Deadline(t), request)
	apptest.WantStatus(t, err, codes.NotFound, "OBJECT_NOT_FOUND")
	request.SetAllowMissing(true)
	if _, err := ts.objects.DeleteObject(apptest.Deadline(t), request); err != nil {
		t.Error(err)
	}
}

func TestListGoesThroughPagesInOrder(t *testing.T) {
	ts := startServer(t, t.TempDir())
	for i := range 25 {
		ts.upload(t, "n"+strconv.Itoa(100+i), nil)
	}
	ts.upload(t, "other", nil)
	request := quartetv1.ListObjectsRequest_builder{Prefix: "n", PageSize: 10}.Build()
	names := []string{}
	for {
		page, err := ts.objects.ListObjects(apptest.Deadline(t), request)
		if err != nil || len(page.GetObjects()) > 10 {
			t.Fatalf("got %v, %v", page, err)
		}
		for _, o := range page.GetObjects() {
			names = append(names, o.GetName())
		}
		if request.SetPageToken(page.GetNextPageToken()); request.GetPageToken() == "" {
			break
		}
	}
	if len(names) != 25 || !slices.IsSorted(names) {
		t.Errorf("got %q", names)
	}
	for _, wrong := range []*quartetv1.ListObjectsRequest{
		quartetv1.ListObjectsRequest_builder{PageSize: -1}.Build(),
		quartetv1.ListObjectsRequest_builder{PageToken: "../../x"}.Build(),
	} {
		_, err := ts.objects.ListObjects(apptest.Deadline(t), wrong)
		apptest.WantStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT")
	}
}
