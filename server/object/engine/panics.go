package engine

import (
	"fmt"
	"runtime/debug"
)

// CatchPanic calls do, and returns a panic of it as an error, with the stack. It is for goroutines
// of an engine: the handler of a call recovers from its own panics only, and those of others would
// end the process.
func CatchPanic(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return do()
}
