package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// maxParts bounds the records of an upload, and with them the size of a manifest.
const maxParts = 1 << 16

// Upload is the state of an upload.
type Upload struct {
	// Committed is how many bytes will survive anything; the upload continues there.
	Committed int64
	// Object is set once the upload is finished.
	Object *Object
}

// Header is what a sender knows before the first byte. Every writer of one upload must state the same.
type Header struct {
	// UploadID is chosen by the sender: 16 to 64 of the characters A-Z, a-z, 0-9, - and _.
	UploadID string
	// Name is the name that the object will have.
	Name string
	// ContentType is the media type, application/octet-stream if empty.
	ContentType string
	Expect
}

// uploadHeader is the record that an upload begins with. Whoever creates it decides the generation, so that
// all who finish this upload, on whatever replica, write the same manifest.
type uploadHeader struct {
	Name        string    `json:"name"`
	ContentType string    `json:"content_type"`
	Expect      Expect    `json:"expect"`
	Generation  int64     `json:"generation"`
	CreateTime  time.Time `json:"create_time"`
}

func (h *uploadHeader) equal(other *uploadHeader) bool {
	return h.Name == other.Name && h.ContentType == other.ContentType && h.Expect.equal(other.Expect)
}

// partRecord commits a part. Only one writer can create the record of an index, which is what keeps writers apart.
//
// The record after the last part is the seal: it ends the upload for all writers and says with which outcome. From then
// on finishing is nothing but carrying out what the seal says, as often as need be.
type partRecord struct {
	part
	Offset int64     `json:"offset"`
	Time   time.Time `json:"time"`
	Seal   *seal     `json:"seal,omitempty"`
}

// seal is the outcome of an upload: either an object, which has been verified, or none, because it was given up.
type seal struct {
	Object *Object `json:"object"` // nil if it was given up
}

// completeRecord remembers that the manifest of an upload was written. The object is the same whoever writes it.
type completeRecord struct {
	Object Object    `json:"object"`
	Time   time.Time `json:"time"`
}

// end returns the offset after the part.
func (r *partRecord) end() int64 { return r.Offset + r.Size }

func headerKey(id string) string { return uploadsFolder + id + ".header" }

// All other keys of an upload have the generation in them, so that nothing that is left of an upload that was removed
// is ever taken for a piece of a new one with the same id.

func generationPrefix(folder, id string, generation int64) string {
	return fmt.Sprintf("%s%s.%d.", folder, id, generation)
}

func completeKey(id string, generation int64) string {
	return generationPrefix(uploadsFolder, id, generation) + "complete"
}

func recordKey(id string, generation int64, index int) string {
	return fmt.Sprintf("%s%08d", generationPrefix(uploadsFolder, id, generation), index)
}

// newPartKey returns a key that nobody else uses: two writers may be at the same index, until one of them commits.
func newPartKey(id string, generation int64, index int) string {
	return fmt.Sprintf("%s%08d.%s", generationPrefix(partsFolder, id, generation), index, rand.Text())
}

// GetUpload returns the state of an upload: what is committed, by any writer on any replica. ErrUploadNotFound means
// that it begins at 0.
func (s *Store) GetUpload(ctx context.Context, id string) (Upload, error) {
	if err := checkUploadID(id); err != nil {
		return Upload{}, err
	}
	p, err := s.loadProgress(ctx, id)
	if err != nil {
		return Upload{}, err
	}
	upload := Upload{Committed: p.size}
	if p.complete {
		upload.Object = p.seal.Object
	}
	return upload, nil
}
