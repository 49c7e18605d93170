package soak

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"example.com/quartet/client/object"
	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// inspect looks at everything once nothing breaks any more: each name shows what the model allows,
// whole; each upload that was acknowledged still is, unless it may be forgotten; lists agree; and
// no half-written file is left. The servers are killed before, so that no call is still under way.
func (w *topology) inspect(by *worker) {
	by.actor = "inspector"
	for _, s := range w.servers {
		s.Kill()
	}
	for w.store != nil && w.store.pending.Load() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	for i := range w.servers {
		w.start(i)
	}
	for age := range w.age() + 1 {
		listed, answered := answer(func() (map[string]uint64, bool) { return by.listAge(age) })
		if !answered {
			w.broken(fmt.Sprintf("the list of age %d gets no answer", age))
			continue
		}
		for i := range namesAtOnce {
			name := name(age, i)
			o, answered := answer(func() (*quartetv1.Object, bool) { return by.lookAt(name) })
			switch size, found := listed[name]; {
			case !answered:
				w.broken(name + " gets no answer")
			case found != (o != nil), found && size != o.GetSizeBytes()+1:
				w.broken(name + " is listed with another size than it has")
			}
			if o != nil {
				by.fetch(name, object.DownloadOptions{Generation: o.GetGeneration()}, nil)
			}
		}
	}
	w.inspectUploads(by)
	w.inspectFolder()
	if *duration >= timeToLive {
		w.inspectLeftovers()
	}
}

// answer asks again, since the servers have just started: a call may end with its deadline, which
// tells nothing.
func answer[A any](ask func() (A, bool)) (a A, answered bool) {
	for range 5 {
		if a, answered = ask(); answered {
			break
		}
	}
	return a, answered
}

func (w *topology) inspectUploads(by *worker) {
	limit := make(chan struct{}, workers)
	var asking sync.WaitGroup
	for _, u := range w.model.ids {
		limit <- struct{}{}
		asking.Go(func() {
			defer func() { <-limit }()
			asker := &worker{topology: w, actor: by.actor, random: random(w.seed, u.id)}
			asker.askFor(u)
		})
	}
	asking.Wait()
}

func (w *topology) inspectFolder() {
	if w.folder == "" {
		return
	}
	err := filepath.WalkDir(w.folder, func(path string, _ fs.DirEntry, err error) error {
		if id, isData := strings.CutSuffix(path, ".data"); isData && err == nil {
			if _, err := os.Stat(id + ".log"); err != nil {
				w.broken(path + " is left of an upload of which nothing is committed")
			}
		}
		return err
	})
	if err != nil {
		w.broken(err.Error())
	}
}
