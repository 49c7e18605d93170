package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"example.com/quartet/server/object/store/s3test"
)

// setCredentials hides those of whoever runs the tests.
func setCredentials(t testing.TB, access, secret string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_CONFIG_FILE": os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
}

func openURL(t testing.TB, url string) *Store {
	t.Helper()
	setCredentials(t, testAccessKey, testSecretKey)
	s, err := Open(t.Context(), url, Options{PartSize: smallPart})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	b := s.bucket.(*s3Bucket)
	b.client = s3.New(b.client.Options(), func(o *s3.Options) {
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { // As ever, but without the pauses.
			o.MaxBackoff, o.RateLimiter = 50*time.Millisecond, ratelimit.None
		})
	})
	return s
}

// s3Services are those that a store can be opened at.
func s3Services(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("fake", func(t *testing.T) { test(t, newFakeS3(t).url()) })
	t.Run("versitygw", func(t *testing.T) { test(t, startGateway(t).url()) })
}

func TestWhatCannotBeOpenedIsExplainedWithoutSecrets(t *testing.T) {
	service, nobody := newFakeS3(t).Listener.Addr().String(), freeAddress(t)
	for what, test := range map[string]struct{ url, want string }{
		"no bucket":           {"s3://?region=us-east-1", "want s3://bucket"},
		"credentials":         {"s3://key:hush@quartet?region=us-east-1", "neither credentials"},
		"a path":              {"s3://quartet/folder?region=us-east-1", "nor a path"},
		"unknown parameter":   {s3test.URL(service, "quartet") + "&secret=hush", "secret"},
		"malformed parameter": {"s3://quartet?use_path_style=hush", "use_path_style"},
		"malformed role":      {"s3://quartet?role=hush", "role"},
		"slash in a secret":   {"s3://key:hush/hush@quartet", "cannot be read"},
		"digits and a slash":  {"s3://key:1/hush@quartet", "nor a path"},
		"malformed endpoint":  {"s3://quartet?region=us-east-1&endpoint=minio:9000", "endpoint has no scheme, expected http://host:port"},
		"port of endpoint":    {"s3://quartet?region=us-east-1&endpoint=http://key:hush@h:99999", "endpoint has a port that is no number"},
		"no host of endpoint": {"s3://quartet?region=us-east-1&endpoint=http://", "endpoint has no host"},
		"empty endpoint":      {"s3://quartet?region=us-east-1&endpoint=", "endpoint has no scheme"},
		"quoted endpoint":     {"s3://quartet?region=us-east-1&endpoint='http://h'", "endpoint has quotes"},
		"blank in endpoint":   {"s3://quartet?region=us-east-1&endpoint=http://h+h", "endpoint has blanks"},
		"endpoint of secrets": {s3test.URL("key:hush@"+service, "other"), "endpoint has credentials"},
		"port of bucket":      {"s3://quartet:7070?region=us-east-1", "want s3://bucket"},
		"separators":          {"s3://quartet?region=us-east-1;endpoint=http://h", "parameters that cannot be read"},
		"quotes":              {`"s3://quartet"`, "cannot be read"},
		"unknown scheme":      {"gs://quartet?key=hush", "no scheme that is known"},
		"no scheme":           {"quartet", "no scheme that is known"},
		"unreadable":          {"s3://key:hush@quartet:port", "cannot be read"},
		"no region":           {"s3://quartet?endpoint=http://" + service, "no region"},
		"unknown bucket":      {s3test.URL(service, "other"), "NoSuchBucket"},
		"nobody there":        {s3test.URL(nobody, "quartet"), "s3://quartet at http://" + nobody + ": store is unavailable"},
	} {
		t.Run(what, func(t *testing.T) {
			setCredentials(t, testAccessKey, testSecretKey)
			began := time.Now()
			_, err := Open(t.Context(), test.url, Options{})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("error = %v, want one with %q", err, test.want)
			}
			if strings.Contains(test.url, nobody) != errors.Is(err, ErrUnavailable) {
				t.Errorf("error = %v is taken for the wrong kind", err)
			}
			if took := time.Since(began); took > openTimeout {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestMissingCredentialsAreNoticedAtOnce(t *testing.T) {
	setCredentials(t, "", "")
	_, err := Open(t.Context(), newFakeS3(t).url(), Options{})
	if err == nil || !strings.Contains(err.Error(), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") {
		t.Errorf("error = %v", err)
	}
}

func TestWrongCredentialsAreNoticedAtOnce(t *testing.T) {
	g := startGateway(t)
	for _, wrong := range [][2]string{{testAccessKey, "hush"}, {"somebody", "hush"}} {
		setCredentials(t, wrong[0], wrong[1])
		_, err := Open(t.Context(), g.url(), Options{})
		if err == nil || errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "hush") {
			t.Errorf("error = %v", err)
		}
	}
}

func TestASilentStoreIsUnavailable(t *testing.T) {
	f := newFakeS3(t)
	s := openURL(t, f.url())
	f.Before = func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		_, _ = io.Copy(io.Discard, r.Body) // Or the server does not notice that its client has gone.
		<-r.Context().Done()
		return true
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errSlow)
	defer cancel()
	wantError(t, s.bucket.put(ctx, "key", nil), ErrUnavailable)
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := s.bucket.put(ctx, "key", nil)
	wantError(t, err, context.DeadlineExceeded)
	if errors.Is(err, ErrUnavailable) {
		t.Error("a caller without patience is taken for a store that is down")
	}
}

func TestAStoreThatAsksToComeBackLaterIsUnavailable(t *testing.T) {
	f := newFakeS3(t)
	s := openURL(t, f.url())
	var refusals, requests atomic.Int64
	var status, code = http.StatusServiceUnavailable, "SlowDown"
	f.Before = func(w http.ResponseWriter, r *http.Request, _ string) bool {
		requests.Add(1)
		if refusals.Add(-1) < 0 {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		s3test.Fail(w, status, code)
		return true
	}
	refusals.Store(1)
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("after one refusal: %v", err)
	}
	refusals.Store(100)
	wantError(t, s.Check(t.Context()), ErrUnavailable)

	status, code = http.StatusForbidden, "AccessDenied"
	if err := s.Check(t.Context()); err == nil || errors.Is(err, ErrUnavailable) {
		t.Errorf("access denied: %v", err)
	}
	status, code = http.StatusInsufficientStorage, "InsufficientStorage"
	_, err := s.OpenWriter(t.Context(), Header{UploadID: newID(), Name: "n"})
	wantError(t, err, ErrStoreFull)
	status, code = http.StatusNotFound, "NoSuchBucket"
	if _, err := s.Get(t.Context(), "n"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("a bucket that is gone: %v", err)
	}
}

// The service carries a request out, and its answer gets lost.
func TestALostAnswerDoesNotLoseAnUpload(t *testing.T) {
	f := newFakeS3(t)
	s := openURL(t, f.url())
	var requests atomic.Int64
	f.After = func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		if r.Method == http.MethodPut && requests.Add(1)%2 == 1 {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	data := randomBytes(t, 1500)
	upload(t, s, "n", data)
	if !bytes.Equal(download(t, s, "n"), data) {
		t.Error("the content differs")
	}
	wantKeys(t, s, partsFolder, 2)
}

// The loser of a conditional create asks who won, and gets no answer either, or one that comes too late.
func TestALostCreateIsExplainedByWhatIsThere(t *testing.T) {
	f := newFakeS3(t)
	s := openURL(t, f.url())
	status, code := http.StatusServiceUnavailable, "SlowDown"
	f.Before = func(w http.ResponseWriter, r *http.Request, _ string) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPut {
			s3test.Fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
		} else {
			s3test.Fail(w, status, code)
		}
		return true
	}
	err := s.bucket.create(t.Context(), "key", nil)
	wantError(t, err, errUnsure)
	wantError(t, err, ErrUnavailable)
	status, code = http.StatusNotFound, "NoSuchKey"
	wantError(t, s.bucket.create(t.Context(), "key", nil), errExists)
}

func TestTwoStoresShareABucket(t *testing.T) {
	s3Services(t, func(t *testing.T, url string) {
		one, two := openURL(t, url), openURL(t, url)
		data, h := randomBytes(t, 3700), Header{UploadID: newID(), Name: "n"}
		w := openWriter(t, one, h)
		send(t, w, data[:2300], 0)
		if _, err := w.Pause(); err != nil {
			t.Fatal(err)
		}
		wantCommitted(t, two, h.UploadID, 2300)
		newer := openWriter(t, two, h)
		send(t, newer, data, 2300)
		object := finish(t, newer, Expect{SHA256: sum(data)})
		_ = w.Close()
		if again := finish(t, openWriter(t, one, h), Expect{}); !sameObject(again, object) {
			t.Errorf("the other store has %+v, want %+v", again, object)
		}
		if !bytes.Equal(download(t, one, "n"), data) {
			t.Error("the content differs")
		}
	})
}

// Stores that replace one object all the time lose no part of what is visible and keep no other, because each change of
// the manifest is made by one of them, who then removes what it replaced.
func TestStoresThatCompeteForANameLeaveNothingBehind(t *testing.T) {
	s3Services(t, func(t *testing.T, url string) {
		compete(t, url, func(*Store) {})
		wantKeys(t, openURL(t, url), partsFolder, 2)
	})
}

func TestStoresThatReplaceAndDeleteLeaveNothingBehind(t *testing.T) {
	s3Services(t, func(t *testing.T, url string) {
		compete(t, url, func(s *Store) {
			if err := s.Delete(context.Background(), "n", 0); err != nil && !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		})
		s := openURL(t, url)
		if _, err := s.Get(t.Context(), "n"); err == nil {
			wantKeys(t, s, partsFolder, 2)
			download(t, s, "n")
			return
		}
		wantKeys(t, s, partsFolder, 0)
	})
}

// compete uploads the same name from several stores at once, with something else after each upload.
func compete(t *testing.T, url string, then func(s *Store)) {
	t.Helper()
	var group sync.WaitGroup
	for i := range 3 {
		s := openURL(t, url)
		group.Go(func() {
			for range 8 {
				if _, err := tryUpload(s, "n", bytes.Repeat([]byte{byte(i)}, 1500)); err != nil {
					t.Error(err)
				}
				then(s)
			}
		})
	}
	group.Wait()
}

func tryUpload(s *Store, name string, data []byte) (Object, error) {
	w, err := s.OpenWriter(context.Background(), Header{UploadID: newID(), Name: name})
	if err != nil {
		return Object{}, err
	}
	defer w.Close()
	if err := trySend(w, data, 0); err != nil {
		return Object{}, err
	}
	return w.Finish(Expect{})
}

// The first finisher of an upload died after the manifest. The upload is finished again, while the object is replaced or
// deleted elsewhere, and must not come back.
func TestAFinishThatIsOvertakenElsewhereBringsNothingBack(t *testing.T) {
	for what, overtake := range map[string]func(t *testing.T, s *Store){
		"replaced": func(t *testing.T, s *Store) { upload(t, s, "n", []byte("second")) },
		"deleted": func(t *testing.T, s *Store) {
			if err := s.Delete(t.Context(), "n", 0); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFakeS3(t)
			s, elsewhere, h := openURL(t, f.url()), openURL(t, f.url()), Header{UploadID: newID(), Name: "n"}
			w := openWriter(t, s, h)
			send(t, w, []byte("first"), 0)
			first := finish(t, w, Expect{})
			if err := s.bucket.delete(t.Context(), completeKey(h.UploadID, first.Generation)); err != nil {
				t.Fatal(err)
			}
			var once sync.Once
			f.Before = func(_ http.ResponseWriter, r *http.Request, key string) bool {
				if r.Method == http.MethodPut && key == manifestKey("n") {
					once.Do(func() { overtakeInside(f, func() { overtake(t, elsewhere) }) })
				}
				return false
			}
			// The records have gone with the first finish, so only the seal's work is repeated.
			p := &progress{id: h.UploadID, header: &uploadHeader{Name: "n", Generation: first.Generation}, seal: &seal{Object: &first}}
			m, err := s.readManifest(t.Context(), "n")
			if err != nil {
				t.Fatal(err)
			}
			if err := s.publish(t.Context(), p, m.Parts); err != nil {
				t.Fatal(err)
			}
			if what == "deleted" {
				wantAbsent(t, s, "n")
				wantKeys(t, s, partsFolder, 0)
			} else if got := download(t, s, "n"); string(got) != "second" {
				t.Errorf("content = %q", got)
			}
		})
	}
}

// overtakeInside runs f while a request waits, without the hook.
func overtakeInside(f fakeS3, run func()) {
	f.Before = nil
	run()
}

func TestAnUploadOutlivesTheServiceThatIsKilled(t *testing.T) {
	g := startGateway(t)
	s := openURL(t, g.url())
	data, h := randomBytes(t, 5500), Header{UploadID: newID(), Name: "n"}
	w := openWriter(t, s, h)
	send(t, w, data[:2500], 0)
	g.kill()
	began := time.Now()
	wantError(t, trySend(w, data, 2500), ErrUnavailable)
	wantError(t, s.Check(t.Context()), ErrUnavailable)
	_, err := s.GetUpload(t.Context(), h.UploadID)
	wantError(t, err, ErrUnavailable)
	_ = w.Close()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("four failures took %v", took)
	}

	if err := g.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w = openWriter(t, s, h)
	if w.Committed() != 2000 {
		t.Errorf("Committed = %d", w.Committed())
	}
	send(t, w, data, w.Committed())
	finish(t, w, Expect{SHA256: sum(data)})
	wantKeys(t, s, partsFolder, 6)
}

