package token

import "time"

// Age has the last fetch be one of long ago.
func (v *Verifier) Age() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fetched = time.Time{}
}
