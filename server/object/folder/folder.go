// Package folder keeps objects in a folder, which one process owns:
//
//	objects/<encoded name>  an object: its content, and the trailer that engine.Trailer makes
//	uploads/<id>.data       what has arrived of an upload
//	uploads/<id>.log        how much of that is committed, or, for some time, what became of it
//
// What is acknowledged is synced, the file before its name. An object appears by a rename, so that
// recovery is nothing but removing what no log leads to.
package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"example.com/quartet/server/object/engine"
)

const (
	// blockBytes is how much content has a checksum of its own, and so the least that is read and
	// verified for a range.
	blockBytes  = 32 << 10
	lockFile    = ".lock"
	checkFile   = ".check"
	dataSuffix  = ".data"
	logSuffix   = ".log"
	folderMode  = 0o750
	privateMode = 0o640
	// fewNames is how many names are handled between two looks at whether the caller has gone, and how
	// many are read from a folder at a time.
	fewNames = 256
)

// Options are what a Folder can be told.
type Options struct {
	// PartBytes is how much of an upload is committed at a time. Two parts may be lost when the
	// process dies.
	PartBytes int64
	// Quota counts what is stored, exactly. It is set when the folder is opened.
	Quota *engine.Quota
	// Log takes what no caller can be told.
	Log *slog.Logger
}

// Folder is an engine.Engine.
type Folder struct {
	Options
	// root is the folder, and lock keeps other processes out of it.
	root string
	lock *flock.Flock
	// generations numbers new objects.
	generations engine.Generations
	// objects and uploads are the two folders. Their syncers make names durable.
	objects syncer
	uploads syncer

	// changing is held while an object appears or goes, so that the quota and names follow what the
	// folder has. names has a lock of its own, for readers.
	changing sync.Mutex
	names    names

	// syncFile makes the content of a file durable; tests replace it.
	syncFile func(*os.File) error
}

var _ engine.Engine = (*Folder)(nil)

// Open opens the folder at root, which it creates if need be, and fails if another process has it
// open.
func Open(root string, opts Options) (*Folder, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, folderMode); err != nil {
		return nil, fmt.Errorf("create the folder of objects: %w", err)
	}
	lock, err := lockFolder(root)
	if err != nil {
		return nil, err
	}
	f := &Folder{Options: opts, root: root, lock: lock, syncFile: (*os.File).Sync}
	// Nothing is read before the folder is locked: another process may be writing.
	f.objects.path, f.uploads.path = filepath.Join(root, "objects"), filepath.Join(root, "uploads")
	if err := f.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the folder %s: %w", root, err), lock.Close())
	}
	return f, nil
}

// lockFolder takes the folder for this process. The kernel releases the lock when the process ends
// in any way.
func lockFolder(root string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(root, lockFile), flock.SetFlag(os.O_CREATE|os.O_RDWR),
		flock.SetPermissions(privateMode))
	switch locked, err := lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("lock folder %s: %w", root, err)
	case !locked:
		return nil, fmt.Errorf("folder %s is in use by another process, and only one may own it", root)
	}
	return lock, nil
}

// recover makes the folders, removes what a process that died has not committed, and counts what
// there is. It is called once, before anything else uses the folder.
func (f *Folder) recover() error {
	for _, folder := range []*syncer{&f.objects, &f.uploads} {
		if err := os.MkdirAll(folder.path, folderMode); err != nil {
			return err
		}
	}
	// The names of both folders have to be durable, and that of the root in its parent, which this
	// process may have no permission to open.
	for _, folder := range []string{f.root, filepath.Dir(f.root)} {
		if err := (&syncer{path: folder}).sync(); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	// Uploads are mended before they are counted.
	if err := eachName(f.uploads.path, f.recoverUpload); err != nil {
		return err
	}
	var held int64
	err := eachName(f.uploads.path, func(name string) error {
		return f.addCost(filepath.Join(f.uploads.path, name), &held)
	})
	if err != nil {
		return err
	}
	// What is not an object is left alone, but takes room as well.
	err = eachName(f.objects.path, func(encoded string) error {
		name, err := engine.DecodeName(encoded)
		if err != nil {
			f.Log.Warn("the folder has a file that is not an object", "file",
				filepath.Join(f.objects.path, encoded))
		} else {
			f.names.sorted = append(f.names.sorted, name)
		}
		return f.addCost(filepath.Join(f.objects.path, encoded), &held)
	})
	slices.Sort(f.names.sorted)
	f.Quota.Set(held)
	return err
}

// recoverUpload cuts the data of an upload off where the last commit ended, since what follows may
// be on the disk in part. An upload of which nothing is committed, or less is there than was
// committed, is removed; its sender begins anew. One whose files cannot be read now is left as it
// is: Begin cuts it off once they can.
func (f *Folder) recoverUpload(name string) error {
	path := filepath.Join(f.uploads.path, name)
	id, isData := strings.CutSuffix(name, dataSuffix)
	if !isData {
		return nil
	}
	p, err := f.readLog(id, nil)
	if errors.Is(err, engine.ErrCorrupt) {
		f.Log.Warn("an upload that cannot be continued is removed", "upload_id", id, "error", err)
		return f.drop(id)
	}
	have, sizeErr := fileSize(path)
	if err = errors.Join(err, sizeErr); err != nil {
		f.Log.Warn("an upload cannot be read, and is left as it is", "upload_id", id, "error", err)
		return nil
	}
	if p == nil || p.size == 0 || have < p.size {
		return f.drop(id)
	}
	return os.Truncate(path, p.size)
}

// addCost adds what a file counts for.
func (f *Folder) addCost(path string, held *int64) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	*held += cost(info.Size())
	return nil
}

