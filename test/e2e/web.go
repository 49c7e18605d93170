package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// webValues open the port for browsers, and both ports on the nodes, where connections outlive a
// pod, and the client's console.
var webValues = []string{
	"--set", "web.enabled=true,server.service.type=NodePort,client.console.enabled=true",
}

// browser makes calls with the libraries that pages have, @connectrpc/connect-web, and that
// programs in Node have, @grpc/grpc-js. It is Node: what it uses of the browser is fetch.
type browser struct {
	folder string // of the scripts
	// web and grpc are the addresses of the two ports.
	web, grpc   string
	descriptors string // a file
}

// ports are where the release answers; for curl that is enough.
func (r release) ports(t *testing.T) *browser {
	t.Helper()
	service := r.name + "-quartet-server"
	return &browser{web: r.nodePort(t, service, "web"), grpc: r.nodePort(t, service, "grpc")}
}

// newBrowser installs the libraries. files have the services that it calls.
func newBrowser(t *testing.T, r release, files ...protoreflect.FileDescriptor) *browser {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: the clients of browsers run in Node 20 or newer, with npm beside it", program)
		}
	}
	folder := filepath.Join(repository, "test", "e2e")
	run(t, "npm", "ci", "--prefix", filepath.Join(folder, "web"), "--no-audit", "--no-fund", "--ignore-scripts")
	b := r.ports(t)
	b.folder, b.descriptors = folder, filepath.Join(t.TempDir(), "descriptors.pb")
	files = append(files, errdetails.File_google_rpc_error_details_proto)
	data, err := proto.Marshal(withImports(files...))
	if err == nil {
		err = os.WriteFile(b.descriptors, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withImports lists each file after those that it imports.
func withImports(files ...protoreflect.FileDescriptor) *descriptorpb.FileDescriptorSet {
	set, known := &descriptorpb.FileDescriptorSet{}, map[string]bool{}
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if known[file.Path()] {
			return
		}
		known[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	for _, file := range files {
		add(file)
	}
	return set
}

// script starts one of the scripts.
func (b *browser) script(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return start(t, func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "DESCRIPTORS="+b.descriptors) },
		"node", append([]string{filepath.Join(b.folder, name)}, args...)...)
}

// calls has a method called by a protocol, and compares what the client prints: answers, and the
// error, in JSON without blanks.
func (b *browser) calls(t *testing.T, protocol, method, requests string, want ...string) {
	t.Helper()
	address := b.web
	if protocol == "grpc" {
		address = b.grpc
	}
	service, method, _ := strings.Cut(method, "/")
	p := b.script(t, "web/call.mjs", protocol, address, service, method, requests)
	<-p.done
	if got := strings.TrimSpace(p.stdout.String()); p.err != nil || got != strings.Join(want, "\n") {
		t.Errorf("%s/%s by %s: got %s, want %s: %v\n%s", service, method, protocol, got, strings.Join(want, "\n"), p.err, &p.stderr)
	}
}

// curl calls a unary method as people do by hand.
func (b *browser) curl(t *testing.T, method, request string, status int, want string) {
	t.Helper()
	out := run(t, "curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", "--header", "Content-Type: application/json",
		"--data", request, "http://"+b.web+"/"+method)
	end := strings.LastIndex(out.stdout, "\n")
	answer, code := out.stdout[:end], out.stdout[end+1:]
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(answer)); err != nil ||
		!strings.Contains(compact.String(), want) || code != fmt.Sprint(status) {
		t.Errorf("curl got %s %s, want %d %s: %v", code, answer, status, want, err)
	}
}

// answersBrowsers opens the port for browsers in a release that has none, and calls it as browsers,
// curl and Node do.
func (e *embedded) answersBrowsers(t *testing.T) {
	e.upgrade(t, webValues...)
	e.rolledOut(t, rolloutTime)
	b := e.ports(t)
	b.curl(t, "grpc.health.v1.Health/Check", "{}", http.StatusOK, `{"status":"SERVING"}`)
	b.curl(t, "no.such.Service/Method", "{}", http.StatusNotFound, `"code":"unimplemented"`)
}
