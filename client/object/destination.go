package object

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"example.com/quartet/internal/cli"
)

// destination is where a download goes. A regular file is written beside its place and moved there when it is known to be
// right, so that nothing half-written is ever seen under its name.
type destination struct {
	io.Writer
	file *os.File // nil for standard output
	// place is where the file belongs, and "" if it is written directly.
	place string
}

// openDestination applies the rules that the help of download tells.
func openDestination(stdout io.Writer, name, file string) (*destination, error) {
	if file == "-" {
		return &destination{Writer: stdout}, nil
	}
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
		return openBeside(file, 0)
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory", file)
	case info.Mode().IsRegular():
		return replace(file, info.Mode().Perm())
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	return &destination{Writer: f, file: f}, err
}

// lastElement is the file name in an object's name, if it is one that stays where it is put.
func lastElement(name string) (string, error) {
	last := name[strings.LastIndexByte(name, '/')+1:]
	if last == "." || !filepath.IsLocal(last) || filepath.Base(last) != last {
		return "", cli.UsageError(fmt.Errorf("%q does not end in the name of a file; say where to put it", name))
	}
	return last, nil
}

// replace goes through symbolic links, so that the file is replaced and not the link.
func replace(file string, mode fs.FileMode) (*destination, error) {
	place, err := filepath.EvalSymlinks(file)
	if err != nil {
		return nil, err
	}
	return openBeside(place, mode)
}

// openBeside opens a file with a name of its own next to place. Its mode is the one given, and without one what the
// umask leaves.
func openBeside(place string, mode fs.FileMode) (*destination, error) {
	name := filepath.Join(filepath.Dir(place), "."+filepath.Base(place)+"."+rand.Text()[:8]+".part")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	d := &destination{Writer: f, file: f, place: place}
	if mode != 0 {
		if err := f.Chmod(mode); err != nil {
			return nil, d.finish(err)
		}
	}
	return d, nil
}

// finish makes what was written visible, or leaves no trace of it if err says that it is no good.
func (d *destination) finish(err error) error {
	if d.file == nil {
		return err
	}
	if d.place == "" {
		return errors.Join(err, d.file.Close())
	}
	if err == nil {
		err = d.file.Sync()
	}
	if closed := d.file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(d.file.Name(), d.place)
	}
	if err != nil {
		return errors.Join(err, os.Remove(d.file.Name()))
	}
	return syncDirectory(filepath.Dir(d.place))
}

// syncDirectory makes the new name last: the file's own sync says nothing of the directory.
func syncDirectory(name string) error {
	directory, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

func (d *destination) String() string {
	switch {
	case d.file == nil:
		return "standard output"
	case d.place == "":
		return d.file.Name()
	default:
		return d.place
	}
}
