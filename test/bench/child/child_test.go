package child

import (
	"errors"
	"os"
	"strings"
	"testing"
)

type object struct{}

func (object) Double(n int, answer *int) error {
	if n < 0 {
		return errors.New("too small")
	}
	*answer = 2 * n
	return nil
}

func (object) PID(_ int, answer *int) error { *answer = os.Getpid(); return nil }

func start(t *testing.T) *Process {
	t.Helper()
	p, err := Start(t.Context(), "child")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestChildAnswersFromAnotherProcess(t *testing.T) {
	p := start(t)
	var twice, pid int
	if err := errors.Join(p.Ask("Double", 0, 21, &twice), p.Ask("PID", 0, 0, &pid)); err != nil {
		t.Fatal(err)
	}
	if twice != 42 || pid == os.Getpid() || pid != p.PID() {
		t.Errorf("twice 21 is %d, in process %d", twice, pid)
	}
	if err := p.Ask("Double", 0, -1, &twice); err == nil || !strings.Contains(err.Error(), "too small") {
		t.Errorf("the child's error came as %v", err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("the child did not end cleanly: %v", err)
	}
}

func TestChildThatDiedIsAnError(t *testing.T) {
	p := start(t)
	if err := p.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var answer int
	if err := p.Ask("Double", 0, 1, &answer); err == nil {
		t.Error("a dead child answered")
	}
	if err := p.Stop(); err == nil {
		t.Error("a child that was killed ended cleanly")
	}
}
