package token

import (
	"crypto/sha256"
	"time"

	"golang.org/x/time/rate"

	"example.com/quartet/internal/shares"
)

// Age has the last fetch be one of long ago, and none of any caller.
func (v *Verifier) Age() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fetched = time.Time{}
	v.fetches = shares.NewRates(rate.Every(callerPause), 1)
}

// Pause has the last fetch be one of long ago for all, and the limits of callers stay.
func (v *Verifier) Pause(over bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fetched = time.Now().Add(time.Hour)
	if over {
		v.fetched = time.Time{}
	}
}

// Remember has n tokens be known to be verified.
func (v *Verifier) Remember(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := 0; len(v.verified) < n; i++ {
		v.verified[sha256.Sum256([]byte{byte(i), byte(i >> 8)})] = verified{}
	}
}

// Remembered is how many tokens are known to be verified.
func (v *Verifier) Remembered() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.verified)
}
