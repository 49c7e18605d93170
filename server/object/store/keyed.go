package store

import "sync"

// keyed is a set of locks, one per key, each of which exists only while someone holds it or waits for it.
// The zero value is ready for use.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	sync.RWMutex
	users int
}

// lock waits until nobody else holds the key, and returns the function that gives it back.
func (k *keyed) lock(key string) (unlock func()) {
	l := k.enter(key)
	l.Lock()
	return func() { l.Unlock(); k.leave(key, l) }
}

// share waits until nobody holds the key alone.
func (k *keyed) share(key string) (unlock func()) {
	l := k.enter(key)
	l.RLock()
	return func() { l.RUnlock(); k.leave(key, l) }
}

func (k *keyed) enter(key string) *keyedLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.locks[key]
	if l == nil {
		if k.locks == nil {
			k.locks = make(map[string]*keyedLock)
		}
		l = &keyedLock{}
		k.locks[key] = l
	}
	l.users++
	return l
}

func (k *keyed) leave(key string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.locks, key)
	}
}
