package cli

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	"example.com/quartet/internal/config"
)

// clearLine goes to the beginning of the line and erases it.
const clearLine = "\r\x1b[K"

// screen is standard error. On a terminal its last line may be a live one, which whatever else is
// written there replaces, logs too.
type screen struct {
	mu sync.Mutex
	to io.Writer
	// live says that the last line is a live one, to erase before anything else is written.
	live bool
	// width is that of the terminal, nil if there is none.
	width func() int
}

// newScreen makes the screen of a standard error. TERM=dumb says that the terminal cannot move its
// cursor, as that of an editor.
func newScreen(to io.Writer, environ []string) *screen {
	s := &screen{to: to}
	if f, ok := to.(*os.File); ok && IsTerminal(f) && config.Lookup(environ, "TERM") != "dumb" {
		s.width = func() int {
			// The window may have changed since the last line.
			if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
				return width
			}
			return 80 // The usual width, for a terminal that does not say.
		}
	}
	return s
}

// Write implements io.Writer. The live line is not drawn again here; its next update does that.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	return s.to.Write(p)
}

// redirect has everything go to another writer from now on, which has no live line, and returns the
// one before.
func (s *screen) redirect(to io.Writer) (before io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	before, s.to = s.to, to
	return before
}

// show makes text, which has to be ASCII, the live line of a terminal.
func (s *screen) show(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A line that wraps could not be erased by clearLine; the last column wraps on some terminals.
	if width := s.width(); len(text) >= width {
		text = text[:max(width-1, 0)]
	}
	_, _ = io.WriteString(s.to, clearLine+text) // The terminal may be gone.
	s.live = true
}

// hide erases the live line.
func (s *screen) hide() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

// clear erases the live line. The caller has locked mu.
func (s *screen) clear() {
	if s.live {
		_, _ = io.WriteString(s.to, clearLine)
		s.live = false
	}
}
