package object

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

const (
	alice   = "spiffe://example.com/alice"
	mallory = "spiffe://example.com/mallory"
	admin   = "spiffe://example.com/admin"
)

// owned is a server whose callers each have a prefix of names, or all.
type owned struct {
	*testServer
	authority   *apptest.Authority
	permissions string
}

func newOwned(t *testing.T) *owned {
	t.Helper()
	return &owned{
		authority: apptest.NewAuthority(t), permissions: filepath.Join(t.TempDir(), "permissions.json"),
	}
}

func startOwned(t *testing.T, start func(*testing.T, ...string) *testServer, env ...string) *owned {
	t.Helper()
	o := newOwned(t)
	o.permit(t, alice, "shop/*")
	o.testServer = start(t, append(append(o.authority.Settings(t),
		"TEST_RPC_PERMISSIONS_FILE="+o.permissions), env...)...)
	return o
}

// permit lets one of the callers use what a pattern says.
func (o *owned) permit(t *testing.T, caller, pattern string) {
	t.Helper()
	service := []string{"quartet.v1.ObjectService/*"}
	apptest.Permit(t, o.permissions,
		apptest.Rule{Callers: []string{"uri:" + caller}, Methods: service,
			Names: map[string][]string{"object": {pattern}}},
		apptest.Rule{Callers: []string{"uri:" + mallory}, Methods: service,
			Names: map[string][]string{"object": {"shopping/*", "exact"}}},
		apptest.Rule{Callers: []string{"uri:" + admin}, Methods: service})
}

// as is the server for a caller.
func (o *owned) as(t *testing.T, caller string) *testServer {
	t.Helper()
	ts := *o.testServer
	ts.objects = quartetv1.NewObjectServiceClient(o.authority.Dial(t, o.Address, caller))
	return &ts
}

// pause uploads the beginning of an object and returns the id.
func (ts *testServer) pause(t *testing.T, name string) string {
	t.Helper()
	id := uuid.NewString()
	if _, err := ts.send(t, header(id, name), chunk(0, pattern(70_000))); err != nil {
		t.Fatal(err)
	}
	return id
}

func (ts *testServer) state(t *testing.T, id string) (*quartetv1.GetUploadResponse, error) {
	t.Helper()
	return ts.objects.GetUpload(apptest.Deadline(t),
		quartetv1.GetUploadRequest_builder{UploadId: id}.Build())
}

func list(prefix, token string) *quartetv1.ListObjectsRequest {
	return quartetv1.ListObjectsRequest_builder{Prefix: prefix, PageSize: 1, PageToken: token}.Build()
}

// calls has one of each RPC with a name, or with an upload that was begun under it.
var calls = map[string]func(t *testing.T, ts *testServer, name, id string) error{
	"GetObject": func(t *testing.T, ts *testServer, name, _ string) error {
		_, err := ts.objects.GetObject(apptest.Deadline(t), get(name))
		return err
	},
	"ListObjects": func(t *testing.T, ts *testServer, name, _ string) error {
		_, err := ts.objects.ListObjects(apptest.Deadline(t), list(name, ""))
		return err
	},
	"DeleteObject": func(t *testing.T, ts *testServer, name, _ string) error {
		_, err := ts.objects.DeleteObject(apptest.Deadline(t),
			quartetv1.DeleteObjectRequest_builder{Name: name, AllowMissing: true}.Build())
		return err
	},
	"GetUpload": func(t *testing.T, ts *testServer, _, id string) error {
		_, err := ts.state(t, id)
		return err
	},
	"CancelUpload": func(t *testing.T, ts *testServer, _, id string) error {
		return ts.cancel(t, id, true)
	},
	"DownloadObject": func(t *testing.T, ts *testServer, name, _ string) error {
		_, _, err := ts.download(t, whole(name))
		return err
	},
	"UploadObject": func(t *testing.T, ts *testServer, name, _ string) error {
		_, err := ts.send(t, header(uuid.NewString(), name), finish(nil))
		return err
	},
}

