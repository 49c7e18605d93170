package folder

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"example.com/quartet/internal/crc32c"
	"example.com/quartet/server/object/engine"
)

// line is one of the lines of a log, which is written as the CRC-32C of its JSON in hexadecimal, a
// space, and the JSON. The first line has the header. Each of the others has what was committed
// until then, and the last one the object that is about to appear: if the data file has gone after
// that, it has appeared. What is not a whole line with the right checksum was never acknowledged,
// nor was anything behind it.
type line struct {
	// The first line has these three.
	Header     *engine.Header `json:"header,omitempty"`
	Generation int64          `json:"generation,omitempty"`
	CreateTime time.Time      `json:"create_time,omitzero"`

	// Size is how many bytes are committed.
	Size int64 `json:"size,omitempty"`
	// Sums are the checksums of blocks from block First on; the last block may have more bytes in
	// the next line.
	First int64  `json:"first,omitempty"`
	Sums  []byte `json:"sums,omitempty"`

	// Object is in the last line only.
	Object *engine.Object `json:"object,omitempty"`
}

// encode returns the line as it is written.
func (l line) encode() []byte {
	text, err := json.Marshal(l)
	if err != nil {
		panic(err) // It is made of types that cannot fail to encode.
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32c.Checksum(text), text)
}

// progress is what a log says of an upload, without the checksums, of which there are many.
type progress struct {
	header     engine.Header
	generation int64
	createTime time.Time
	size       int64
	// decided is the object that the last line says, and object the same once it has appeared.
	decided *engine.Object
	object  *engine.Object
	// valid is where in the log the next line goes: behind the last whole one, and in place of a line
	// with an object that has not appeared.
	valid int64
}

// state is what the engine tells of the upload.
func (p *progress) state() engine.State {
	if p.object != nil {
		return engine.State{Name: p.header.Name, Committed: p.object.Size, Object: p.object}
	}
	return engine.State{Name: p.header.Name, Committed: p.size}
}

// readLog returns nil if there is no log, and an ErrCorrupt if it has no header. It holds a line of
// the log at a time, and gives each that commits bytes to committed, if that is not nil.
func (f *Folder) readLog(id string, committed func(l line)) (*progress, error) {
	log, err := os.Open(f.logPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &progress{}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxLine)
	lines.Split(splitLines)
	// Reading stops at the first line that is not as it was written.
	for lines.Scan() {
		l, ok := parseLine(lines.Bytes())
		if !ok || !p.add(l) {
			break
		}
		if l.Object == nil {
			p.valid += int64(len(lines.Bytes()))
		}
		if committed != nil && l.Header == nil && l.Object == nil {
			committed(l)
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return nil, err
	}
	// After a crash of the machine the file may be empty, or have other content.
	if p.header.UploadID != id {
		return nil, fmt.Errorf("%w: the log of upload %s has no header", engine.ErrCorrupt, id)
	}
	return p, nil
}

// maxLine is more than the longest line has, which is one with the checksums of a part of 1 GiB.
const maxLine = 1 << 20

// splitLines is a bufio.SplitFunc for lines with their end. The last one is left out if it has
// none.
func splitLines(data []byte, _ bool) (advance int, token []byte, err error) {
	if end := bytes.IndexByte(data, '\n') + 1; end > 0 {
		return end, data[:end], nil
	}
	return 0, nil, nil
}

// parseLine reads a line, with its end, and tells whether it is as it was written.
func parseLine(text []byte) (l line, ok bool) {
	sum, body, _ := bytes.Cut(bytes.TrimSuffix(text, []byte("\n")), []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	ok = err == nil && crc32c.Checksum(body) == uint32(want) && json.Unmarshal(body, &l) == nil
	return l, ok
}

// add takes the next line of the log, and tells whether it follows on the one before. The checksum
// of a block that was not full is replaced by the first one of the line after it.
func (p *progress) add(l line) bool {
	switch {
	case l.Header != nil:
		p.header, p.generation, p.createTime = *l.Header, l.Generation, l.CreateTime
	case l.Object != nil:
		p.decided = l.Object
	case l.First != p.size/blockBytes || l.Size < p.size ||
		l.First+int64(len(l.Sums)/engine.SumBytes) != engine.Blocks(l.Size, blockBytes):
		return false
	default:
		p.size = l.Size
	}
	return true
}

// progress returns what is known of an upload, nil if nothing, or nothing that can be continued. It
// changes nothing, because a stream of the upload may be about to write a line, but makes durable
// what it returns. If a crash of the machine has taken the end of the log, the object itself still
// says by which upload it was made.
func (f *Folder) progress(id string) (*progress, error) {
	p, err := f.readLog(id, nil)
	have, sizeErr := fileSize(f.dataPath(id))
	if sizeErr != nil {
		return nil, sizeErr
	}
	if have < 0 { // The data may have become an object since the log was read.
		p, err = f.readLog(id, nil)
	}
	// Without a header nothing was ever committed.
	if errors.Is(err, engine.ErrCorrupt) {
		return nil, nil
	}
	if err != nil || p == nil {
		return nil, err
	}
	if have < 0 {
		// The data file is gone, so that the rename has happened. It may not be durable: its sync may be
		// under way, or have failed.
		if p.object = p.decided; p.object == nil {
			p.object, err = f.objectOf(p.header)
		} else {
			err = f.objects.do()
		}
		if err != nil {
			return nil, err
		}
	}
	if p.object != nil {
		return p, nil
	}
	if p.size == 0 || have < p.size {
		return nil, nil
	}
	// The commit that has written the last line may not have synced it yet, or failed to.
	return p, f.syncLog(id)
}

// syncLog makes the lines of a log durable, and the names of the upload's files.
func (f *Folder) syncLog(id string) error {
	log, err := os.Open(f.logPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return engine.ErrUploadNotFound // It was removed meanwhile.
	}
	if err != nil {
		return err
	}
	if err := errors.Join(f.syncFile(log), log.Close()); err != nil {
		return fmt.Errorf("sync the log of an upload: %w", err)
	}
	return f.uploads.do()
}

// objectOf returns the object that an upload has made, once its name is durable, or nil if it is
// not there, or damaged.
func (f *Folder) objectOf(h engine.Header) (*engine.Object, error) {
	footer, err := f.footer(h.Name)
	switch {
	case errors.Is(err, engine.ErrNotFound), errors.Is(err, engine.ErrCorrupt):
		return nil, nil
	case err != nil:
		return nil, err
	case footer.UploadID != h.UploadID:
		return nil, nil
	}
	if err := f.objects.do(); err != nil {
		return nil, err
	}
	return &footer.Object, nil
}

// encodeSums writes checksums as the table of an object has them.
func encodeSums(sums []uint32) []byte {
	data := make([]byte, 0, len(sums)*engine.SumBytes)
	for _, sum := range sums {
		data = binary.BigEndian.AppendUint32(data, sum)
	}
	return data
}