// cost is what a file of so many bytes counts for.
func cost(size int64) int64 { return size + engine.FileOverhead }

// eachName calls do for each file of a folder, some at a time, however many there are.
func eachName(folder string, do func(name string) error) error {
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, readErr := dir.Readdirnames(fewNames)
		for _, name := range names {
			if err := do(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}

// objectPath, dataPath and logPath are where the files of an object and of an upload are.
func (f *Folder) objectPath(name string) string {
	return filepath.Join(f.objects.path, engine.EncodeName(name))
}
func (f *Folder) dataPath(id string) string { return filepath.Join(f.uploads.path, id+dataSuffix) }
func (f *Folder) logPath(id string) string  { return filepath.Join(f.uploads.path, id+logSuffix) }

// Stat implements engine.Engine. It reads the footer.
func (f *Folder) Stat(_ context.Context, name string) (engine.Object, error) {
	footer, err := f.footer(name)
	return footer.Object, err
}

// footer reads the footer of an object, or returns ErrNotFound.
func (f *Folder) footer(name string) (engine.Footer, error) {
	file, footer, err := f.open(name)
	if err == nil {
		_ = file.Close()
	}
	return footer, err
}

// open opens an object's file and reads its footer. The file keeps its content while it is open,
// also when the name is given to another one or removed.
func (f *Folder) open(name string) (*os.File, engine.Footer, error) {
	file, err := os.Open(f.objectPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, engine.Footer{}, engine.ErrNotFound
	}
	if err != nil {
		return nil, engine.Footer{}, err
	}
	footer, err := readFooter(file, name)
	if err != nil {
		_ = file.Close()
		return nil, engine.Footer{}, err
	}
	return file, footer, nil
}

// readFooter reads the footer from the end of a file, and checks it against the file's size and the
// name that it has.
func readFooter(file *os.File, name string) (engine.Footer, error) {
	info, err := file.Stat()
	if err != nil {
		return engine.Footer{}, err
	}
	data := make([]byte, min(engine.FooterBytes, info.Size()))
	if _, err := file.ReadAt(data, info.Size()-int64(len(data))); err != nil {
		return engine.Footer{}, fmt.Errorf("read the footer of %q: %w", name, err)
	}
	return engine.ParseFooter(data, name, info.Size())
}

// List implements engine.Engine. It looks at the files that it lists, and reads none.
func (f *Folder) List(
	ctx context.Context, prefix, after string, limit int,
) (objects []engine.Object, more bool, err error) {
	// All names of a page may have gone since: an empty page would look like the end of the list.
	for more = true; more && len(objects) == 0; {
		var found []string
		found, more = f.names.page(prefix, after, limit)
		objects = make([]engine.Object, 0, len(found))
		for i, name := range found {
			// A page of 1000 names takes as many system calls, which a caller that has gone does not need.
			if i%fewNames == 0 && ctx.Err() != nil {
				return nil, false, context.Cause(ctx)
			}
			after = name
			info, err := os.Lstat(f.objectPath(name))
			if errors.Is(err, fs.ErrNotExist) { // It has gone since.
				continue
			}
			if err != nil {
				return nil, false, err
			}
			objects = append(objects, engine.Object{
				Name: name, Size: contentSize(info.Size()), CreateTime: info.ModTime().UTC(),
			})
		}
	}
	return objects, more, nil
}

// contentSize computes the size of the content from that of the file: for each block the table has
// a checksum. It does so without reading the file.
func contentSize(stored int64) int64 {
	stored -= engine.FooterBytes
	return max(0, stored-engine.Blocks(stored, blockBytes+engine.SumBytes)*engine.SumBytes)
}

// publish gives a file the name of an object, which until then another object may have, and returns
// when that is durable.
func (f *Folder) publish(path, name string) error {
	if err := f.replace(path, name); err != nil {
		return err
	}
	return f.objects.do()
}

// replace renames the file. The object that had the name no longer counts for the quota.
func (f *Folder) replace(path, name string) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	// The object that is replaced is counted until it is gone, since both are stored for a moment.
	replaced, err := fileSize(f.objectPath(name))
	if err != nil {
		return err
	}
	if err := os.Rename(path, f.objectPath(name)); err != nil {
		return err
	}
	if replaced >= 0 {
		f.Quota.Give(cost(replaced))
	}
	f.names.add(name)
	return nil
}

// Delete implements engine.Engine. What is not there may have been removed by a call whose sync has
// failed, and is not said to be gone before that is durable.
func (f *Folder) Delete(_ context.Context, name string, generation int64) error {
	err := f.remove(name, generation)
	if err != nil && !errors.Is(err, engine.ErrNotFound) {
		return err
	}
	if syncErr := f.objects.do(); syncErr != nil {
		return syncErr
	}
	return err
}

// remove deletes an object, if it has the generation or none is given. With changing held no other
// object can appear between the comparison and the deletion.
func (f *Folder) remove(name string, generation int64) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	// Without a generation the footer is not read: an object whose trailer is damaged can be deleted.
	if generation != 0 {
		footer, err := f.footer(name)
		if err == nil && footer.Generation != generation {
			err = engine.ErrGenerationGone
		}
		if err != nil {
			return err
		}
	}
	info, err := os.Lstat(f.objectPath(name))
	if err == nil {
		err = os.Remove(f.objectPath(name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return engine.ErrNotFound
	}
	if err == nil {
		f.Quota.Give(cost(info.Size()))
		f.names.drop(name)
	}
	return err
}

// Expire implements engine.Engine. An upload is as old as the newer of its files. Most uploads have
// two files, the first of which that is found removes both; the second is then not there.
func (f *Folder) Expire(
	ctx context.Context, before time.Time, take engine.Take,
) (abandoned int, err error) {
	var failed error
	err = eachName(f.uploads.path, func(name string) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// An upload is found by either of its files.
		id := strings.TrimSuffix(strings.TrimSuffix(name, dataSuffix), logSuffix)
		release, ok := take(id)
		if !ok {
			return nil
		}
		defer release()
		// One that cannot be removed does not keep the others from it.
		unfinished, err := f.expire(id, before)
		if err != nil {
			f.Log.Error("an upload could not be removed", "upload_id", id, "error", err)
			failed = err
		} else if unfinished {
			abandoned++
		}
		return nil
	})
	return abandoned, errors.Join(failed, err)
}

// expire removes an upload if it has been idle since before, and tells whether it was unfinished.
func (f *Folder) expire(id string, before time.Time) (unfinished bool, err error) {
	for _, path := range []string{f.dataPath(id), f.logPath(id)} {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil || !info.ModTime().Before(before):
			return false, err
		case path == f.dataPath(id): // A log without data is what remembers a finished upload.
			unfinished = true
		}
	}
	return unfinished, f.drop(id)
}