func TestObjectsBelongToTheCallersThatMayUseTheirNames(t *testing.T) {
	methods := quartetv1.File_quartet_v1_object_proto.Services().ByName("ObjectService").Methods()
	for i := range methods.Len() {
		if calls[string(methods.Get(i).Name())] == nil {
			t.Errorf("%s is not tried", methods.Get(i).Name())
		}
	}
	for engine, start := range starts {
		t.Run(engine, func(t *testing.T) {
			o := startOwned(t, start)
			all := o.as(t, admin)
			for caller, names := range map[string]struct{ own, foreign []string }{
				alice:   {[]string{"shop/kept"}, []string{"shopping/kept", "shop", "exact", "Shop/kept"}},
				mallory: {[]string{"shopping/kept"}, []string{"shop/kept", "exactly", "exac", "shoppin"}},
			} {
				ts := o.as(t, caller)
				for method, call := range calls {
					for _, name := range names.foreign {
						content := pattern(1000)
						generation := all.upload(t, name, content).GetGeneration()
						id := all.pause(t, name)
						there := call(t, ts, name, id)
						apptest.WantStatus(t, there, codes.PermissionDenied, "NOT_PERMITTED")
						if strings.Contains(there.Error(), name) {
							t.Errorf("%s tells the name: %v", method, there)
						}
						object, got, err := all.download(t, whole(name))
						if err != nil || object.GetGeneration() != generation || !bytes.Equal(got, content) {
							t.Errorf("after %s of %q: %v, %v", method, name, object, err)
						}
						if state, err := all.state(t, id); err != nil || state.GetCommittedSizeBytes() == 0 {
							t.Errorf("after %s of %q: %v, %v", method, name, state, err)
						}
						if method == "GetUpload" || method == "CancelUpload" {
							continue // Without an upload there is no name.
						}
						if _, err := all.objects.DeleteObject(apptest.Deadline(t),
							quartetv1.DeleteObjectRequest_builder{Name: name}.Build()); err != nil {
							t.Fatal(err)
						}
						if gone := call(t, ts, name, id); gone.Error() != there.Error() {
							t.Errorf("%s tells whether there is such an object: %v, or %v", method, there, gone)
						}
					}
					for _, name := range names.own {
						own := name
						if method == "ListObjects" {
							own = strings.TrimSuffix(name, "kept")
						}
						all.upload(t, name, nil)
						if err := call(t, ts, own, ts.pause(t, name)); err != nil {
							t.Errorf("%s of %q: %v", method, own, err)
						}
					}
				}
			}
			_, err := o.as(t, mallory).state(t, uuid.NewString())
			apptest.WantStatus(t, err, codes.NotFound, "UPLOAD_NOT_FOUND")
		})
	}
}

// claimed tells whether a stream has begun an upload under a name.
func (l *leases) claimed(id, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.uploads[id] != nil && l.uploads[id].name == name
}

// TestAnUploadIsNotTakenByAStreamWithAnotherName has a stream that knows the id of an upload begin
// it under a name of its own, and stay.
func TestAnUploadIsNotTakenByAStreamWithAnotherName(t *testing.T) {
	for engine, start := range starts {
		t.Run(engine, func(t *testing.T) {
			o := startOwned(t, start)
			owner, other := o.as(t, alice), o.as(t, mallory)
			for what, use := range map[string]func(id string) error{
				"continues": func(id string) error {
					state, err := owner.state(t, id)
					if err != nil {
						return err
					}
					at, content := int(state.GetCommittedSizeBytes()), pattern(100_000)
					_, err = owner.send(t, header(id, "shop/kept"), chunk(at, content[at:]), finish(content))
					return err
				},
				"is cancelled": func(id string) error { return owner.cancel(t, id, false) },
			} {
				id := owner.pause(t, "shop/kept")
				stream, err := other.objects.UploadObject(apptest.Deadline(t))
				if err != nil {
					t.Fatal(err)
				}
				for _, message := range []*quartetv1.UploadObjectRequest{
					header(id, "shopping/kept"), chunk(0, pattern(10)),
				} {
					if err := stream.Send(message); err != nil && !errors.Is(err, io.EOF) {
						t.Fatal(err)
					}
				}
				ended := make(chan error, 1)
				go func() { ended <- stream.RecvMsg(new(quartetv1.UploadObjectResponse)) }()
				for !o.service.leases.claimed(id, "shopping/kept") && len(ended) == 0 {
					time.Sleep(time.Millisecond)
				}
				if err := use(id); err != nil {
					t.Errorf("it %s: %v", what, err)
				}
				err = <-ended
				if code := status.Code(err); code != codes.Aborted && code != codes.InvalidArgument {
					t.Errorf("the other stream ended with %v", err)
				}
			}
		})
	}
}

