package object

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/rpc"
)

func (ts *testServer) cancel(t *testing.T, id string, allowMissing bool) error {
	t.Helper()
	request := quartetv1.CancelUploadRequest_builder{UploadId: id, AllowMissing: allowMissing}.Build()
	_, err := ts.objects.CancelUpload(apptest.Deadline(t), request)
	return err
}

func TestACallerHasSoManyUnfinishedUploads(t *testing.T) {
	for what, start := range starts {
		t.Run(what, func(t *testing.T) {
			ts := start(t, "TEST_OBJECT_CALLER_UPLOADS=3")
			content := pattern(200_000)
			var ids []string
			begin := func() error {
				id := uuid.NewString()
				_, err := ts.send(t, header(id, "o"), chunk(0, content[:150_000]))
				if err == nil {
					ids = append(ids, id)
				}
				return err
			}
			for range 3 {
				if err := begin(); err != nil {
					t.Fatal(err)
				}
			}
			apptest.WantStatus(t, begin(), codes.ResourceExhausted, "TOO_MANY_UPLOADS")
			ts.wantNumbers(t, map[string]float64{"uploads_unfinished": 3})

			// What has begun continues, and what is finished or cancelled makes room.
			state, err := ts.objects.GetUpload(apptest.Deadline(t),
				quartetv1.GetUploadRequest_builder{UploadId: ids[0]}.Build())
			if err != nil {
				t.Fatal(err)
			}
			at := int(state.GetCommittedSizeBytes())
			if _, err := ts.send(t, header(ids[0], "o"), chunk(at, content[at:]),
				finish(content)); err != nil {
				t.Fatal(err)
			}
			if err := begin(); err != nil {
				t.Error(err)
			}
			if err := ts.cancel(t, ids[1], false); err != nil {
				t.Error(err)
			}
			if err := begin(); err != nil {
				t.Error(err)
			}
			apptest.WantStatus(t, begin(), codes.ResourceExhausted, "TOO_MANY_UPLOADS")
		})
	}
}

// A finish that does not match removes the upload.
func TestAnUploadThatIsDiscardedNoLongerCounts(t *testing.T) {
	for what, start := range starts {
		t.Run(what, func(t *testing.T) {
			ts := start(t, "TEST_OBJECT_CALLER_UPLOADS=1")
			content := pattern(200_000)
			for range 2 {
				_, err := ts.send(t, header(uuid.NewString(), "o"), chunk(0, content), finish(content[1:]))
				apptest.WantStatus(t, err, codes.InvalidArgument, "SIZE_MISMATCH")
			}
			ts.wantNumbers(t, map[string]float64{"uploads_unfinished": 0})
		})
	}
}

// A header alone is kept nowhere, however many there are.
func TestAnUploadThatIsOnlyAHeaderLeavesNothing(t *testing.T) {
	ts := startServer(t, t.TempDir())
	for range 50 {
		if _, err := ts.send(t, header(uuid.NewString(), "o")); err != nil {
			t.Fatal(err)
		}
	}
	ts.wantNumbers(t, map[string]float64{"uploads_unfinished": 0, "objects_stored_bytes": 0})
}