// fileSize is the size of a file in bytes; negative if there is no such file.
func fileSize(path string) (int64, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// drop removes the files of an upload, the log first. If the process died in between and only the
// log were left, the upload would be taken for finished.
func (f *Folder) drop(id string) error {
	for _, path := range []string{f.logPath(id), f.dataPath(id)} {
		had, err := fileSize(path)
		if err != nil {
			return err
		}
		if had < 0 {
			continue
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		f.Quota.Give(cost(had))
	}
	return nil
}

// Upload implements engine.Engine.
func (f *Folder) Upload(_ context.Context, id string) (engine.State, error) {
	p, err := f.progress(id)
	if err != nil {
		return engine.State{}, err
	}
	if p == nil {
		return engine.State{}, engine.ErrUploadNotFound
	}
	return p.state(), nil
}

// Cancel implements engine.Engine.
func (f *Folder) Cancel(_ context.Context, id string, permit func(name string) error) error {
	p, err := f.progress(id)
	switch {
	case err != nil:
		return err
	case p == nil:
		return engine.ErrUploadNotFound
	}
	if err := permit(p.header.Name); err != nil {
		return err
	}
	if p.object != nil {
		return engine.ErrUploadFinished
	}
	return f.drop(id)
}

// Count implements engine.Engine. There is nothing to do: only this process changes what is stored,
// and it counts exactly.
func (f *Folder) Count(context.Context) error { return nil }

// Ping implements engine.Engine by writing and syncing a small file. A full disk is no error:
// downloads and deletions go on.
func (f *Folder) Ping(context.Context) error {
	file, err := os.OpenFile(filepath.Join(f.root, checkFile), os.O_RDWR|os.O_CREATE|os.O_TRUNC,
		privateMode)
	if err == nil {
		_, err = file.WriteString("ok")
		err = errors.Join(err, file.Sync(), file.Close())
	}
	if err == nil {
		_, err = os.Lstat(f.uploads.path)
	}
	// During makes ErrStoreFull of what a full disk says.
	if err = engine.During("check the folder by writing", err); errors.Is(err, engine.ErrStoreFull) {
		return nil
	}
	return err
}

// UploadBytes implements engine.Engine: bytes go to the file as they arrive.
func (f *Folder) UploadBytes() int64 { return 0 }

// Close implements engine.Engine.
func (f *Folder) Close() error { return f.lock.Close() }
