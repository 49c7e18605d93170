package object_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/client/object"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/console"
	"example.com/quartet/internal/crc32c"
	"example.com/quartet/internal/porttest"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// panel is this service's panel in a console.
type panel struct {
	t   *testing.T
	api string // http://host:port/panels/object/api/
}

// openPanel serves a console in front of a server, with a panel.
func openPanel(t *testing.T, server string, environ ...string) *panel {
	t.Helper()
	return panelBy(t, clienttest.Dial(t, telemetry.Discard(), server, objectService()), environ...)
}

func objectService() protoreflect.ServiceDescriptor {
	return quartetv1.File_quartet_v1_object_proto.Services().ByName("ObjectService")
}

// panelBy is openPanel by a connection.
func panelBy(t *testing.T, conn *grpc.ClientConn, environ ...string) *panel {
	t.Helper()
	tele := telemetry.Discard()
	p, err := object.Service().Panel(cli.Connection{
		Conn: conn, Telemetry: tele, Resumption: clienttest.FewRetries(),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Name = "object"
	var cfg console.Config
	if err := config.Load("TEST_", environ, config.Group{Into: &cfg}); err != nil {
		t.Fatal(err)
	}
	address := clienttest.ServeConsole(t, console.Options{
		Config: cfg, Product: "test", Telemetry: telemetry.Discard(), Peers: console.NewPeers(),
		Panels: []console.Panel{p},
	})
	return &panel{t, "http://" + address + "/panels/object/api/"}
}

// object is where an object of a name is.
func (p *panel) object(name string) string { return p.api + "objects/" + url.PathEscape(name) }

// do makes a request and reads the answer.
func (p *panel) do(
	method, address string,
	body io.Reader,
	header map[string]string,
) (*http.Response, []byte) {
	p.t.Helper()
	response, content, err := p.try(method, address, body, header)
	if err != nil {
		p.t.Fatal(err)
	}
	return response, content
}

func (p *panel) try(
	method, address string,
	body io.Reader,
	header map[string]string,
) (*http.Response, []byte, error) {
	p.t.Helper()
	return p.tryWith(clienttest.Deadline(p.t), method, address, body, header)
}

func (p *panel) tryWith(
	ctx context.Context,
	method, address string,
	body io.Reader,
	header map[string]string,
) (*http.Response, []byte, error) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		p.t.Fatal(err)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response, content, err
}

func (p *panel) put(name string, content []byte) http.Header {
	p.t.Helper()
	response, text := p.do("PUT", p.object(name), bytes.NewReader(content), nil)
	if response.StatusCode/100 != 2 {
		p.t.Fatalf("%s: %s", response.Status, text)
	}
	return response.Header
}

func wantCode(t *testing.T, response *http.Response, body []byte, code int) {
	t.Helper()
	if response.StatusCode != code {
		t.Errorf("got %s in place of %d: %.300s", response.Status, code, body)
	}
}

func digest(content []byte) string {
	sum := binary.BigEndian.AppendUint32(nil, crc32c.Checksum(content))
	return "crc32c=:" + base64.StdEncoding.EncodeToString(sum) + ":"
}

func TestPanelDownloads(t *testing.T) {
	p := openPanel(t, processtest.Start(t, small...).Address)
	content := clienttest.Random(7, 1<<20)
	tag := p.put("a/b c", content).Get("ETag")
	for _, c := range []struct {
		what, method string
		header       map[string]string
		code         int
		want         []byte
	}{
		{"the whole", "GET", nil, 200, content},
		{"a range", "GET", map[string]string{"Range": "bytes=1000-299999"}, 206, content[1000:300000]},
		{"the last bytes", "GET", map[string]string{"Range": "bytes=-10"}, 206, content[1<<20-10:]},
		{"the rest", "GET", map[string]string{"Range": "bytes=1048575-"}, 206, content[1<<20-1:]},
		{"a range beyond the end", "GET", map[string]string{"Range": "bytes=1048576-"}, 416, nil},
		{"a range that is none", "GET", map[string]string{"Range": "bytes=9-1"}, 416, nil},
		{"several ranges", "GET", map[string]string{"Range": "bytes=0-1,4-5"}, 200, content},
		{"nothing, of HEAD", "HEAD", nil, 200, []byte{}},
		{"a range if it is the same", "GET", map[string]string{"Range": "bytes=0-0", "If-Range": tag}, 206, content[:1]},
		{"all if it is another", "GET", map[string]string{"Range": "bytes=0-0", "If-Range": `"x"`}, 200, content},
		{"nothing that the peer has", "GET", map[string]string{"If-None-Match": tag}, 304, []byte{}},
		{"what the peer has not", "GET", map[string]string{"If-None-Match": `"x"`}, 200, content},
		{"no other than wanted", "GET", map[string]string{"If-Match": `"x"`}, 412, []byte{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			response, got := p.do(c.method, p.object("a/b c"), nil, c.header)
			wantCode(t, response, got, c.code)
			if c.want != nil && !bytes.Equal(got, c.want) {
				t.Errorf("got %d bytes", len(got))
			}
			if c.code == 200 && (response.ContentLength != 1<<20 || response.Header.Get("ETag") != tag ||
				!strings.Contains(response.Header.Get("Repr-Digest"), digest(content))) {
				t.Errorf("got %d bytes, %v", response.ContentLength, response.Header)
			}
		})
	}
	t.Run("names that a path cannot have", func(t *testing.T) {
		for _, name := range []string{"..", "a//b", "ä?#%2F"} {
			address := p.api + "objects/?name=" + url.QueryEscape(name)
			if r, b := p.do("PUT", address, strings.NewReader(name),
				nil); r.StatusCode != http.StatusCreated {
				t.Errorf("%q: %s %s", name, r.Status, b)
			}
			if r, b := p.do("GET", address, nil, nil); r.StatusCode != http.StatusOK || string(b) != name {
				t.Errorf("%q: %s %s", name, r.Status, b)
			}
			if r, b := p.do("DELETE", address, nil, nil); r.StatusCode != http.StatusNoContent {
				t.Errorf("%q: %s %s", name, r.Status, b)
			}
			r, b := p.do("GET", address, nil, nil)
			wantCode(t, r, b, 404)
		}
	})
	t.Run("the list", func(t *testing.T) {
		r, b := p.do("GET", p.api+"objects/?prefix=a", nil, nil)
		wantCode(t, r, b, 200)
		if !strings.Contains(string(b), `"name":"a/b c","size_bytes":"1048576"`) {
			t.Errorf("%s", b)
		}
	})
	t.Run("a script is no script of the console", func(t *testing.T) {
		r, b := p.do("GET", p.object("a/b c"), nil, map[string]string{"Sec-Fetch-Dest": "script"})
		wantCode(t, r, b, 403)
		r, _ = p.do("HEAD", p.object("a/b c"), nil, nil)
		if !strings.HasPrefix(r.Header.Get("Content-Disposition"), "attachment") ||
			!strings.HasPrefix(r.Header.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%v", r.Header)
		}
	})
}

func TestPanelPut(t *testing.T) {
	server := processtest.Start(t, append(small, process.Setting("OBJECT_MAX_BYTES", "4MiB"))...)
	p := openPanel(t, server.Address)
	content := clienttest.Random(8, 1<<20)
	sum := sha256.Sum256(content)
	sha := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	for _, c := range []struct {
		what   string
		body   io.Reader
		header map[string]string
		code   int
	}{
		{"a body of known size", bytes.NewReader(content), map[string]string{"Content-Type": "text/x-this"}, 201},
		{"one of unknown size", io.MultiReader(bytes.NewReader(content)), nil, 201},
		{"an empty one", http.NoBody, nil, 201},
		{"the right digests", bytes.NewReader(content), map[string]string{"Repr-Digest": sha + ", " + digest(content)}, 201},
		{"a wrong checksum", bytes.NewReader(content[1:]), map[string]string{"Repr-Digest": digest(content)}, 460},
		{"a wrong SHA-256", bytes.NewReader(content[1:]), map[string]string{"Content-Digest": sha}, 460},
		{"a digest that is none", bytes.NewReader(content), map[string]string{"Repr-Digest": "crc32c=:x:"}, 400},
		{"too large", bytes.NewReader(make([]byte, 5<<20)), nil, 413},
		{"too large without a size", io.MultiReader(bytes.NewReader(make([]byte, 5<<20))), nil, 413},
		{"a part", bytes.NewReader(content), map[string]string{"Content-Range": "bytes 0-9/10"}, 400},
		{"a condition", bytes.NewReader(content), map[string]string{"If-None-Match": "*"}, 501},
	} {
		t.Run(c.what, func(t *testing.T) {
			r, b, err := p.try("PUT", p.object(c.what), c.body, c.header)
			// Where the rest of a body is refused, the connection may be closed before the answer is read.
			if err == nil {
				wantCode(t, r, b, c.code)
			} else if c.code != http.StatusRequestEntityTooLarge {
				t.Fatal(err)
			}
			r, b = p.do("HEAD", p.object(c.what), nil, nil)
			if want := map[bool]int{true: 200, false: 404}[c.code == 201]; r.StatusCode != want {
				t.Errorf("afterwards: %s %s", r.Status, b)
			}
		})
	}
	t.Run("a name that is too long", func(t *testing.T) {
		r, b := p.do("PUT", p.object(strings.Repeat("n", 129)), bytes.NewReader(content), nil)
		wantCode(t, r, b, 400)
	})
	t.Run("a body that ends too soon leaves nothing", func(t *testing.T) {
		host := strings.TrimPrefix(strings.SplitAfter(p.api, "/panels")[0], "http://")
		host = strings.TrimSuffix(host, "/panels")
		for _, head := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
			conn, err := new(net.Dialer).DialContext(clienttest.Deadline(t), "tcp", host)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(
				conn,
				"PUT /panels/object/api/objects/cut HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n",
				host,
				head,
			)
			fmt.Fprintf(conn, "8\r\nabcdefgh\r\n")
			_ = conn.(*net.TCPConn).CloseWrite()
			answer, err := io.ReadAll(conn)
			_ = conn.Close()
			if err != nil || !strings.Contains(string(answer), " 400 ") && len(answer) > 0 {
				t.Errorf("%s: %q %v", head, answer, err)
			}
			r, b := p.do("GET", p.object("cut"), nil, nil)
			wantCode(t, r, b, 404)
		}
	})
}

