package soak

import (
	"os"
	"testing"

	"example.com/quartet/internal/process/processtest"
)

func TestMain(m *testing.M) {
	status := m.Run()
	processtest.Clean()
	os.Exit(status)
}