// TestAnUploadThatIsGoneCanBeCancelledByAnyCaller cancels what is not there, so that there is no
// name to ask for.
func TestAnUploadThatIsGoneCanBeCancelledByAnyCaller(t *testing.T) {
	for engine, start := range starts {
		t.Run(engine, func(t *testing.T) {
			ts := startOwned(t, start).as(t, alice)
			if err := ts.cancel(t, uuid.NewString(), true); err != nil {
				t.Error(err)
			}
			if err := ts.cancel(t, uuid.NewString(), false); status.Code(err) != codes.NotFound {
				t.Error(err)
			}
		})
	}
}

// TestAFinishedUploadIsNotToldToOthers has a caller ask by the id of another one's upload.
func TestAFinishedUploadIsNotToldToOthers(t *testing.T) {
	for engine, start := range starts {
		t.Run(engine, func(t *testing.T) {
			o := startOwned(t, start)
			id := uuid.NewString()
			if _, err := o.as(t, alice).send(t, header(id, "shop/o"), finish(nil)); err != nil {
				t.Fatal(err)
			}
			ts := o.as(t, mallory)
			_, err := ts.state(t, id)
			apptest.WantStatus(t, err, codes.PermissionDenied, "NOT_PERMITTED")
			apptest.WantStatus(t, ts.cancel(t, id, true), codes.PermissionDenied, "NOT_PERMITTED")
		})
	}
}