// create begins a tus upload, and returns its address.
func (p *panel) create(size int, metadata string, code int) string {
	p.t.Helper()
	r, b := p.do("POST", p.api+"uploads/", nil, map[string]string{
		"Tus-Resumable": "1.0.0", "Upload-Length": strconv.Itoa(size), "Upload-Metadata": metadata,
	})
	wantCode(p.t, r, b, code)
	return r.Header.Get("Location")
}

func (p *panel) patch(
	address string,
	offset int,
	body io.Reader,
	more map[string]string,
) (*http.Response, []byte, error) {
	p.t.Helper()
	return p.patchWith(clienttest.Deadline(p.t), address, offset, body, more)
}

func (p *panel) patchWith(
	ctx context.Context,
	address string,
	offset int,
	body io.Reader,
	more map[string]string,
) (*http.Response, []byte, error) {
	p.t.Helper()
	header := map[string]string{
		"Tus-Resumable": "1.0.0", "Upload-Offset": strconv.Itoa(offset),
		"Content-Type": "application/offset+octet-stream",
	}
	maps.Copy(header, more)
	return p.tryWith(ctx, "PATCH", address, body, header)
}

// offset asks how far an upload is.
func (p *panel) offset(address string) int {
	p.t.Helper()
	r, b := p.do("HEAD", address, nil, map[string]string{"Tus-Resumable": "1.0.0"})
	wantCode(p.t, r, b, 200)
	offset, err := strconv.Atoi(r.Header.Get("Upload-Offset"))
	if err != nil {
		p.t.Fatal(r.Header)
	}
	return offset
}

