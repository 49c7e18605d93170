package folder

import (
	"slices"
	"strings"
	"sync"
)

// names are those of all objects, in byte order, so that a list does not read the folder, which has
// no order. In memory each takes its bytes and 16 more.
type names struct {
	mu     sync.Mutex
	sorted []string
}

// page returns at most limit names that begin with prefix and come after one, and whether there are
// more.
func (n *names) page(prefix, after string, limit int) (page []string, more bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i, found := slices.BinarySearch(n.sorted, max(prefix, after))
	if found && n.sorted[i] == after {
		i++
	}
	for ; i < len(n.sorted) && strings.HasPrefix(n.sorted[i], prefix); i++ {
		if len(page) == limit {
			return page, true
		}
		page = append(page, n.sorted[i])
	}
	return page, false
}

// add notes a name; one that is there already stays as it is.
func (n *names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i, found := slices.BinarySearch(n.sorted, name); !found {
		n.sorted = slices.Insert(n.sorted, i, strings.Clone(name))
	}
}

// drop forgets a name.
func (n *names) drop(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i, found := slices.BinarySearch(n.sorted, name); found {
		n.sorted = slices.Delete(n.sorted, i, i+1)
	}
}
