package soak

import (
	"time"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// standing is what the model held for certain of an upload when the store was asked for it.
type standing struct {
	invoked      time.Duration
	committed    int64
	acknowledged bool
}

// ask notes what is certain before the store is asked how far an upload is.
func (m *model) ask(u *upload) standing {
	m.mu.Lock()
	defer m.mu.Unlock()
	return standing{m.now(), u.committed, u.acknowledged != forever}
}

// stands checks the answer: the committed size never decreases, and an upload that was acknowledged
// has its object, both until the upload is old enough to be forgotten.
func (m *model) stands(u *upload, before standing, committed int64, o *quartetv1.Object) {
	if o != nil {
		m.acknowledge(u, o)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case committed == 0 && o == nil && m.now()-u.invoked > timeToLive:
		return
	case committed == 0 && o == nil && m.again && m.history(u.name).deletable(u.invoked, m.now()):
		return
	case committed < before.committed || committed > int64(len(u.content.data)):
		m.fail(m.history(u.name), "%d bytes of upload %s are committed, and %d were", committed, u.id, before.committed)
	case before.acknowledged && o == nil:
		m.fail(m.history(u.name), "upload %s was acknowledged, and has no object", u.id)
	}
	u.committed = max(u.committed, committed)
}

// unlisted checks that a list which was asked for at a moment left a name out. It may leave out
// what changes meanwhile.
func (m *model) unlisted(name string, invoked time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, now := m.history(name), m.now()
	if u := h.missed(invoked, now); u != nil && !h.replaceable(nil, invoked, now) {
		m.fail(h, "a list between %v and %v left out %s", invoked, now, u)
	}
}

// versions returns the uploads of a name whose generation is known.
func (m *model) versions(name string) []*upload {
	m.mu.Lock()
	defer m.mu.Unlock()
	var known []*upload
	for _, u := range m.history(name).uploads {
		if u.generation != 0 {
			known = append(known, u)
		}
	}
	return known
}
