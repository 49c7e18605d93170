package object

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
)

// destination is where a download goes. A regular file is written beside its place, into a part,
// and moved there when it is known to be right, so that nothing half-written is ever seen under its
// name. The name of the part has the generation of the object in it, so that a later download can
// go on with it.
type destination struct {
	io.Writer
	// file is what is written; nil for standard output, and for a part that is not open yet.
	file *os.File
	// place is where the file belongs, and "" if it is no regular file.
	place string
	// direct says that the place itself is written, because no part of it can be.
	direct bool
	// folder is the one of the place, if it can be synced.
	folder *os.File
	// note tells the person what cannot be kept.
	note func(format string, args ...any)

	// generation, size in bytes and CRC-32C are those of a part that is continued; 0 without one.
	generation, size int64
	crc              uint32
}

// openDestination applies the rules that the help of download tells. It opens only what is no
// regular file: what is begun of one has to wait until the object is known.
func openDestination(
	stdout io.Writer, name, file string, note func(format string, args ...any),
) (*destination, error) {
	d := &destination{note: note}
	// Standard output has no place and no part: it is written as chunks come.
	if file == "-" {
		d.Writer = stdout
		return d, nil
	}
	// Without a file, or with a directory, the name of the object says what the file is called.
	if info, err := os.Stat(file); file == "" || err == nil && info.IsDir() {
		last, err := lastElement(name)
		if err != nil {
			return nil, err
		}
		file = filepath.Join(file, last)
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory", file)
	// A pipe or a device is written directly: a rename would replace it.
	case !info.Mode().IsRegular():
		d.file, err = os.OpenFile(file, os.O_WRONLY, 0)
		d.Writer = d.file
		return d, err
	}
	// What is renamed later has to be in the folder of the file itself, and not of a link to it.
	place, err := resolveLinks(file)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Dir(place)); err != nil {
		return nil, err
	}
	d.place = place
	return d, nil
}

// lastElement is the file name in an object's name, if it is one that stays where it is put.
func lastElement(name string) (string, error) {
	last := name[strings.LastIndexByte(name, '/')+1:]
	if last == "." || !filepath.IsLocal(last) || filepath.Base(last) != last {
		err := fmt.Errorf("%q does not end in the name of a file; say where to put it", name)
		return "", cli.UsageError(err)
	}
	return last, nil
}

// resolveLinks goes through symbolic links, so that the file is replaced and not the link, also
// where it is not there yet.
func resolveLinks(file string) (string, error) {
	for range 40 { // As many as Linux follows.
		to, err := os.Readlink(file)
		if err != nil {
			return file, nil // It is no link. The next call reports what else is wrong.
		}
		if !filepath.IsAbs(to) {
			folder, err := filepath.EvalSymlinks(filepath.Dir(file))
			if err != nil {
				return "", err
			}
			to = filepath.Join(folder, to)
		}
		file = to
	}
	return "", fmt.Errorf("%s: too many symbolic links", file)
}

// resume takes up the part that an earlier download has left, the newest if there are several, and
// reads it for the checksum that the whole begins with. Without one the download begins anew.
func (d *destination) resume() error {
	for name, generation := range d.parts() {
		f, err := openPart(name)
		if err != nil {
			continue // Another process writes it, or it is not ours.
		}
		// An older generation has been replaced on the server: only the newest may still be there.
		if d.file != nil && generation < d.generation {
			_ = f.Close()
			continue
		}
		if d.file != nil {
			_ = d.file.Close()
		}
		d.file, d.generation = f, generation
	}
	if d.file == nil {
		return nil
	}
	// The server cannot verify what this process has from an earlier download, so the checksum of the
	// whole covers it.
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	var err error
	d.size, err = io.Copy(sum, d.file)
	d.crc, d.Writer = sum.Sum32(), d.file
	return err
}

// begin is called with the object before its first byte. It opens what is to be written, and tells
// the person beforehand what cannot be kept of a file that will be replaced: its owner, its other
// links, or its safety from a power failure.
func (d *destination) begin(object *quartetv1.Object) error {
	if d.place == "" {
		return nil
	}
	old, _ := os.Stat(d.place) // It is nil if there is none.
	if d.file == nil {
		if err := d.open(object.GetGeneration(), old); err != nil {
			return err
		}
	}
	// Its own part is locked by now. What other downloads have left would stay for ever.
	d.removeOldParts()
	d.Writer = d.file
	// Emptied here and not when it was opened: the object is known to be there now.
	if d.direct {
		return d.file.Truncate(0)
	}
	// The new file should be as accessible as the old one.
	if old != nil {
		if err := d.file.Chmod(old.Mode().Perm()); err != nil {
			return err
		}
		if lost := keepOwner(d.file, old); lost != "" {
			d.note("%s is replaced by a new file: %s", d.place, lost)
		}
	}
	// Tried before the download: afterwards it is too late to tell that the name cannot be made
	// durable.
	folder, err := os.Open(filepath.Dir(d.place))
	if err == nil {
		err = folder.Sync()
	}
	if err != nil {
		d.note("%s may have its old content again after a power failure: %v", d.place, err)
		return nil
	}
	d.folder = folder
	return nil
}

