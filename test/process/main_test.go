package process_test

import (
	"os"
	"testing"

	"example.com/quartet/test/process/processtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	processtest.Clean()
	os.Exit(code)
}
