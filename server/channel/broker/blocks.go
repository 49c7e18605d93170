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
	// All in bytes: 4 of length, 8 of sequence, 8 of time, 2 of the subject's length.
	recordHeader = 22
	// A checksum is not verified here: the server does that when it reads without its index.
	recordChecksum = 8
	// withHeaders is a bit of the length: the message has headers. It is no part of the number.
	withHeaders = 1 << 31
	// erasedMessage and tombstone are bits of the sequence: the message was erased, or the record has
	// no content and only says that a message is gone.
	erasedMessage = 1 << 63
	tombstone     = 1 << 62
	// maxRecord is more than any record has, as a block has 8 MiB.
	maxRecord = 32 << 20
	// maxJump is more than the sequences of one block can be apart.
	maxJump = 1 << 20
)

// inspectBlocks looks at what is stored before the server does.
//
// It makes the server read streams with their checksums whose blocks have records that make no
// sense, by removing its index. With the index it trusts what the records say of themselves: from
// one flipped bit of a sequence to the next message it would fill memory until there is none.
//
// It returns the sequence of the last message that the blocks of one stream have, 0 if there is
// none: reading with checksums, the server drops what is behind damage in the last block, and says
// nothing about it.
func inspectBlocks(storeDir, stream string) (newest uint64, err error) {
	blocks, err := filepath.Glob(filepath.Join(storeDir, "jetstream", "*", "streams", "*", "msgs",
		"*.blk"))
	if err != nil {
		return 0, err
	}
	for _, block := range blocks {
		last, sound, err := followRecords(block)
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", block, err)
		}
		// A block is at <stream>/msgs/<number>.blk.
		folder := filepath.Dir(block)
		if filepath.Base(filepath.Dir(folder)) == stream {
			newest = max(newest, last)
		}
		if sound {
			continue
		}
		// Without it the server reads the blocks, and writes a new one.
		index := filepath.Join(folder, "index.db")
		if err := os.Remove(index); err != nil && !os.IsNotExist(err) {
			return 0, err
		}
	}
	return newest, nil
}

// followRecords follows the records of a block to its end, or to the first one that makes no sense,
// for which sound is false. It reads their headers only. last is the sequence of the last message
// before that, 0 if there is none.
func followRecords(name string) (last uint64, sound bool, err error) {
	block, err := os.Open(name)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = block.Close() }() // It is only read.
	info, err := block.Stat()
	if err != nil {
		return 0, false, err
	}
	for at, header := int64(0), make([]byte, recordHeader); at < info.Size(); {
		if _, err := block.ReadAt(header, at); err == io.EOF {
			return last, false, nil
		} else if err != nil {
			return 0, false, err
		}
		length := int64(binary.LittleEndian.Uint32(header) &^ withHeaders)
		// A length that does not fit leads to nowhere.
		if length < recordHeader+recordChecksum || length > maxRecord || at+length > info.Size() {
			return last, false, nil
		}
		sequence := binary.LittleEndian.Uint64(header[4:])
		if sequence&tombstone != 0 {
			if length != recordHeader+recordChecksum {
				return last, false, nil // A tombstone has no content, so that this is a message.
			}
		} else {
			sequence &^= erasedMessage
			if last != 0 && (sequence > last+maxJump || sequence <= last) {
				return min(last, sequence), false, nil // Either of them may be the damaged one.
			}
			last = sequence
		}
		at += length
	}
	return last, true, nil
}