func meta(pairs ...string) string {
	var all []string
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, pairs[i]+" "+base64.StdEncoding.EncodeToString([]byte(pairs[i+1])))
	}
	return strings.Join(all, ",")
}

func TestPanelTus(t *testing.T) {
	server := processtest.Start(t, append(small, process.Setting("OBJECT_MAX_BYTES", "32MiB"))...)
	p := openPanel(t, server.Address)
	content := clienttest.Random(9, 8<<20)
	t.Run("in pieces, over a restart of server and client", func(t *testing.T) {
		p.t = t
		at := p.create(len(content), meta("filename", "pieces", "filetype", "text/x-that"), 201)
		r, b, err := p.patch(at, 0, bytes.NewReader(content[:3<<20]), nil)
		if err != nil || r.StatusCode != http.StatusNoContent ||
			r.Header.Get("Upload-Offset") != strconv.Itoa(3<<20) {
			t.Fatalf("%v %s %v", r, b, err)
		}
		server.Kill()
		server.Restart()
		again := openPanel(t, server.Address) // It knows nothing but the address.
		at = again.api + "uploads/" + at[strings.LastIndex(at, "/")+1:]
		offset := again.offset(at)
		if offset != 3<<20 {
			t.Fatalf("it goes on at %d", offset)
		}
		r, b, err = again.patch(at, offset, bytes.NewReader(content[offset:]), map[string]string{
			"Repr-Digest": digest(content),
		})
		if err != nil || r.StatusCode != http.StatusNoContent {
			t.Fatalf("%v %s %v", r, b, err)
		}
		if again.offset(at) != len(content) {
			t.Error("it is not complete")
		}
		r, got := again.do("GET", again.object("pieces"), nil, nil)
		if !bytes.Equal(got, content) || r.Header.Get("Content-Type") != "text/x-that" {
			t.Errorf("got %d bytes, %v", len(got), r.Header)
		}
	})
	t.Run("a tab that is closed in the middle", func(t *testing.T) {
		p := openPanel(t, server.Address)
		at := p.create(len(content), meta("filename", "closed"), 201)
		ctx, closeTab := context.WithCancel(t.Context())
		body := &interrupted{bytes.NewReader(content), 4 << 20, closeTab}
		request, err := http.NewRequestWithContext(ctx, http.MethodPatch, at, body)
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = int64(len(content))
		for name, value := range map[string]string{
			"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream",
		} {
			request.Header.Set(name, value)
		}
		if r, err := http.DefaultClient.Do(request); err == nil {
			r.Body.Close()
			t.Fatal("it was not interrupted")
		}
		var offset int
		for offset == 0 && t.Context().Err() == nil {
			offset = p.offset(at)
		}
		r, b, err := p.patch(at, offset, bytes.NewReader(content[offset:]), nil)
		for err == nil && r.StatusCode == http.StatusConflict { // More was committed meanwhile.
			offset = p.offset(at)
			r, b, err = p.patch(at, offset, bytes.NewReader(content[offset:]), nil)
		}
		if err != nil || r.StatusCode != http.StatusNoContent {
			t.Fatalf("%v %s %v", r, b, err)
		}
		if _, got := p.do("GET", p.object("closed"), nil, nil); !bytes.Equal(got, content) {
			t.Errorf("got %d bytes", len(got))
		}
	})
	t.Run("a server that goes away in the middle", func(t *testing.T) {
		p := openPanel(t, server.Address)
		at := p.create(len(content), meta("filename", "away"), 201)
		body := &interrupted{bytes.NewReader(content), 4 << 20, server.Kill}
		r, b, err := p.patch(at, 0, body, nil)
		if err == nil {
			wantAway(t, r, b)
		}
		server.Restart()
		offset := p.offset(at)
		r, b, err = p.patch(at, offset, bytes.NewReader(content[offset:]), nil)
		if err != nil || r.StatusCode != http.StatusNoContent {
			t.Fatalf("%v %s %v", r, b, err)
		}
		if _, got := p.do("GET", p.object("away"), nil, nil); !bytes.Equal(got, content) {
			t.Errorf("got %d bytes", len(got))
		}
	})
	t.Run("with creation, empty, and with a checksum", func(t *testing.T) {
		p := openPanel(t, server.Address)
		p.create(0, meta("filename", "empty"), 201)
		r, b := p.do("GET", p.object("empty"), nil, nil)
		wantCode(t, r, b, 200)
		at := p.create(
			3,
			meta("filename", "x", "crc32c", fmt.Sprintf("%08x", crc32c.Checksum([]byte("abc")))),
			201,
		)
		if r, b, err := p.patch(at, 0, strings.NewReader("abc"), nil); err != nil ||
			r.StatusCode != http.StatusNoContent {
			t.Errorf("%v %s %v", r, b, err)
		}
	})
	t.Run("in pieces with a digest of each", func(t *testing.T) {
		p := openPanel(t, server.Address)
		at := p.create(8, meta("filename", "digests"), 201)
		for offset := 0; offset < 8; offset += 4 {
			piece := []byte("abcdefgh")[offset:][:4]
			r, b, err := p.patch(at, offset, bytes.NewReader(piece), map[string]string{
				"Content-Digest": digest(piece), "Repr-Digest": digest([]byte("abcdefgh")),
			})
			if err != nil || r.StatusCode != http.StatusNoContent {
				t.Fatalf("at %d: %v %s %v", offset, r, b, err)
			}
		}
		if _, got := p.do("GET", p.object("digests"), nil, nil); string(got) != "abcdefgh" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("what is refused", func(t *testing.T) {
		p := openPanel(t, server.Address)
		p.create(1<<40, meta("filename", "large"), 413)
		p.create(1, meta("filename", strings.Repeat("n", 129)), 400)
		p.create(1, "", 400)
		p.create(1, meta("filename", "x", "sha256", "12"), 400)
		at := p.create(3, meta("filename", "wrong", "crc32c", "00000001"), 201)
		r, b, err := p.patch(at, 0, strings.NewReader("abc"), nil)
		if err != nil || r.StatusCode != 460 {
			t.Errorf("a wrong checksum: %v %s %v", r, b, err)
		}
		at = p.create(3, meta("filename", "wrong"), 201)
		if r, b, err = p.patch(at, 0, strings.NewReader("abc"),
			map[string]string{"Repr-Digest": digest(nil)}); err != nil || r.StatusCode != 460 {
			t.Errorf("a wrong digest: %v %s %v", r, b, err)
		}
		if r, b, err = p.patch(at, 2, strings.NewReader("c"), nil); err != nil ||
			r.StatusCode != http.StatusConflict {
			t.Errorf("a gap: %v %s %v", r, b, err)
		}
		if r, b, err = p.patch(at, 0, strings.NewReader("abcd"), nil); err != nil ||
			r.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("more than was said: %v %s %v", r, b, err)
		}
		for _, id := range []string{"nonsense", "a.b", "..", "x." + strings.Repeat("A", 4000)} {
			r, b = p.do(
				"HEAD",
				p.api+"uploads/"+url.PathEscape(id),
				nil,
				map[string]string{"Tus-Resumable": "1.0.0"},
			)
			wantCode(t, r, b, 404)
		}
		r, b = p.do("GET", p.object("wrong"), nil, nil)
		wantCode(t, r, b, 404)
	})
	t.Run("one that is terminated is gone", func(t *testing.T) {
		p := openPanel(t, server.Address)
		at := p.create(len(content), meta("filename", "ended"), 201)
		if r, b, err := p.patch(at, 0, bytes.NewReader(content[:1<<20]), nil); err != nil ||
			r.StatusCode != http.StatusNoContent {
			t.Fatalf("%v %s %v", r, b, err)
		}
		r, b := p.do("DELETE", at, nil, map[string]string{"Tus-Resumable": "1.0.0"})
		wantCode(t, r, b, 204)
		r, b = p.do("HEAD", at, nil, map[string]string{"Tus-Resumable": "1.0.0"})
		wantCode(t, r, b, 404)
	})
}

func TestPanelUploadsTakeConstantMemory(t *testing.T) {
	p := openPanel(t, processtest.Start(t).Address)
	const size = 256 << 20
	at := p.create(size, meta("filename", "big"), 201)
	var most, before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	body := &interrupted{
		io.LimitReader(endless{}, size),
		size * 3 / 4,
		func() { runtime.ReadMemStats(&most) },
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if r, b, err := p.patchWith(ctx, at, 0, body, nil); err != nil ||
		r.StatusCode != http.StatusNoContent {
		t.Fatalf("%v %s %v", r, b, err)
	}
	if more := int64(most.HeapSys) - int64(before.HeapSys); more > 64<<20 {
		t.Errorf("it took %d MiB", more>>20)
	}
}

// held is a body that comes to its middle, and waits there.
type held struct {
	io.Reader
	middle func()
}

func (h held) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if err == io.EOF {
		h.middle()
	}
	return n, err
}

// Many bodies come at once and then pause. Those for whose windows there is no memory are refused
// with when to come again, and the others become objects.
func TestPanelPutsTakeNoMoreMemoryThanThereIs(t *testing.T) {
	const puts, memory, sent = 8, 64 << 20, 20 << 20
	server := processtest.Start(t)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(memory))
	p := openPanel(t, server.Address)
	release, answers := make(chan struct{}), make(chan int, puts)
	var settled sync.WaitGroup // Each has sent all but its end, or was refused.
	settled.Add(puts)
	for i := range puts {
		go func() {
			settle := sync.OnceFunc(settled.Done)
			defer settle()
			body := held{io.LimitReader(endless{}, sent), func() { settle(); <-release }}
			r, _, err := p.try("PUT", p.object(fmt.Sprint(i)), body, nil)
			if err != nil { // It was refused, and the connection closed, before all of the body was sent.
				answers <- 0
				return
			}
			if r.StatusCode == http.StatusServiceUnavailable && r.Header.Get("Retry-After") == "" {
				t.Error("it does not say when to come again")
			}
			answers <- r.StatusCode
		}()
	}
	settled.Wait()
	var now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&now)
	close(release)
	got := map[int]int{}
	for range puts {
		got[<-answers]++
	}
	if now.HeapAlloc > memory || got[201] < 2 || got[503] < 1 || got[0]+got[201]+got[503] != puts {
		t.Errorf("%d MiB of %d are held, answers: %v", now.HeapAlloc>>20, memory>>20, got)
	}
}

