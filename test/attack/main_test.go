package main

import (
	"os"
	"testing"

	"example.com/quartet/test/process/processtest"
)

func TestMain(m *testing.M) {
	status := m.Run()
	processtest.Clean()
	os.Exit(status)
}
