package soak

import (
	"bytes"
	"fmt"
	"time"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// history is what is known of one name.
type history struct {
	name      string
	uploads   []*upload
	deletions []*deletion
}

// upload is an upload with all the calls that were made for it. The moments are since the model
// began.
type upload struct {
	id      string
	name    string
	content *content
	sha256  []byte // nil if it is not to be verified

	invoked time.Duration
	// visible is a moment at which the object certainly was visible already, forever if there is
	// none.
	visible time.Duration
	// gone is a moment at which it certainly was no longer, forever if there is none.
	gone time.Duration
	// acknowledged is when the first call for it returned the object, forever if none has.
	acknowledged time.Duration
	generation   int64
	// committed is the most that the store has said to have of it.
	committed int64
}

// deletion may have an effect between two moments.
type deletion struct {
	generation int64
	invoked    time.Duration
	last       time.Duration
}

// identify returns the upload that an object is of, or nil if it is none that could be.
func (h *history) identify(o *quartetv1.Object) *upload {
	for _, u := range h.uploads {
		if u.content.mediaType() != o.GetContentType() {
			continue
		}
		if u.generation == 0 {
			u.generation = o.GetGeneration()
		}
		if o.GetName() == u.name && o.GetGeneration() == u.generation &&
			o.GetSizeBytes() == uint64(len(u.content.data)) &&
			o.GetCrc32C() == u.content.crc32c && bytes.Equal(o.GetSha256(), u.sha256) {
			return u
		}
	}
	return nil
}

// leave notes that at some moment between two nothing but stays was visible.
func (h *history) leave(stays *upload, from, to time.Duration) {
	for _, u := range h.uploads {
		if u != stays && u.visible <= from && u.gone == forever {
			u.gone = to
		}
	}
}

// missed returns an upload which proves that between two moments there was an object all the time.
func (h *history) missed(from, to time.Duration) *upload {
	var latest *upload
	for _, u := range h.uploads {
		if u.visible <= from && (latest == nil || u.invoked > latest.invoked) {
			latest = u
		}
	}
	if latest == nil || h.deletable(latest.invoked, to) {
		return nil
	}
	return latest
}

// deletable tells whether a deletion may have had an effect between two moments.
func (h *history) deletable(from, to time.Duration) bool {
	for _, d := range h.deletions {
		if d.last >= from && d.invoked <= to && h.mayHit(d) {
			return true
		}
	}
	return false
}

// mayHit tells whether what a deletion wants to delete may be there.
func (h *history) mayHit(d *deletion) bool {
	for _, u := range h.uploads {
		if d.generation != 0 && u.generation == d.generation {
			return u.gone >= d.invoked
		}
	}
	return true
}

// replaceable tells whether an upload other than u may have become visible between two moments.
func (h *history) replaceable(u *upload, from, to time.Duration) bool {
	for _, other := range h.uploads {
		if other != u && other.visible >= from && other.invoked <= to {
			return true
		}
	}
	return false
}

func (u *upload) String() string {
	moment := func(t time.Duration) string {
		if t == forever {
			return "-"
		}
		return t.String()
	}
	return fmt.Sprintf("upload %s of content %d (%d bytes, generation %d): "+
		"invoked %v, visible %s, acknowledged %s, gone %s", u.id, u.content.number, len(u.content.data), u.generation,
		u.invoked, moment(u.visible), moment(u.acknowledged), moment(u.gone))
}
