package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"example.com/quartet/server/object/engine"
	"example.com/quartet/test/bench/measure"
	"example.com/quartet/test/process"
)

// smallPart measures what has a cost for each object, not for each byte.
const smallPart = "small"

const (
	smallBytes    = 4 << 10
	smallDuration = 5 * time.Second
	listed        = 100_000
	listLimit     = 3 * time.Second
	// smallBefore is how many objects of smallBytes were uploaded to a folder in a second, one at a
	// time, when the goal was set: twice as many.
	smallBefore = 369
)

// printSmall measures uploads of small objects to a folder on the disk, and a list by the command
// line.
func printSmall(ctx context.Context, out io.Writer, b *bed) (verdicts []string, err error) {
	folder := filepath.Join(b.disk, "small")
	objects := filepath.Join(folder, "objects", "objects")
	if err := os.MkdirAll(objects, 0o755); err != nil {
		return nil, err
	}
	for i := range listed { // A list reads no content.
		name := engine.EncodeName(fmt.Sprintf("listed/%06d", i))
		if err := os.WriteFile(filepath.Join(objects, name), nil, 0o600); err != nil {
			return nil, err
		}
	}
	client, err := buildProgram(ctx, b.disk, "client")
	if err != nil {
		return nil, err
	}
	setting := process.Setting("OBJECT_DIR", filepath.Join(folder, "objects"))
	server, address, _, err := startProgram(ctx, b.program, folder, setting, b.collector.url)
	if err != nil {
		return nil, err
	}
	defer server.Kill()

	lines := measure.NewTable("what", "measured")
	for _, writers := range []int{1, most} {
		rate, err := uploadSmall(ctx, address, writers)
		if err != nil {
			return nil, err
		}
		lines.Add(fmt.Sprintf("uploads of 4 KiB, %d at a time", writers), fmt.Sprintf("%.0f/s", rate))
		if writers == most {
			verdicts = append(verdicts, verdict(
				fmt.Sprintf("uploads of 4 KiB to a folder, %d at a time: at least %d/s", most, 2*smallBefore),
				fmt.Sprintf("%.0f/s", rate), rate >= 2*smallBefore))
		}
	}
	took, err := list(ctx, client, address)
	if err != nil {
		return nil, err
	}
	seconds := fmt.Sprintf("%.1f s", took.Seconds())
	lines.Add(fmt.Sprintf("list of %d objects by the command line", listed), seconds)
	verdicts = append(verdicts, verdict(
		fmt.Sprintf("list of %d objects by the command line: at most %v", listed, listLimit),
		seconds, took <= listLimit))
	lines.Print(out)
	return verdicts, nil
}

func verdict(text, measured string, met bool) string {
	g := goal{Text: text, Measure: func(results) (string, bool) { return measured, met }}
	return smallPart + ", " + g.Verdict(nil)
}

// uploadSmall has so many writers upload for a while, each object under the name of the writer, and
// returns how many objects there were in a second.
func uploadSmall(ctx context.Context, address string, writers int) (rate float64, err error) {
	c, err := newOursClient(ctx, address, 1)
	if err != nil {
		return 0, err
	}
	defer c.close()
	began, made, failed := time.Now(), make([]int, writers), make([]error, writers)
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for time.Since(began) < smallDuration && failed[i] == nil {
				_, failed[i] = c.upload(ctx, Job{Upload: true, Bytes: smallBytes})
				made[i]++
			}
		})
	}
	all.Wait()
	total := 0
	for _, n := range made {
		total += n
	}
	rate = float64(total) / time.Since(began).Seconds()
	return rate, errors.Join(errors.Join(failed...), c.clean(ctx))
}

// list returns how long the command takes.
func list(ctx context.Context, program, address string) (time.Duration, error) {
	command := exec.CommandContext(ctx, program, "list", "listed/")
	command.Env = append(os.Environ(), process.Setting("SERVER", address)) //nolint:forbidigo // A child inherits.
	began := time.Now()
	output, err := command.Output()
	took := time.Since(began)
	if lines := bytes.Count(output, []byte("\n")); err == nil && lines != listed+1 { // One is the header.
		err = fmt.Errorf("the list has %d lines for %d objects", lines, listed)
	}
	return took, err
}
