package object

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// store is what the anchors' servers have in common: where content comes from, and where it goes.
type store struct {
	folder string
	mu     sync.Mutex
}

// give writes the content of a job to w, in the way that is fastest for it: from a file that may be
// the kernel's own.
func (s *store) give(job Job, w io.Writer) error {
	if job.Place == inMemory {
		_, err := newContent(job.Bytes).WriteTo(w)
		return err
	}
	path, err := s.prepared(job.Bytes)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(w, file)
	return err
}

// prepared is a file of so many bytes, which is made when it is first asked for.
func (s *store) prepared(size int64) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := filepath.Join(s.folder, fmt.Sprintf("content-%d", size))
	if info, err := os.Stat(path); err == nil && info.Size() == size {
		return path, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	_, err = newContent(size).WriteTo(file)
	return path, errors.Join(err, file.Sync(), file.Close())
}

// take reads a job's content to its end, and says what came.
func (s *store) take(job Job, r io.Reader) (Sum, error) {
	counted, buffer := &sink{check: job.Check}, make([]byte, bufferBytes)
	if job.Place == inMemory {
		err := copyAll(counted, r, buffer)
		return counted.Sum, err
	}
	file, err := os.CreateTemp(s.folder, "upload-*")
	if err != nil {
		return Sum{}, err
	}
	err = copyAll(io.MultiWriter(file, counted), r, buffer)
	if job.Sync {
		err = errors.Join(err, file.Sync())
	}
	return counted.Sum, errors.Join(err, file.Close())
}

// clean removes what came. It is no part of a transfer, so it is done outside of the measured time.
func (s *store) clean() error {
	paths, err := filepath.Glob(filepath.Join(s.folder, "upload-*"))
	for _, path := range paths {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