// endless is as many zeros as are wanted.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestCurlContinuesADownloadAndUploadsAFile(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no curl")
	}
	p := openPanel(t, processtest.Start(t, small...).Address)
	folder, content := t.TempDir(), clienttest.Random(10, 4<<20)
	from, to := filepath.Join(folder, "from"), filepath.Join(folder, "to")
	if err := os.WriteFile(from, content, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		args = append([]string{"--silent", "--show-error", "--fail"}, args...)
		if out, err := exec.CommandContext(
			clienttest.Deadline(t),
			curl,
			args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	run("-T", from, p.api+"objects/") // It appends the name of the file.
	if err := os.WriteFile(to, content[:1<<20+1], 0o600); err != nil {
		t.Fatal(err)
	}
	run("-C", "-", "-o", to, p.api+"objects/from")
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestPanelTokens(t *testing.T) {
	p := openPanel(t, processtest.Start(t, small...).Address, "TEST_TOKEN=all", "TEST_READ_TOKEN=look")
	all, look := map[string]string{
		"Authorization": "Bearer all",
	}, map[string]string{
		"Authorization": "Bearer look",
	}
	put := func(header map[string]string, code int) {
		t.Helper()
		r, b := p.do("PUT", p.object("o"), strings.NewReader("content"), header)
		wantCode(t, r, b, code)
	}
	put(nil, 401)
	put(look, 403)
	put(all, 201)
	get := func(address string, header map[string]string, code int) {
		t.Helper()
		r, b := p.do("GET", address, nil, header)
		wantCode(t, r, b, code)
	}
	get(p.object("o"), nil, 401)
	get(p.object("o"), look, 200)
	get(
		p.object("o"),
		map[string]string{"Authorization": "Bearer look", "Origin": "https://elsewhere.example"},
		403,
	)
	path := "/panels/object/api/objects/o"
	tickets := strings.TrimSuffix(p.object("o"), path) + "/api/ticket"
	r, b := p.do("POST", tickets, strings.NewReader(`{"path": "`+path+`"}`), look)
	wantCode(t, r, b, 200)
	var given struct{ Ticket string }
	if err := json.Unmarshal(b, &given); err != nil {
		t.Fatal(err)
	}
	get(p.object("o")+"?ticket="+given.Ticket, nil, 200)
	// A download of many hours that breaks is continued with the same ticket, whose first 8 bytes say
	// until when it admits.
	sealed, err := base64.RawURLEncoding.DecodeString(given.Ticket)
	if err != nil {
		t.Fatal(err)
	}
	until := time.Until(time.Unix(int64(binary.BigEndian.Uint64(sealed)), 0))
	if until < 23*time.Hour || until > 25*time.Hour {
		t.Errorf("a ticket admits for %v, want 24 h", until)
	}
	get(p.object("other")+"?ticket="+given.Ticket, nil, 401)
	get(p.object("o")+"?name=x&ticket="+given.Ticket, nil, 401)
	get(p.object("o")+"?ticket=x"+given.Ticket, nil, 401)
	r, b = p.do("DELETE", p.object("o")+"?ticket="+given.Ticket, nil, nil)
	wantCode(t, r, b, 401)
	r, b = p.do("POST", tickets, strings.NewReader(`{"path": "/api/call"}`), look)
	wantCode(t, r, b, 400)
}

// The last request of an upload has broken after its last byte was committed. Asking how far it is
// finishes it, unless the token is for reading.
func TestPanelFinishesNoUploadWithATokenForReading(t *testing.T) {
	server := processtest.Start(t, small...)
	p := openPanel(t, server.Address, "TEST_TOKEN=all", "TEST_READ_TOKEN=look")
	as := func(token string, more ...string) map[string]string {
		header := map[string]string{"Authorization": "Bearer " + token, "Tus-Resumable": "1.0.0"}
		for i := 0; i < len(more); i += 2 {
			header[more[i]] = more[i+1]
		}
		return header
	}
	const content = "content"
	r, b := p.do("POST", p.api+"uploads/", nil, as("all", "Upload-Length", strconv.Itoa(len(content)),
		"Upload-Metadata", meta("filename", "o")))
	wantCode(t, r, b, 201)
	at := r.Header.Get("Location")
	commit(t, server.Address, at, "o", content)
	for _, c := range []struct {
		token string
		code  int
	}{{"look", 404}, {"all", 200}} {
		r, b = p.do("HEAD", at, nil, as(c.token))
		wantCode(t, r, b, 200)
		r, b = p.do("HEAD", p.object("o"), nil, as(c.token))
		wantCode(t, r, b, c.code)
	}
}

func TestPanelComparesTheDigestOfARequestThatFindsAllBytesCommitted(t *testing.T) {
	server := processtest.Start(t, small...)
	p := openPanel(t, server.Address)
	const content = "content"
	wrong := map[string]string{"Repr-Digest": digest([]byte("another"))}
	patch := func(at string, more map[string]string, code int) {
		t.Helper()
		r, b, err := p.patch(at, len(content), strings.NewReader(""), more)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, r, b, code)
	}
	exists := func(name string, code int) {
		t.Helper()
		r, b := p.do("HEAD", p.object(name), nil, nil)
		wantCode(t, r, b, code)
	}
	at := p.create(len(content), meta("filename", "wrong"), 201)
	commit(t, server.Address, at, "wrong", content)
	patch(at, wrong, 460)
	exists("wrong", 404)
	at = p.create(len(content), meta("filename", "right"), 201)
	commit(t, server.Address, at, "right", content)
	patch(at, map[string]string{"Repr-Digest": digest([]byte(content))}, 204)
	exists("right", 200)
	// It is finished now, and stays.
	patch(at, wrong, 460)
	patch(at, nil, 204)
	exists("right", 200)
	// One of no bytes is whole from the start.
	r, b := p.do("POST", p.api+"uploads/", nil, map[string]string{"Tus-Resumable": "1.0.0",
		"Upload-Length": "0", "Upload-Metadata": meta("filename", "empty"),
		"Repr-Digest": wrong["Repr-Digest"]})
	wantCode(t, r, b, 460)
	exists("empty", 404)
}

// commit sends all bytes of a tus upload, and does not finish it: what a request leaves that breaks
// after its last byte.
func commit(t *testing.T, server, at, name, content string) {
	t.Helper()
	id, _, _ := strings.Cut(at[strings.LastIndex(at, "/")+1:], ".")
	descriptor := quartetv1.File_quartet_v1_object_proto.Services().ByName("ObjectService")
	objects := quartetv1.NewObjectServiceClient(
		clienttest.Dial(t, telemetry.Discard(), server, descriptor))
	stream, err := objects.UploadObject(clienttest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []quartetv1.UploadObjectRequest_builder{
		{Header: quartetv1.UploadHeader_builder{
			UploadId: id, Name: name, SizeBytes: new(uint64(len(content))),
		}.Build()},
		{Chunk: quartetv1.UploadChunk_builder{
			Data: []byte(content), Crc32C: crc32c.Checksum([]byte(content)),
		}.Build()},
	} {
		if err := stream.Send(m.Build()); err != nil {
			t.Fatal(err)
		}
	}
	if paused, err := stream.CloseAndRecv(); err != nil ||
		paused.GetCommittedSizeBytes() != uint64(len(content)) {
		t.Fatalf("%v, %v", paused, err)
	}
}

// TestAPanelSaysThatARequestHasStopped has a sender that stops in the middle. What it is told has
// no addresses of connections.
func TestAPanelSaysThatARequestHasStopped(t *testing.T) {
	p := openPanel(t, processtest.Start(t).Address, "TEST_PEER_TIMEOUT=1s")
	address := strings.TrimPrefix(p.object("o"), "http://")
	host, path, _ := strings.Cut(address, "/")
	conn := clienttest.Raw(t, host, fmt.Sprintf(
		"PUT /%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000\r\n\r\nhalf", path, host))
	said := clienttest.UntilClosed(t, conn)
	if !strings.Contains(said, " 408 ") || !strings.HasSuffix(said, "nothing more came of the request\n") {
		t.Errorf("%q", said)
	}
}

func TestPanelWithoutAServer(t *testing.T) {
	p := openPanel(t, porttest.Address(t))
	r, b := p.do("GET", p.object("o"), nil, nil)
	wantAway(t, r, b)
}

// wantAway wants the answer for a server that is away: 503 if a call broke, or 504 if its deadline
// passed before there was a connection.
func wantAway(t *testing.T, r *http.Response, body []byte) {
	t.Helper()
	if r.StatusCode != http.StatusServiceUnavailable && r.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("%s %s", r.Status, body)
	}
}