// TestTheIDOfAnotherOnesUploadDisturbsNothing has a caller use it under a name of its own, while
// the other one sends.
func TestTheIDOfAnotherOnesUploadDisturbsNothing(t *testing.T) {
	for engine, start := range starts {
		t.Run(engine, func(t *testing.T) {
			o := startOwned(t, start)
			id, content := uuid.NewString(), pattern(200_000)
			stream, err := o.as(t, alice).objects.UploadObject(apptest.Deadline(t))
			if err != nil {
				t.Fatal(err)
			}
			send := func(messages ...*quartetv1.UploadObjectRequest) {
				t.Helper()
				for _, m := range messages {
					if err := stream.Send(m); err != nil {
						t.Fatal(err)
					}
				}
			}
			send(header(id, "shop/o"), chunk(0, content[:150_000]))
			o.as(t, alice).awaitCommitted(t, id)

			ts := o.as(t, mallory)
			_, err = ts.send(t, header(id, "shopping/o"), chunk(0, content), finish(content))
			apptest.WantStatus(t, err, codes.InvalidArgument, "UPLOAD_MISMATCH")
			_, err = ts.send(t, header(id, "shop/o"), chunk(0, content), finish(content))
			apptest.WantStatus(t, err, codes.PermissionDenied, "NOT_PERMITTED")
			apptest.WantStatus(t, ts.cancel(t, id, true), codes.PermissionDenied, "NOT_PERMITTED")

			send(chunk(150_000, content[150_000:]), finish(content))
			if _, err := stream.CloseAndRecv(); err != nil {
				t.Fatal(err)
			}
			if _, got, err := o.as(t, alice).download(t, whole("shop/o")); err != nil ||
				!bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

func TestAListShowsNoForeignNames(t *testing.T) {
	o := startOwned(t, starts["folder"])
	all := o.as(t, admin)
	for _, name := range []string{"shop/a", "shop/b", "shop/c", "shopping/a", "shopping/b", "shoq", "sho"} {
		all.upload(t, name, nil)
	}
	page := func(ts *testServer, prefix, token string) (*quartetv1.ListObjectsResponse, error) {
		return ts.objects.ListObjects(apptest.Deadline(t), list(prefix, token))
	}
	ts := o.as(t, alice)
	var names []string
	token := ""
	for first := true; first || token != ""; first = false {
		reply, err := page(ts, "shop/", token)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range reply.GetObjects() {
			names = append(names, object.GetName())
		}
		token = reply.GetNextPageToken()
	}
	if got := strings.Join(names, " "); got != "shop/a shop/b shop/c" {
		t.Errorf("listed are %s", got)
	}
	for _, prefix := range []string{"", "s", "shop", "shopping/", "sho"} {
		_, err := page(ts, prefix, "")
		apptest.WantStatus(t, err, codes.PermissionDenied, "NOT_PERMITTED")
	}
	reply, err := page(all, "shop", "")
	if err != nil {
		t.Fatal(err)
	}
	// A token says where to go on, and neither a given nor a made one leads out of the prefix.
	_, err = page(ts, "shop", reply.GetNextPageToken())
	apptest.WantStatus(t, err, codes.PermissionDenied, "NOT_PERMITTED")
	for _, after := range []string{"shop", "shopping/a", "a"} {
		_, err = page(ts, "shop/", base64.RawURLEncoding.EncodeToString([]byte(after)))
		apptest.WantStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT")
	}
	reply, err = page(ts, "shop/", base64.RawURLEncoding.EncodeToString([]byte("shop/\U0010ffff")))
	if err != nil || len(reply.GetObjects()) > 0 {
		t.Errorf("behind the last name are %v, %v", reply.GetObjects(), err)
	}
}

// TestOpenTransfersEndWhenTheirNameIsWithdrawn has an upload and a download that are under way end,
// and the upload go on once it may.
func TestOpenTransfersEndWhenTheirNameIsWithdrawn(t *testing.T) {
	o := startOwned(t, starts["folder"])
	ts, content := o.as(t, alice), pattern(8<<20)
	ts.upload(t, "shop/large", content)
	id := uuid.NewString()
	upload, err := ts.objects.UploadObject(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*quartetv1.UploadObjectRequest{header(id, "shop/o"), chunk(0, content[:70_000])} {
		if err := upload.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	ts.awaitCommitted(t, id)
	download, err := ts.objects.DownloadObject(apptest.Deadline(t), whole("shop/large"))
	if err == nil {
		_, err = download.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	o.permit(t, alice, "other/*")
	apptest.WantStatus(t, upload.RecvMsg(&quartetv1.UploadObjectResponse{}), codes.PermissionDenied,
		"NOT_PERMITTED")
	for err = nil; err == nil; {
		_, err = download.Recv()
	}
	if errors.Is(err, io.EOF) {
		t.Fatal("the download has come to its end")
	}
	apptest.WantStatus(t, err, codes.PermissionDenied, "NOT_PERMITTED")

	o.permit(t, alice, "shop/*")
	apptest.Eventually(t, func() bool { _, err = ts.state(t, id); return err == nil },
		func() string { return err.Error() })
	state, err := ts.state(t, id)
	if err != nil || state.GetCommittedSizeBytes() < 65_536 {
		t.Errorf("what was committed is %v, %v", state, err)
	}
}

// TestNamesHoldOnTheWebPort asks as a page does.
func TestNamesHoldOnTheWebPort(t *testing.T) {
	o := startOwned(t, starts["folder"], "TEST_WEB_ADDRESS=127.0.0.1:0")
	o.as(t, alice).upload(t, "shop/o", nil)
	for _, c := range []struct {
		caller, method, request string
		status                  int
	}{
		{alice, "GetObject", `{"name": "shop/o"}`, http.StatusOK},
		{mallory, "GetObject", `{"name": "shop/o"}`, http.StatusForbidden},
		{alice, "ListObjects", `{"prefix": "shop/"}`, http.StatusOK},
		{alice, "ListObjects", `{}`, http.StatusForbidden},
		{mallory, "DeleteObject", `{"name": "shop/o"}`, http.StatusForbidden},
	} {
		transport := &http.Transport{TLSClientConfig: o.authority.Client(t, c.caller)}
		t.Cleanup(transport.CloseIdleConnections)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			"https://"+o.Web+"/quartet.v1.ObjectService/"+c.method, strings.NewReader(c.request))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != c.status {
			t.Errorf("%s of %s: %d, %s, %v", c.method, c.caller, response.StatusCode, body, err)
		}
	}
}

// TestAMistakeInNamesEndsTheStart names the kinds that there are.
func TestAMistakeInNamesEndsTheStart(t *testing.T) {
	o := newOwned(t)
	apptest.WritePermissions(t, o.permissions,
		`{"allow": [{"callers": ["*"], "methods": ["*"], "names": {"objects": ["a/*"]}}]}`)
	_, err := app.Server{Identity: apptest.Identity, Services: []app.Service{Service()}}.Open(
		t.Context(), apptest.Environ(append(environment(t.TempDir(), o.authority.Settings(t)...),
			"TEST_RPC_PERMISSIONS_FILE="+o.permissions)...), telemetry.Discard())
	if err == nil || !strings.Contains(err.Error(), `names: kind "objects" is none of object`) {
		t.Errorf("got %v", err)
	}
}