func TestCancelUploadRemovesAnUploadAndEndsItsStream(t *testing.T) {
	for what, start := range starts {
		t.Run(what, func(t *testing.T) {
			ts := start(t)
			id, content := uuid.NewString(), pattern(200_000)
			apptest.WantStatus(t, ts.cancel(t, "short", false), codes.InvalidArgument, "INVALID_UPLOAD_ID")
			apptest.WantStatus(t, ts.cancel(t, id, false), codes.NotFound, "UPLOAD_NOT_FOUND")
			if err := ts.cancel(t, id, true); err != nil {
				t.Error(err)
			}
			stream, err := ts.objects.UploadObject(apptest.Deadline(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range []*quartetv1.UploadObjectRequest{header(id, "o"), chunk(0, content)} {
				if err := stream.Send(m); err != nil {
					t.Fatal(err)
				}
			}
			ts.awaitCommitted(t, id)
			if err := ts.cancel(t, id, false); err != nil {
				t.Error(err)
			}
			apptest.WantStatus(t, stream.RecvMsg(&quartetv1.UploadObjectResponse{}), codes.Aborted,
				"WRITER_REPLACED")
			_, err = ts.objects.GetUpload(apptest.Deadline(t),
				quartetv1.GetUploadRequest_builder{UploadId: id}.Build())
			apptest.WantStatus(t, err, codes.NotFound, "UPLOAD_NOT_FOUND")
			if _, err := ts.send(t, header(id, "o"), chunk(0, content), finish(content)); err != nil {
				t.Fatal(err)
			}
			apptest.WantStatus(t, ts.cancel(t, id, true), codes.FailedPrecondition, "UPLOAD_FINISHED")
		})
	}
}

func TestACallerHasSoManyTransfersAtOnce(t *testing.T) {
	ts := startServer(t, t.TempDir(), "TEST_OBJECT_CALLER_TRANSFERS=2")
	ts.upload(t, "o", pattern(1000))
	first := ts.hold(t)
	ts.hold(t)
	ts.awaitReserved(t, func(n int64) bool { return n >= 2*ts.service.memory.upload })
	_, _, err := ts.download(t, whole("o"))
	apptest.WantStatus(t, err, codes.ResourceExhausted, "OVERLOADED")
	if rpc.RetryDelay(err) <= 0 {
		t.Errorf("%v does not say when to come back", err)
	}
	if _, err := first.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	apptest.Eventually(t, func() bool { _, _, err := ts.download(t, whole("o")); return err == nil },
		func() string { return "no transfer has become free" })
}

func TestListsOfOneCallerWaitForEachOtherAndAreRefusedBeyondAFew(t *testing.T) {
	ts := startServer(t, t.TempDir(), "TEST_OBJECT_LISTS=1")
	ts.upload(t, "o", pattern(10))
	l := ts.service.limits
	if !l.making.TryAcquire(1) {
		t.Fatal("a list is being made")
	}
	const more = 3
	ended := make(chan error, 1+listsWaiting+more)
	for range cap(ended) {
		go func() {
			_, err := ts.objects.ListObjects(apptest.Deadline(t), &quartetv1.ListObjectsRequest{})
			ended <- err
		}()
	}
	for range more {
		if err := <-ended; status.Code(err) != codes.ResourceExhausted || rpc.RetryDelay(err) <= 0 {
			t.Errorf("got %v", err)
		}
	}
	// One waits until it can be made, the others for that one.
	apptest.Eventually(t, func() bool { return l.lists.Waiting() == listsWaiting },
		func() string { return fmt.Sprint(l.lists.Waiting(), " wait") })
	l.making.Release(1)
	for range 1 + listsWaiting {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	apptest.Eventually(t, func() bool { return l.lists.Callers() == 0 },
		func() string { return "a list holds its caller's place" })
}

func TestALongListIsFollowedByAPauseBeforeTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(Config{Lists: 1}, prometheus.NewRegistry())
		release, err := l.list(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		release(1000)
		begun := time.Now()
		if release, err = l.list(t.Context()); err != nil {
			t.Fatal(err)
		}
		release(0)
		if waited := time.Since(begun); waited != 1000*namePause {
			t.Errorf("the next one waited for %v", waited)
		}
	})
}

// Parts of any size do not make an object that is expensive to look up.
func TestAnObjectOfManySmallPiecesIsLikeAnyOther(t *testing.T) {
	ts := startServer(t, t.TempDir())
	id, content := uuid.NewString(), pattern(300)
	for i := range content {
		if _, err := ts.send(t, header(id, "o"), chunk(i, content[i:i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ts.send(t, header(id, "o"), finish(content)); err != nil {
		t.Fatal(err)
	}
	object, got, err := ts.download(t, whole("o"))
	if err != nil || string(got) != string(content) || object.GetSizeBytes() != uint64(len(content)) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRequestsAreSmall(t *testing.T) {
	ts := startServer(t, t.TempDir())
	methods := quartetv1.File_quartet_v1_object_proto.Services().Get(0).Methods()
	for i := range methods.Len() {
		method := methods.Get(i)
		if method.IsStreamingClient() {
			continue
		}
		t.Run(string(method.Name()), func(t *testing.T) {
			// Each begins with a string.
			request, desc := wrapperspb.String(strings.Repeat("n", 8<<10)),
				&grpc.StreamDesc{ServerStreams: true}
			stream, err := ts.Conn.NewStream(apptest.Deadline(t), desc,
				fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(stream.SendMsg(request), stream.CloseSend()); err != nil {
				t.Fatal(err)
			}
			if err := stream.RecvMsg(&emptypb.Empty{}); status.Code(err) != codes.ResourceExhausted ||
				!strings.Contains(err.Error(), "accepts") {
				t.Errorf("got %v", err)
			}
		})
	}
}