// open opens the part of a generation, or the place itself where there can be none.
func (d *destination) open(generation int64, old fs.FileInfo) (err error) {
	if old == nil || !isMount(d.place) {
		d.file, err = createPart(d.part(generation))
		// A file that is not there yet cannot be overwritten either.
		if err == nil || old == nil {
			return err
		}
		// Only where the folder takes no new files is overwriting the next best.
		if !errors.Is(err, fs.ErrPermission) && !isReadOnly(err) {
			return err
		}
	} else {
		err = errors.New("it is a mount of its own")
	}
	file, openErr := os.OpenFile(d.place, os.O_WRONLY, 0)
	if openErr != nil {
		return openErr
	}
	d.note("%s cannot be replaced (%v), so it is overwritten: "+
		"it is neither old nor new until this ends with exit code 0", d.place, err)
	d.file, d.direct = file, true
	return nil
}

// maxName is the longest name of a file that usual file systems have, in bytes.
const maxName = 255

// part is the path of the part of a generation, which is in the folder of the place.
func (d *destination) part(generation int64) string {
	name := d.partPrefix() + strconv.FormatInt(generation, 10) + ".part"
	return filepath.Join(filepath.Dir(d.place), name)
}

// partPrefix is what the name of each part of this place begins with: a dot, and the name of the
// file or, if that is too long, its hash.
func (d *destination) partPrefix() string {
	base := filepath.Base(d.place)
	// With the dot, the generation and the suffix the name would be too long.
	if len(base) > maxName-len("..part")-len("-9223372036854775808") {
		sum := sha256.Sum256([]byte(base))
		base = hex.EncodeToString(sum[:16])
	}
	return "." + base + "."
}

// generations matches what follows the prefix.
var generations = regexp.MustCompile(`^(-?\d+)\.part$`)

// parts are the paths of the parts of this place that are there, with their generations.
func (d *destination) parts() map[string]int64 {
	parts, prefix := map[string]int64{}, d.partPrefix()
	folder, err := os.Open(filepath.Dir(d.place))
	if err != nil {
		return nil // One that cannot be read can be written all the same.
	}
	defer folder.Close()
	for {
		names, err := folder.Readdirnames(1024)
		for _, name := range names {
			rest, ours := strings.CutPrefix(name, prefix)
			if found := generations.FindStringSubmatch(rest); ours && found != nil {
				if generation, err := strconv.ParseInt(found[1], 10, 64); err == nil {
					parts[filepath.Join(filepath.Dir(d.place), name)] = generation
				}
			}
		}
		if err != nil {
			return parts
		}
	}
}

// removeOldParts removes the parts that other downloads to this place have left, and no process
// writes any more.
func (d *destination) removeOldParts() {
	for name := range d.parts() {
		if d.file != nil && name == d.file.Name() {
			continue
		}
		// A part that is locked is being written by another process.
		if f, err := openPart(name); err == nil {
			_ = os.Remove(name) // It is in the way no more than before.
			_ = f.Close()
		}
	}
}

// discard gives up a part that was to be continued, because the object has changed since.
func (d *destination) discard() {
	_ = os.Remove(d.file.Name()) // What is left of it, a later download removes.
	_ = d.file.Close()
	d.file, d.Writer, d.generation, d.size, d.crc = nil, nil, 0, 0, 0
}

// finish makes what was written visible and durable, if err is nil. Otherwise it removes the part,
// unless keep says that a later download can continue it. It returns err, or its own error.
func (d *destination) finish(err error, keep bool) error {
	if d.file == nil {
		return err
	}
	defer d.file.Close() // After the rename: it holds the lock.
	// The content first, so that after a power failure the name does not lead to a file with holes.
	if d.place != "" && err == nil {
		err = d.file.Sync()
	}
	if d.place == "" || d.direct {
		return errors.Join(err, d.file.Close())
	}
	defer d.folder.Close() // It may be nil, which is an error that is ignored.
	if err == nil {
		err = os.Rename(d.file.Name(), d.place)
	}
	if err != nil {
		// An empty part is nothing to continue.
		if info, statErr := d.file.Stat(); keep && statErr == nil && info.Size() > 0 {
			return err
		}
		return errors.Join(err, os.Remove(d.file.Name()))
	}
	if d.folder != nil {
		return d.folder.Sync() // The file's own sync says nothing of its name.
	}
	return nil
}

// continues tells whether a later download can go on where this one ended.
func (d *destination) continues() bool { return d.place != "" && !d.direct }

// String is the destination as the person is told of it.
func (d *destination) String() string {
	switch {
	case d.place != "":
		return d.place
	case d.file != nil:
		return d.file.Name()
	default:
		return "standard output"
	}
}
