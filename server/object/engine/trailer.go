package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"example.com/quartet/internal/crc32c"
)

// A stored object is its content, a table with the CRC-32C of each block of it, big-endian, and a
// footer of FooterBytes: JSON, spaces, the CRC-32C of all that, and a magic number. So it can be
// verified from any offset, and nothing else has to be kept beside it. To have the content without
// this program, take the first bytes.
const (
	// FooterBytes is more than the longest name and content type take.
	FooterBytes = 2048
	// SumBytes is what the checksum of a block takes in the table.
	SumBytes = 4
	// magic ends every stored object, and says that it is one of this format.
	magic = "quartet1"
)

// Footer is what stands after content and checksums.
type Footer struct {
	Object
	// UploadID is that of the upload which made the object.
	UploadID string `json:"upload_id"`
	// BlockBytes is how many bytes of content each checksum covers, but for the last.
	BlockBytes int64 `json:"block_bytes"`
	// Sums is how many checksums there are, with those at the end that cover nothing.
	Sums int64 `json:"sums"`
	// TableCRC32C covers the table.
	TableCRC32C uint32 `json:"table_crc32c"`
}

// Blocks returns how many blocks there are of so many bytes.
func Blocks(size, blockBytes int64) int64 { return (size + blockBytes - 1) / blockBytes }

// TrailerBytes is how long the trailer of an object of so many bytes is.
func TrailerBytes(size, blockBytes int64) int64 {
	return Blocks(size, blockBytes)*SumBytes + FooterBytes
}

// Trailer returns what is stored after the content: the table, and the footer, whose Sums and
// TableCRC32C it fills in.
func Trailer(f Footer, sums []uint32) ([]byte, error) {
	table := make([]byte, 0, len(sums)*SumBytes+FooterBytes)
	for _, sum := range sums {
		table = binary.BigEndian.AppendUint32(table, sum)
	}
	f.AddSums(table)
	footer, err := f.Encode()
	return append(table, footer...), err
}

// AddSums takes the next checksums of the table into Sums and TableCRC32C.
func (f *Footer) AddSums(table []byte) {
	f.Sums += int64(len(table) / SumBytes)
	f.TableCRC32C = crc32c.Update(f.TableCRC32C, table)
}

// Encode returns the footer as it stands after the table.
func (f Footer) Encode() ([]byte, error) {
	// JSON with spaces behind it, so that the footer has one length, by which it is found from the
	// end.
	var footer bytes.Buffer
	encoder := json.NewEncoder(&footer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(f); err != nil {
		return nil, err
	}
	room := FooterBytes - footer.Len() - SumBytes - len(magic)
	if room < 0 {
		return nil, fmt.Errorf("the footer of an object takes %d bytes too many", -room)
	}
	footer.Write(bytes.Repeat([]byte(" "), room))
	sum := crc32c.Checksum(footer.Bytes())
	return append(binary.BigEndian.AppendUint32(footer.Bytes(), sum), magic...), nil
}

// errFooter is why ParseFooter finds an object corrupt that does not end as Trailer writes it.
var errFooter = errors.New("its trailer is damaged")

// ParseFooter reads the last FooterBytes of what is stored under a name, of which there are stored
// bytes in all. What Trailer did not write for it is an ErrCorrupt.
func ParseFooter(data []byte, name string, stored int64) (f Footer, err error) {
	// Short data, of a file that is no object, has no footer.
	text, foot := data, []byte(nil)
	if len(data) == FooterBytes {
		text, foot = data[:FooterBytes-SumBytes-len(magic)], data[FooterBytes-SumBytes-len(magic):]
	}
	if foot == nil || string(foot[SumBytes:]) != magic ||
		binary.BigEndian.Uint32(foot) != crc32c.Checksum(text) {
		return f, fmt.Errorf("%w: %q: %w", ErrCorrupt, name, errFooter)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, fmt.Errorf("%w: %q: %w", ErrCorrupt, name, err)
	}
	if f.Name != name || f.Size < 0 || f.BlockBytes <= 0 || f.Sums < Blocks(f.Size, f.BlockBytes) ||
		stored != f.Size+f.Sums*SumBytes+FooterBytes {
		return f, fmt.Errorf("%w: %q: %d bytes are stored, and its trailer is that of %q with %d",
			ErrCorrupt, name, stored, f.Name, f.Size)
	}
	return f, nil
}

// ParseTable reads the whole table, or returns an ErrCorrupt if its checksum is wrong.
func (f Footer) ParseTable(table []byte) ([]uint32, error) {
	if int64(len(table)) != f.Sums*SumBytes || crc32c.Checksum(table) != f.TableCRC32C {
		return nil, fmt.Errorf("%w: %q: its checksums are damaged", ErrCorrupt, f.Name)
	}
	return ParseSums(table), nil
}

// ParseSums reads a part of a table without checking it: a damaged checksum does not match its
// block.
func ParseSums(table []byte) []uint32 {
	sums := make([]uint32, len(table)/SumBytes)
	for i := range sums {
		sums[i] = binary.BigEndian.Uint32(table[i*SumBytes:])
	}
	return sums
}

// Range checks what a reader asks for, and returns the offset to stop at. A limit of 0 is none.
func (f Footer) Range(generation, offset, limit int64) (end int64, err error) {
	switch {
	case offset < 0 || limit < 0:
		return 0, fmt.Errorf("%w: offset %d, limit %d", ErrInvalidArgument, offset, limit)
	case generation != 0 && generation != f.Generation:
		return 0, ErrGenerationGone
	case offset > f.Size:
		return 0, &RangeError{Size: f.Size}
	case limit == 0 || limit > f.Size-offset:
		return f.Size, nil
	}
	return offset + limit, nil
}
