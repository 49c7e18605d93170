package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// object is how the demo's file is called on the server.
const object = "demo/file"

// tour does the four kinds of call with the client's command line, as a person would.
func tour(ctx context.Context, p *pair, file string) error {
	if file == "" {
		file = filepath.Join(p.dir, "file")
		if err := makeFile(file, 64<<20); err != nil {
			return err
		}
	}
	started := time.Now()
	if _, err := p.command(ctx, "upload", "--quiet", file, object); err != nil {
		return err
	}
	step("upload", "%s in %v", file, time.Since(started).Round(time.Millisecond))
	found, err := p.command(ctx, "get", "--json", object)
	if err != nil {
		return err
	}
	step("look up", "%s", bytes.TrimSpace(found))
	copied := filepath.Join(p.dir, "copy")
	started = time.Now()
	if _, err := p.command(ctx, "download", "--quiet", object, copied); err != nil {
		return err
	}
	step("download", "in %v", time.Since(started).Round(time.Millisecond))
	if err := compare(file, copied); err != nil {
		return err
	}
	return talk(ctx, p)
}

// command runs the client and returns what it prints.
func (p *pair) command(ctx context.Context, arguments ...string) ([]byte, error) {
	c := p.prepare(ctx, arguments...)
	var problem bytes.Buffer
	c.Stderr = &problem
	output, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("client %q: %w\n%s", arguments, err, &problem)
	}
	return output, nil
}

func (p *pair) prepare(ctx context.Context, arguments ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(p.dir, "client"), arguments...)
	c.Env = append(os.Environ(), p.clientEnvironment()...)
	return c
}

// makeFile makes a file that does not compress and is the same each time.
func makeFile(path string, size int64) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(file, rand.NewChaCha8([32]byte{}), size)
	return errors.Join(err, file.Close())
}

func compare(sent, got string) error {
	a, err := sum(sent)
	if err != nil {
		return err
	}
	b, err := sum(got)
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return fmt.Errorf("the file came back different: SHA-256 %x, was %x", b, a)
	}
	step("compare", "the same, byte for byte: SHA-256 %x", a)
	return nil
}

func sum(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	return hash.Sum(nil), err
}

// talker is one participant of a conversation, in a process of its own.
type talker struct {
	name    string
	command *exec.Cmd
	mouth   io.WriteCloser
	ears    *bufio.Scanner
}

// talk holds a conversation in which each one answers what it has heard, so that it takes both to get to the end.
func talk(ctx context.Context, p *pair) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	alice, err := p.talker(ctx, "alice")
	if err != nil {
		return err
	}
	bob, err := p.talker(ctx, "bob")
	if err != nil {
		return err
	}
	both := []*talker{alice, bob}
	for i, line := range []string{"Has the file arrived?", "All of it.", "Then we are done."} {
		if _, err := fmt.Fprintln(both[i%2].mouth, line); err != nil {
			return err
		}
		for _, t := range both {
			if err := t.hear(line); err != nil {
				return err
			}
		}
		step("talk", "%s: %s", both[i%2].name, line)
	}
	for _, t := range both {
		if err := errors.Join(t.mouth.Close(), t.command.Wait()); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

func (p *pair) talker(ctx context.Context, name string) (*talker, error) {
	c := p.prepare(ctx, "chat", "demo", "--as", name, "--after", "0", "--json")
	c.Stderr = os.Stderr
	mouth, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	ears, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &talker{name, c, mouth, bufio.NewScanner(ears)}, c.Start()
}

// hear waits for the next message, which has to be this one.
func (t *talker) hear(line string) error {
	if !t.ears.Scan() {
		return fmt.Errorf("%s heard nothing more, waiting for %q: %w", t.name, line, t.ears.Err())
	}
	var message struct {
		Body []byte `json:"body"`
	}
	if err := json.Unmarshal(t.ears.Bytes(), &message); err != nil {
		return fmt.Errorf("%s heard %q: %w", t.name, t.ears.Text(), err)
	}
	if string(message.Body) != line {
		return fmt.Errorf("%s heard %q, waiting for %q", t.name, message.Body, line)
	}
	return nil
}
