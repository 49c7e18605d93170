package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"gocloud.dev/blob/fileblob"
)

const (
	lockFile    = ".lock"
	tempSuffix  = ".tmp" // as fileblob names files that are being written
	folderMode  = 0o750
	privateMode = 0o640
)

// openFile opens the folder at root, which it creates if need be, and fails if another process or Store has it open.
func openFile(root string) (*fileBucket, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, folderMode); err != nil {
		return nil, fmt.Errorf("create the folder: %w", err)
	}
	lock, err := lockFolder(root)
	if err != nil {
		return nil, err
	}
	b := &fileBucket{root: root, lock: lock, names: map[string]*folderNames{}, syncFile: (*os.File).Sync, syncFolder: syncFolder}
	if err := b.prepare(); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return b, nil
}

// lockFolder takes the folder for this process. The kernel releases the lock when the process ends in any way.
func lockFolder(root string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(root, lockFile), os.O_RDWR|os.O_CREATE, privateMode)
	if err != nil {
		return nil, fmt.Errorf("folder %s is not writable: %w", root, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("folder %s is in use by another process, and only one at a time may own it", root)
	}
	return nil, fmt.Errorf("lock folder %s: %w", root, err)
}

// prepare creates the fixed folders durably and removes what a killed process was writing.
func (b *fileBucket) prepare() (err error) {
	b.blobs, err = fileblob.OpenBucket(b.root, &fileblob.Options{
		NoTempDir: true, // The default is another file system, from which a file cannot be renamed.
		Metadata:  fileblob.MetadataDontWrite,
	})
	if err != nil {
		return err
	}
	for _, folder := range []string{objectsFolder, uploadsFolder, partsFolder} {
		b.names[folder] = new(folderNames)
		if err := os.MkdirAll(b.path(folder), folderMode); err != nil {
			return fmt.Errorf("folder %s is not writable: %w", b.root, err)
		}
		if err := b.sweep(folder); err != nil {
			return err
		}
	}
	for _, folder := range []string{b.root, filepath.Dir(b.root)} {
		if err := b.syncFolder(folder); err != nil && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("sync folder %s: %w", folder, err)
		}
	}
	return nil
}

func (b *fileBucket) sweep(folder string) error {
	entries, err := os.ReadDir(b.path(folder))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), tempSuffix) {
			continue
		}
		if err := os.Remove(filepath.Join(b.path(folder), entry.Name())); err != nil {
			return fmt.Errorf("remove what a killed process left: %w", err)
		}
	}
	return nil
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
