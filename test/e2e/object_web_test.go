package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// downloadInBrowser replaces the server while pages download. The drain lets a download end that
// can, and cuts one that takes longer, so that its page goes on where it was.
func downloadInBrowser(t *testing.T, e *embedded) {
	// bytes a second, for 16 s and 64 s, of which the drain leaves about 30
	const pace, slow = "4194304", "1048576"
	content := newContent(t, 7, 64<<20)
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
	for protocol, p := range downloads {
		eventually(t, "a download by "+protocol, 20*time.Second, func(context.Context) error {
			if strings.Contains(p.stderr.String(), "began") {
				return nil
			}
			return errors.New(p.stderr.String())
		})
	}
	run(t, "kubectl", e.kubectl("rollout", "restart", "deployment/q-quartet-server")...)
	for protocol, p := range downloads {
		<-p.done
		t.Logf("%s: %s%s", protocol, &p.stderr, &p.stdout)
		var got struct {
			Bytes  int64
			SHA256 string
			Breaks int
		}
		if err := json.Unmarshal([]byte(p.stdout.String()), &got); p.err != nil || err != nil {
			t.Fatalf("%s: %v, %v", protocol, p.err, err)
		}
		want := sha256.Sum256([]byte(content))
		if got.Bytes != int64(len(content)) || got.SHA256 != hex.EncodeToString(want[:]) {
			t.Errorf("%s: other bytes than were uploaded: %+v", protocol, got)
		}
		if protocol == "grpc-web" && got.Breaks == 0 {
			t.Error("the slow download met no rollout")
		}
	}
	e.rolledOut(t, rolloutTime)
}
