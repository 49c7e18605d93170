package soak

import (
	"testing"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// A model that finds nothing wrong would prove nothing, and one that finds too much is of no use.
func TestTheModelTellsRightAnswersFromWrongOnes(t *testing.T) {
	for what, test := range map[string]struct {
		tell  func(m *model, a, b *upload)
		wrong bool
	}{
		"what was acknowledged is seen": {func(m *model, a, _ *upload) {
			m.acknowledge(a, named(a))
			m.saw("n", named(a), m.invoke())
		}, false},
		"what was never acknowledged is seen": {func(m *model, a, _ *upload) {
			m.saw("n", named(a), m.invoke())
		}, false},
		"what was never uploaded is seen": {func(m *model, a, _ *upload) {
			o := named(a)
			o.SetCrc32C(o.GetCrc32C() + 1)
			m.saw("n", o, m.invoke())
		}, true},
		"uploads at the same time come in either order": {func(m *model, a, b *upload) {
			m.acknowledge(b, named(b))
			m.acknowledge(a, named(a))
			m.saw("n", named(b), m.invoke())
		}, false},
		"a later upload does not replace an earlier one": {func(m *model, a, b *upload) {
			m.acknowledge(a, named(a))
			m.begin(b)
			m.acknowledge(b, named(b))
			m.saw("n", named(a), m.invoke())
		}, true},
		"what was replaced comes back": {func(m *model, a, b *upload) {
			m.saw("n", named(a), m.invoke())
			m.saw("n", named(b), m.invoke())
			m.saw("n", named(a), m.invoke())
		}, true},
		"what was acknowledged is not there": {func(m *model, a, _ *upload) {
			m.acknowledge(a, named(a))
			m.sawNothing("n", m.invoke())
		}, true},
		"what was seen is not listed": {func(m *model, a, b *upload) {
			m.saw("n", named(a), m.invoke())
			m.acknowledge(b, named(b))
			m.unlisted("n", m.invoke())
		}, true},
		"what may have been deleted is not there": {func(m *model, a, _ *upload) {
			m.acknowledge(a, named(a))
			m.deleting("n", 0)
			m.sawNothing("n", m.invoke())
		}, false},
		"a deletion that was refused has an effect": {func(m *model, a, _ *upload) {
			m.acknowledge(a, named(a))
			m.refused(m.deleting("n", 0))
			m.sawNothing("n", m.invoke())
		}, true},
		"a deletion of what was replaced has an effect": {func(m *model, a, b *upload) {
			m.saw("n", named(a), m.invoke())
			m.saw("n", named(b), m.invoke())
			m.deleting("n", a.generation)
			m.sawNothing("n", m.invoke())
		}, true},
		"a deletion from before the upload has an effect": {func(m *model, _, b *upload) {
			m.deleted(m.deleting("n", 0), 0)
			m.begin(b)
			m.acknowledge(b, named(b))
			m.sawNothing("n", m.invoke())
		}, true},
		"a generation is gone because of another upload": {func(m *model, a, _ *upload) {
			m.acknowledge(a, named(a))
			m.sawAnother(a, m.invoke())
		}, false},
		"a generation that was gone is there": {func(m *model, a, _ *upload) {
			m.acknowledge(a, named(a))
			m.sawAnother(a, m.invoke())
			m.saw("n", named(a), m.invoke())
		}, true},
		"an object changes of itself": {func(m *model, a, b *upload) {
			m.acknowledge(a, named(a))
			m.acknowledge(b, named(b))
			m.sawChange("n", m.invoke())
		}, true},
		"what was committed is lost": {func(m *model, a, _ *upload) {
			m.stands(a, m.ask(a), 2, nil)
			m.stands(a, m.ask(a), 1, nil)
		}, true},
		"what was acknowledged is forgotten": {func(m *model, a, _ *upload) {
			m.acknowledge(a, named(a))
			m.stands(a, m.ask(a), 3, nil)
		}, true},
	} {
		t.Run(what, func(t *testing.T) {
			var problems []string
			m := newModel(func(problem string) { problems = append(problems, problem) })
			a := &upload{id: "a", name: "n", content: &content{number: 1, data: []byte("one")}}
			b := &upload{id: "b", name: "n", content: &content{number: 2, data: []byte("two")}}
			m.begin(a)
			m.begin(b)
			test.tell(m, a, b)
			if test.wrong != (len(problems) > 0) {
				t.Errorf("problems: %q", problems)
			}
		})
	}
}

// object is what a server would say of an upload.
func named(u *upload) *quartetv1.Object {
	return quartetv1.Object_builder{
		Name: u.name, Generation: int64(u.content.number), ContentType: u.content.mediaType(),
		SizeBytes: uint64(len(u.content.data)), Crc32C: u.content.crc32c,
	}.Build()
}
