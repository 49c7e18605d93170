package soak

import (
	"fmt"
	"math"
	"sync"
	"time"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// forever is later than any moment of a run.
const forever = time.Duration(math.MaxInt64)

// model has what was asked of the store and what it answered, and checks every answer by that.
//
// Whatever a call says of a name holds at some moment between its invocation and its return: that
// an object was there, or that it was not. Each upload makes its object visible at most once. From
// these two alone it follows what is impossible: to see an object before its upload began, to see
// it again after something else was certainly seen in its place, and to see nothing where an object
// certainly was and no deletion can have removed it.
type model struct {
	began time.Time
	mu    sync.Mutex
	names map[string]*history
	ids   map[string]*upload
	// again says that an object which was deleted may come back when it is sent again, as on S3.
	again bool
	// broken is told of every wrong answer.
	broken func(problem string)
}

func newModel(broken func(problem string)) *model {
	// The first moment is not zero, which is before everything.
	began := time.Now().Add(-time.Second)
	return &model{
		began: began, names: map[string]*history{}, ids: map[string]*upload{}, broken: broken,
	}
}

// now must be called with the lock held, so that all that is known of the past is from before it.
func (m *model) now() time.Duration { return time.Since(m.began) }

// invoke returns the moment of an invocation.
func (m *model) invoke() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now()
}

func (m *model) history(name string) *history {
	h := m.names[name]
	if h == nil {
		h = &history{name: name}
		m.names[name] = h
	}
	return h
}

// begin notes that an upload will be made, by however many calls.
func (m *model) begin(u *upload) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u.invoked, u.visible, u.gone, u.acknowledged = m.now(), forever, forever, forever
	m.ids[u.id] = u
	h := m.history(u.name)
	h.uploads = append(h.uploads, u)
}

// acknowledge checks the object that a call of an upload, begun at a moment, returned.
func (m *model) acknowledge(u *upload, o *quartetv1.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, now := m.history(u.name), m.now()
	if found := h.identify(o); found != u {
		m.fail(h, "upload %s was answered with object %v", u.id, o)
		return
	}
	if u.acknowledged == forever {
		u.acknowledged = now
		m.seen(h, u, u.invoked, now)
	}
}

// saw checks an object that was looked up, listed or downloaded by a call which was invoked at a
// moment.
func (m *model) saw(name string, o *quartetv1.Object, invoked time.Duration) *upload {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.history(name)
	u := h.identify(o)
	if u == nil {
		m.fail(h, "there is object %v, which was never uploaded", o)
		return nil
	}
	m.seen(h, u, invoked, m.now())
	return u
}

// seen checks that u was visible at some moment between two.
func (m *model) seen(h *history, u *upload, from, to time.Duration) {
	if from > u.gone && m.again && h.deletable(u.invoked, to) {
		u.gone = forever
	}
	if from > u.gone {
		m.fail(h, "%s was seen between %v and %v, and something else in its place by %v", u, from, to, u.gone)
	}
	u.visible = min(u.visible, to)
	h.leave(u, from, to)
}

// mayBeGone tells whether the object of an upload may have been replaced or deleted.
func (m *model) mayBeGone(u *upload) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, now := m.history(u.name), m.now()
	return h.deletable(u.invoked, now) || h.replaceable(u, u.invoked, now)
}

// mayReturn tells whether the contract allows an upload to make its object again, because that was
// deleted.
func (m *model) mayReturn(u *upload) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.again && m.history(u.name).deletable(u.invoked, m.now())
}

// sawListed checks that a list which was asked for at a moment had an object of so many bytes.
func (m *model) sawListed(name string, size uint64, invoked time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.history(name)
	var may []*upload
	for _, u := range h.uploads {
		if uint64(len(u.content.data)) == size {
			may = append(may, u)
		}
	}
	switch len(may) {
	case 0:
		m.fail(h, "an object of %d bytes is listed, which was never uploaded", size)
	case 1:
		m.seen(h, may[0], invoked, m.now())
	}
}

// sawNothing checks that a call which was invoked at a moment found no object.
func (m *model) sawNothing(name string, invoked time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, now := m.history(name), m.now()
	if u := h.missed(invoked, now); u != nil {
		m.fail(h, "nothing was seen between %v and %v, but %s cannot have been deleted", invoked, now, u)
	}
	h.leave(nil, invoked, now)
}

// sawAnother checks that a call which was invoked at a moment found that the generation of u is
// gone.
func (m *model) sawAnother(u *upload, invoked time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, now := m.history(u.name), m.now()
	if u.visible > invoked {
		return
	}
	if !h.deletable(u.invoked, now) && !h.replaceable(u, u.invoked, now) {
		m.fail(h, "%s was gone between %v and %v, but nothing can have removed it", u, invoked, now)
	}
	u.gone = min(u.gone, now)
}

// sawChange checks that a download which was invoked at a moment found the object of a name changed
// under it.
func (m *model) sawChange(name string, invoked time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, now := m.history(name), m.now()
	if !h.deletable(invoked, now) && !h.replaceable(nil, invoked, now) {
		m.fail(h, "the object changed between %v and %v, but nothing can have changed it", invoked, now)
	}
}

// deleting notes a deletion before it is invoked; deleted until when it may have had an effect.
func (m *model) deleting(name string, generation int64) *deletion {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := &deletion{generation: generation, invoked: m.now(), last: forever}
	h := m.history(name)
	h.deletions = append(h.deletions, d)
	return d
}

// deleted notes until when a deletion may have had an effect: until now, or for some time after.
func (m *model) deleted(d *deletion, after time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d.last = m.now() + after
}

// refused notes that a deletion had no effect at all.
func (m *model) refused(d *deletion) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d.last = 0
}

// fail tells of a wrong answer, with all that is known of the name.
func (m *model) fail(h *history, format string, args ...any) {
	text := fmt.Sprintf("%q: ", h.name) + fmt.Sprintf(format, args...)
	for _, u := range h.uploads {
		text += "\n    " + u.String()
	}
	for _, d := range h.deletions {
		text += fmt.Sprintf("\n    deletion of %d: %v to %v", d.generation, d.invoked, d.last)
	}
	m.broken(text)
}
