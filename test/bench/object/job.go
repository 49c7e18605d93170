package object

import (
	"encoding/json"
	"fmt"
)

// place is where the server has a file, or puts it.
type place string

const (
	inMemory place = "memory" // made as it is sent, and dropped as it comes
	onFast   place = "fast"   // in a folder that is memory too, where syncing costs nothing
	onDisk   place = "disk"
	onS3     place = "s3"
)

// Job is one transfer, as the client asks an anchor's server for it.
type Job struct {
	Upload bool
	Bytes  int64
	Place  place
	Sync   bool // A file that comes is synced before it is confirmed.
	Check  bool // Both sides compute the checksum of everything.
}

// String is the job as it travels.
func (j Job) String() string {
	text, err := json.Marshal(j)
	if err != nil {
		panic(err) // It has no field that could not be written.
	}
	return string(text)
}

func parseJob(text string) (j Job, err error) {
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return j, fmt.Errorf("job %q: %w", text, err)
	}
	return j, nil
}

// confirm compares what came with what was sent.
func (j Job) confirm(got Sum) error {
	want := Sum{Bytes: j.Bytes}
	if j.Check {
		want = sumOf(j.Bytes)
	}
	if got != want {
		return fmt.Errorf("of %d bytes with checksum %08x there came %d with %08x", want.Bytes, want.CRC, got.Bytes, got.CRC)
	}
	return nil
}