func TestAnUploadOutlivesTheServiceThatReturnsSoon(t *testing.T) {
	g := startGateway(t)
	s := openURL(t, g.url())
	b := s.bucket.(*s3Bucket)
	b.client = s3.New(b.client.Options(), func(o *s3.Options) { // The pauses are random, so a few more of them.
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.RateLimiter = 20, ratelimit.None })
	})
	data := randomBytes(t, 2500)
	w := openWriter(t, s, Header{UploadID: newID(), Name: "n"})
	send(t, w, data[:1500], 0)
	g.kill()
	var group sync.WaitGroup
	group.Go(func() {
		time.Sleep(50 * time.Millisecond)
		if err := g.start(t.Context()); err != nil {
			t.Error(err)
		}
	})
	send(t, w, data, 1500)
	group.Wait()
	finish(t, w, Expect{SHA256: sum(data)})
}

func TestADownloadIsCutWithItsService(t *testing.T) {
	setCredentials(t, testAccessKey, testSecretKey)
	g := startGateway(t)
	s, err := Open(t.Context(), g.url(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	data := randomBytes(t, 6<<20)
	w := openWriter(t, s, Header{UploadID: newID(), Name: "n"})
	send(t, w, data, 0)
	finish(t, w, Expect{})
	r, err := s.OpenReader(t.Context(), "n", 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	g.kill()
	n, err := io.Copy(io.Discard, r)
	wantError(t, err, ErrUnavailable)
	if err := g.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	rest, err := s.OpenReader(t.Context(), "n", 0, 1000+n, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rest.Close()
	if got, err := io.ReadAll(rest); err != nil || !bytes.Equal(got, data[1000+n:]) {
		t.Errorf("the rest has %d bytes, %v", len(got), err)
	}
}

// TestWhatTheSDKFindsOddIsLogged expects the lines of the SDK in the log, of which there may be one for each answer.
func TestWhatTheSDKFindsOddIsLogged(t *testing.T) {
	setCredentials(t, testAccessKey, testSecretKey)
	service := newFakeS3(t)
	service.Before = func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		w.Header().Set("Date", "soon")
		return false
	}
	var log strings.Builder
	s, err := Open(t.Context(), service.url(), Options{PartSize: smallPart, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	if !strings.Contains(log.String(), "level=WARN msg=S3") || !strings.Contains(log.String(), "soon") {
		t.Errorf("the log has %q", &log)
	}
}
