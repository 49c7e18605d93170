package broker

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// What the embedded server's blocks look like: records one after another, each with its length, the
// sequence, the time and the length of the subject before its content, and a checksum of all that
// at its end. See msgBlock in server/filestore.go of nats-server 2.15.
const (
	recordHeader   = 22
	recordChecksum = 8
	withHeaders    = 1 << 31 // a bit of the length
	erasedMessage  = 1 << 63 // bits of the sequence
	tombstone      = 1 << 62
	longestRecord  = 32 << 20
	// longestJump is more than the sequences of one block can be apart.
	longestJump = 1 << 20
)

// distrustDamaged makes the server read streams with their checksums whose blocks have records that
// make no sense, by removing its index. With the index it trusts what the records say of
// themselves: from one flipped bit of a sequence to the next message it would fill memory until
// there is none.
func distrustDamaged(storeDir string) error {
	blocks, err := filepath.Glob(filepath.Join(storeDir, "jetstream", "*", "streams", "*", "msgs",
		"*.blk"))
	if err != nil {
		return err
	}
	for _, block := range blocks {
		sound, err := isSound(block)
		if err != nil {
			return fmt.Errorf("reading %s: %w", block, err)
		}
		if sound {
			continue
		}
		index := filepath.Join(filepath.Dir(block), "index.db")
		if err := os.Remove(index); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// isSound follows the records of a block to its end.
func isSound(name string) (bool, error) {
	block, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer func() { _ = block.Close() }() // It is only read.
	info, err := block.Stat()
	if err != nil {
		return false, err
	}
	last := uint64(0)
	for at, header := int64(0), make([]byte, recordHeader); at < info.Size(); {
		if _, err := block.ReadAt(header, at); err == io.EOF {
			return false, nil
		} else if err != nil {
			return false, err
		}
		length := int64(binary.LittleEndian.Uint32(header) &^ withHeaders)
		if length < recordHeader+recordChecksum || length > longestRecord || at+length > info.Size() {
			return false, nil
		}
		if sequence := binary.LittleEndian.Uint64(header[4:]); sequence&tombstone == 0 {
			sequence &^= erasedMessage
			if last != 0 && (sequence > last+longestJump || sequence <= last) {
				return false, nil
			}
			last = sequence
		}
		at += length
	}
	return true, nil
}
