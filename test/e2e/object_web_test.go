package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// transferInBrowser replaces the server while pages download and upload, and curl continues a
// download. The drain lets a download end that can, and cuts one that takes longer, so that its
// page goes on where it was. tus and curl go by the client's console.
func transferInBrowser(t *testing.T, e *embedded) {
	// bytes a second, for 12 s and 48 s, of which the drain leaves about 30
	const pace, slow = "4194304", "1048576"
	// silence is how long a page may hear nothing before it learns that its stream was cut. It has
	// about 8 MiB to read by then.
	const silence = 10 * time.Second
	content := newContent(t, 7, 48<<20)
	file := filepath.Join(t.TempDir(), "paged")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	e.cli(t).run(t, "", "upload", file)
	b := newBrowser(t, e.release, quartetv1.File_quartet_v1_object_proto)
	downloads := map[string]*process{}
	for protocol, pace := range map[string]string{"connect": pace, "grpc-web": slow} {
		downloads[protocol] = b.script(t, "object_download.mjs", protocol, b.web, "paged", pace)
	}
	objects := e.forward(t, "service/q-quartet-client", consolePort)
	upload := b.script(t, "object_upload.mjs", objects, file, "by-tus", "2097152")
	objects = "http://" + objects + "/panels/object/api/objects/"
	partial := filepath.Join(t.TempDir(), "partial")
	continued := continueByCurl(t, objects+"paged", partial)
	transfers := maps.Clone(downloads)
	transfers["tus"] = upload
	for protocol, p := range transfers {
		eventually(t, "a transfer by "+protocol, 20*time.Second, func(context.Context) error {
			if strings.Contains(p.stderr.String(), "began") {
				return nil
			}
			return errors.New(p.stderr.String())
		})
	}
	run(t, "kubectl", e.kubectl("rollout", "restart", "deployment/q-quartet-server")...)
	want := sha256.Sum256([]byte(content))
	<-continued.done
	if got, err := os.ReadFile(partial); continued.err != nil || err != nil ||
		sha256.Sum256(got) != want {
		t.Errorf("curl continued to %d bytes: %v, %v\n%s", len(got), continued.err, err, &continued.stderr)
	}
	<-upload.done
	t.Logf("tus: %s%s", &upload.stderr, &upload.stdout)
	var tus struct{ ResumedAt int64 }
	err := json.Unmarshal([]byte(upload.stdout.String()), &tus)
	if upload.err != nil || err != nil || tus.ResumedAt == 0 {
		t.Errorf("tus: %v, %v, %+v", upload.err, err, tus)
	}
	run(t, "curl", "--silent", "--show-error", "--fail", "--retry", "20", "--retry-all-errors",
		"--output", partial, objects+"by-tus")
	if got, err := os.ReadFile(partial); err != nil || sha256.Sum256(got) != want {
		t.Errorf("tus uploaded %d bytes that are others: %v", len(got), err)
	}
	for protocol, p := range downloads {
		<-p.done
		t.Logf("%s: %s%s", protocol, &p.stderr, &p.stdout)
		var got struct {
			Bytes   int64
			SHA256  string
			Breaks  int
			Silence float64
		}
		if err := json.Unmarshal([]byte(p.stdout.String()), &got); p.err != nil || err != nil {
			t.Fatalf("%s: %v, %v", protocol, p.err, err)
		}
		if got.Bytes != int64(len(content)) || got.SHA256 != hex.EncodeToString(want[:]) {
			t.Errorf("%s: other bytes than were uploaded: %+v", protocol, got)
		}
		if protocol == "grpc-web" && got.Breaks == 0 {
			t.Error("the slow download met no rollout")
		}
		if got.Silence > silence.Seconds() {
			t.Errorf("%s: a page heard nothing for %.1f s before it learned that it was cut", protocol, got.Silence)
		}
	}
	e.rolledOut(t, rolloutTime)
}

// continueByCurl begins a download, breaks it off, and starts another process that continues it, at
// 2 MiB a second.
func continueByCurl(t *testing.T, address, file string) *process {
	t.Helper()
	args := []string{"--silent", "--show-error", "--fail", "--limit-rate", "2M", "--output", file}
	first := start(t, nil, "curl", append(args, address)...)
	eventually(t, "the first part", 20*time.Second, func(context.Context) error {
		if done, err := os.Stat(file); err != nil || done.Size() == 0 {
			return errors.New("there are no bytes: " + first.stderr.String())
		}
		return nil
	})
	first.interrupt()
	<-first.done
	if first.err == nil {
		t.Fatal("curl has done everything before it was to continue")
	}
	return start(t, nil, "curl", append(args, "--continue-at", "-", "--retry", "60",
		"--retry-all-errors", "--retry-delay", "1", address)...)
}
