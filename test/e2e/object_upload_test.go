package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"
)

// The pace of a paced upload: slow enough to outlast the end of a pod, and little work for client
// and server.
const (
	paceBytes    = 128 << 10
	paceInterval = 50 * time.Millisecond
)

// pacedUpload is a running upload from a pod of the client, whose content is made while it runs. It
// goes on until it is told that it is enough.
type pacedUpload struct {
	*process
	sent   atomic.Int64
	enough chan struct{}
	wrote  chan error
	sum    hash.Hash // of all that was sent, once wrote has its answer
}

func (n *namespace) startUpload(t *testing.T, pod, name string) *pacedUpload {
	t.Helper()
	u := &pacedUpload{enough: make(chan struct{}), wrote: make(chan error, 1), sum: sha256.New()}
	var stdin io.WriteCloser
	u.process = start(t, func(cmd *exec.Cmd) {
		var err error
		if stdin, err = cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
	}, "kubectl", n.inClient(pod, "upload", "-", name)...)
	go func() { u.wrote <- errors.Join(u.write(stdin), stdin.Close()) }()
	return u
}

func (u *pacedUpload) write(to io.Writer) error {
	source, chunk := rand.NewChaCha8([32]byte{}), make([]byte, paceBytes)
	ticker := time.NewTicker(paceInterval)
	defer ticker.Stop()
	for {
		_, _ = source.Read(chunk) // It never fails.
		u.sum.Write(chunk)
		if _, err := to.Write(chunk); err != nil {
			return err
		}
		u.sent.Add(paceBytes)
		select {
		case <-u.enough:
			return nil
		case <-u.done:
			return errors.New("the upload ended before its content")
		case <-ticker.C:
		}
	}
}

// finish ends the content, waits for the end of the upload, and returns the SHA-256 of the content.
func (u *pacedUpload) finish(t *testing.T) string {
	t.Helper()
	close(u.enough)
	wrote := <-u.wrote
	select {
	case <-u.done:
	case <-time.After(time.Minute):
		t.Fatalf("the upload does not end: %s", &u.stderr)
	}
	if err := errors.Join(wrote, u.err); err != nil {
		t.Fatalf("the upload failed: %v\n%s", err, &u.stderr)
	}
	t.Logf("%s", &u.stderr)
	return hex.EncodeToString(u.sum.Sum(nil))
}
