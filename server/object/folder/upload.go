package folder

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"example.com/quartet/server/object/engine"
)

// upload is an engine.Upload. Bytes are written to the data file as they arrive. After each part a
// goroutine commits what has arrived, which is to sync the data and then to note in the log how far
// they go, while the next part is received.
type upload struct {
	folder *Folder
	// ctx is that of the sender, which may go while all bytes are read again.
	ctx context.Context
	progress
	// data is nil before the first byte, and log before the first commit.
	data, log *os.File

	// arrived are the checksums of all that was written. Its Full has only those that no line has yet,
	// and first is the number of the block that they begin with.
	arrived engine.Sums
	first   int64

	// commitDone has the result of the commit under way; nil if there is none. While there is one, log
	// and valid belong to its goroutine.
	commitDone chan error
	// committing is the line that this commit writes.
	committing line
	// err is the first failure, after which the upload can only be closed.
	err    error
	closed bool
}

// Begin implements engine.Engine. It writes nothing: the files are created when the first byte
// arrives.
func (f *Folder) Begin(ctx context.Context, h engine.Header, fresh bool) (engine.Upload, error) {
	p, err := f.progress(h.UploadID)
	if err != nil {
		return nil, engine.During("find an upload", err)
	}
	if p == nil { // Files of an upload of which nothing is committed are removed.
		object, err := f.objectOf(h)
		// An object that cannot be read may be replaced, by a sender that sends all of another one.
		if err != nil && !fresh {
			return nil, engine.During("find an upload", err)
		}
		if err := f.drop(h.UploadID); err != nil {
			return nil, engine.During("begin an upload", err)
		}
		generation := f.generations.Next()
		p = &progress{
			header: h, generation: generation, createTime: time.Unix(0, generation).UTC(),
			object: object,
		}
	}
	// An id belongs to one object: a sender that uses it for another has made a mistake.
	if !p.header.Same(h) {
		return nil, engine.ErrUploadMismatch
	}
	u := &upload{folder: f, ctx: ctx, progress: *p, arrived: engine.Sums{BlockBytes: blockBytes}}
	if u.object != nil {
		return u, nil
	}
	// An upload that cannot fit is refused before its first byte. No room is kept for it.
	if h.Expect.Size != nil {
		if err := f.Quota.Fits(*h.Expect.Size - p.size); err != nil {
			return nil, err
		}
	}
	if p.size > 0 {
		if err := u.reopen(); err != nil {
			return nil, engine.During("continue an upload", errors.Join(err, u.Close()))
		}
	}
	return u, nil
}

// reopen opens the files and goes on where the log ends. The checksum of a block that is not full
// is known from the log, so that nothing is read again.
func (u *upload) reopen() (err error) {
	f := u.folder
	if u.data, err = os.OpenFile(f.dataPath(u.header.UploadID), os.O_RDWR, privateMode); err != nil {
		return err
	}
	// Data behind the last commit would stay behind the end of an object that is shorter. Close
	// removes them, unless the disk has kept it from that.
	if err := u.dropUncommitted(); err != nil {
		return err
	}
	if _, err = u.data.Seek(u.size, io.SeekStart); err != nil {
		return err
	}
	if u.log, err = os.OpenFile(f.logPath(u.header.UploadID), os.O_RDWR, privateMode); err != nil {
		return err
	}
	// What follows the last whole line is half a line of a process that died, or names an object that
	// has not appeared.
	info, err := u.log.Stat()
	if err != nil {
		return err
	}
	if err := u.log.Truncate(u.valid); err != nil {
		return err
	}
	f.Quota.Give(info.Size() - u.valid)
	if _, err := u.log.Seek(u.valid, io.SeekStart); err != nil {
		return err
	}
	_, err = f.readLog(u.header.UploadID, u.arrivedBefore)
	return err
}

// arrivedBefore adds what a line has committed to what has arrived.
func (u *upload) arrivedBefore(l line) {
	u.first, u.arrived.Size = l.Size/blockBytes, l.First*blockBytes
	for i, sum := range engine.ParseSums(l.Sums) {
		if l.First+int64(i) < u.first {
			u.arrived.AddBlock(sum)
		} else {
			u.arrived.Rest = sum
		}
	}
	u.arrived.Full, u.arrived.Size = nil, l.Size
}

// State implements engine.Upload. It notices a commit that has ended meanwhile, without waiting for
// one.
func (u *upload) State() engine.State {
	if len(u.commitDone) > 0 && u.err == nil {
		u.err = u.awaitCommit()
	}
	return u.state()
}

// Append implements engine.Upload.
func (u *upload) Append(pieces [][]byte, stated uint32) error {
	if u.err != nil {
		return u.err
	}
	if u.object != nil {
		return &engine.OffsetError{Committed: u.object.Size}
	}
	// Nothing of a chunk is written before its checksum was compared.
	after, size, err := u.arrived.After(pieces, stated)
	if err != nil {
		return err
	}
	u.err = engine.During("write an upload", u.append(pieces, size))
	if u.err != nil {
		return u.err
	}
	// A part is full: it is committed, after the commit of the part before it. So two parts at most
	// are not committed.
	full := after.Size/u.folder.PartBytes > u.arrived.Size/u.folder.PartBytes
	if u.arrived = after; full {
		if u.err = engine.During("commit an upload", u.awaitCommit()); u.err == nil {
			u.startCommit()
		}
	}
	return u.err
}

// append writes to the data file, which it creates if need be. Room is taken from the quota before,
// and what was not written is given back.
func (u *upload) append(pieces [][]byte, size int64) (err error) {
	f := u.folder
	if u.data == nil {
		if err := f.Quota.Take(2 * engine.FileOverhead); err != nil { // One is for the log.
			return err
		}
		u.data, err = os.OpenFile(f.dataPath(u.header.UploadID), os.O_RDWR|os.O_CREATE|os.O_TRUNC,
			privateMode)
		if err != nil {
			f.Quota.Give(2 * engine.FileOverhead)
			return err
		}
	}
	if err := f.Quota.Take(size); err != nil {
		return err
	}
	for _, piece := range pieces {
		n, err := u.data.Write(piece)
		// What was written of it stays counted until the file is cut off.
		if size -= int64(n); err != nil {
			f.Quota.Give(size)
			return err
		}
	}
	return nil
}

// pending are the checksums that no line has yet. The last is that of a block that is not full, if
// there is one.
func (u *upload) pending() []uint32 {
	if u.arrived.Size%blockBytes > 0 {
		return append(u.arrived.Full, u.arrived.Rest)
	}
	return u.arrived.Full
}

// startCommit commits what has arrived so far in a goroutine of its own. awaitCommit takes its
// result. There must be no commit under way.
func (u *upload) startCommit() {
	l := line{Size: u.arrived.Size, First: u.first, Sums: encodeSums(u.pending())}
	// The line has a copy of the checksums, so that memory does not grow with the upload.
	u.first, u.arrived.Full = u.arrived.Size/blockBytes, u.arrived.Full[:0]
	u.commitDone, u.committing = make(chan error, 1), l
	go func(done chan<- error) {
		done <- engine.CatchPanic(func() error { return u.commit(l) })
	}(u.commitDone)
}

// awaitCommit waits for the commit under way, if there is one. Only after it has succeeded do its
// bytes count as committed.
func (u *upload) awaitCommit() error {
	if u.commitDone == nil {
		return nil
	}
	err := <-u.commitDone
	if u.commitDone = nil; err == nil {
		u.size = u.committing.Size
	}
	return err
}

// commit syncs the data before it writes a line that promises them, and returns when the line is
// durable. It runs in the goroutine of startCommit.
func (u *upload) commit(l line) error {
	if err := u.folder.syncFile(u.data); err != nil {
		return fmt.Errorf("sync an upload: %w", err)
	}
	fresh := u.log == nil
	err := u.write(l)
	if err == nil {
		err = u.folder.syncFile(u.log)
	}
	// The names of data and log are new.
	if err == nil && fresh {
		err = u.folder.uploads.do()
	}
	if err != nil || u.log == nil {
		return errors.Join(err, u.truncateLog())
	}
	u.valid, err = u.log.Seek(0, io.SeekCurrent)
	return err
}

// truncateLog removes a line whose commit has failed: it would promise bytes that may not be
// durable.
func (u *upload) truncateLog() error {
	if u.log == nil {
		return nil
	}
	end, err := u.log.Seek(0, io.SeekEnd)
	if err == nil {
		err = u.log.Truncate(u.valid)
	}
	if err == nil {
		u.folder.Quota.Give(end - u.valid)
	}
	return err
}

// write writes a line to the log, which it creates with the header if need be.
func (u *upload) write(l line) (err error) {
	f, text := u.folder, l.encode()
	if u.log == nil {
		text = append(u.head().encode(), text...)
		u.log, err = os.OpenFile(f.logPath(u.header.UploadID), os.O_RDWR|os.O_CREATE|os.O_TRUNC,
			privateMode)
		if err != nil {
			return fmt.Errorf("log an upload: %w", err)
		}
	}
	n, err := u.log.Write(text)
	// Whether it fits or not, so that what has arrived can be committed. For each byte that a line
	// commits there was room, so that the quota is exceeded by one line of each upload at most. A line
	// has about a six thousandth of a whole part; after a pause it may be longer than what it commits.
	f.Quota.Give(-int64(n))
	if err != nil {
		return fmt.Errorf("log an upload: %w", err)
	}
	return nil
}

// head is the first line of the log.
func (u *upload) head() line {
	return line{Header: &u.header, Generation: u.generation, CreateTime: u.createTime}
}

// Pause implements engine.Upload.
func (u *upload) Pause() (int64, error) {
	if u.err == nil {
		u.err = engine.During("commit an upload", u.commitAll())
	}
	return u.state().Committed, u.err
}

// commitAll commits all that has arrived.
func (u *upload) commitAll() error {
	if err := u.awaitCommit(); err != nil || u.object != nil || u.arrived.Size == u.size {
		return err
	}
	u.startCommit()
	return u.awaitCommit()
}

// Finish implements engine.Upload.
func (u *upload) Finish(e engine.Expect) (engine.Object, error) {
	if u.err != nil {
		return engine.Object{}, u.err
	}
	if u.object != nil {
		return *u.object, e.Match(*u.object)
	}
	if u.err = engine.During("finish an upload", u.finish(e)); u.err != nil {
		return engine.Object{}, u.err
	}
	return *u.object, nil
}

// finish verifies the upload, writes the trailer behind the content, notes in the log which object
// is about to appear, and gives the data file its name. After a crash at any point the upload
// either continues at its last commit, or has become the object.
func (u *upload) finish(e engine.Expect) error {
	if err := u.awaitCommit(); err != nil {
		return err
	}
	// Verified before anything is written: a whole that is wrong leaves nothing.
	object, err := u.verify(e)
	// The content is wrong, which more bytes cannot mend.
	if errors.Is(err, engine.ErrSizeMismatch) || errors.Is(err, engine.ErrChecksumMismatch) {
		return errors.Join(err, u.discard())
	}
	if err != nil {
		return err
	}
	if u.data == nil { // An empty object.
		if err := u.append(nil, 0); err != nil {
			return err
		}
	}
	f := u.folder
	// The trailer is stored as well, and so may be what does not fit.
	trailer := engine.TrailerBytes(u.arrived.Size, blockBytes)
	if err := f.Quota.Take(trailer); err != nil {
		return err
	}
	// The object must be durable before it has a name.
	if err = u.writeTrailer(object); err == nil {
		err = f.syncFile(u.data)
	}
	if err != nil {
		f.Quota.Give(trailer)
		// Without a trailer the upload can be finished again once there is room.
		return errors.Join(err, u.data.Truncate(u.arrived.Size))
	}
	// If the answer is lost, the sender asks again, and the log remembers the object even if another
	// one has replaced it by then.
	if err := u.write(line{Object: &object}); err != nil {
		return err
	}
	if err := f.publish(f.dataPath(u.header.UploadID), object.Name); err != nil {
		return err
	}
	u.object = &object
	return nil
}

// writeTrailer writes the trailer behind the content. The table may be large, and goes from the
// lines of the log to the file with no more than one of them in memory.
func (u *upload) writeTrailer(object engine.Object) error {
	footer := engine.Footer{Object: object, UploadID: u.header.UploadID, BlockBytes: blockBytes}
	file := bufio.NewWriterSize(io.NewOffsetWriter(u.data, u.arrived.Size), 64<<10)
	// The error of file stays until Flush returns it.
	add := func(table []byte) {
		_, _ = file.Write(table)
		footer.AddSums(table)
	}
	if u.log != nil {
		p, err := u.folder.readLog(u.header.UploadID, func(l line) {
			// The checksum of a block that is not full is in the next line too, or in pending.
			add(l.Sums[:(l.Size/blockBytes-l.First)*engine.SumBytes])
		})
		if err != nil {
			return err
		}
		if p == nil {
			return fmt.Errorf("%w: the log of upload %s has gone", engine.ErrCorrupt, u.header.UploadID)
		}
	}
	// Lines may be missing at the end of the log, as after a failure of the disk.
	if footer.Sums != u.first {
		return fmt.Errorf("%w: the log of upload %s has checksums of %d blocks in place of %d",
			engine.ErrCorrupt, u.header.UploadID, footer.Sums, u.first)
	}
	add(encodeSums(u.pending()))
	foot, err := footer.Encode()
	if err != nil {
		return err
	}
	_, _ = file.Write(foot)
	return file.Flush()
}

// verify returns the object that was received, or an error if it is not the one that the header and
// e state. Sizes and CRC-32C are known; only for a SHA-256 is the content read once more.
func (u *upload) verify(e engine.Expect) (engine.Object, error) {
	o := engine.Object{
		Name: u.header.Name, Generation: u.generation, ContentType: u.header.ContentType,
		CreateTime: u.createTime,
		Size:       u.arrived.Size, CRC32C: u.arrived.CRC32C(),
	}
	// The data of a folder can be read, so that no state of the hash has to be kept while they arrive.
	if len(u.header.Expect.SHA256)+len(e.SHA256) > 0 {
		hash := sha256.New()
		if u.data != nil {
			content := contextReader{u.ctx, io.NewSectionReader(u.data, 0, u.arrived.Size)}
			if _, err := io.CopyBuffer(hash, content, make([]byte, 256<<10)); err != nil {
				return o, fmt.Errorf("read an upload for its SHA-256: %w", err)
			}
		}
		o.SHA256 = hash.Sum(nil)
	}
	if err := u.header.Expect.Match(o); err != nil {
		return o, err
	}
	return o, e.Match(o)
}

// contextReader is a reader that fails once its context has ended.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (a contextReader) Read(p []byte) (int, error) {
	if a.ctx.Err() != nil {
		return 0, context.Cause(a.ctx)
	}
	return a.Reader.Read(p)
}

// discard removes an upload that is not what its sender expects, as more bytes cannot make it
// right.
func (u *upload) discard() error {
	if err := u.folder.drop(u.header.UploadID); err != nil {
		return err
	}
	u.size = 0
	return nil
}

// Close implements engine.Upload. After a broken stream it commits what arrived since the last
// commit, if that is at least an eighth of a part. Less is dropped, and sent again.
func (u *upload) Close() error {
	if u.closed {
		return nil
	}
	u.closed = true
	err := u.awaitCommit()
	if u.object == nil && u.data != nil {
		if u.err == nil && err == nil && u.arrived.Size-u.size >= u.folder.PartBytes/8 {
			err = u.commitAll()
		}
		// Also after a commit that failed: what is behind the last one counts for the quota.
		err = errors.Join(err, u.dropUncommitted())
	}
	// It was taken for the log together with that for the data, and there is none.
	if u.data != nil && u.log == nil {
		u.folder.Quota.Give(engine.FileOverhead)
	}
	for _, file := range []*os.File{u.data, u.log} {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
	}
	return engine.During("close an upload", err)
}

// dropUncommitted cuts the data file off behind the last commit, or removes the upload if nothing
// of it is committed.
func (u *upload) dropUncommitted() error {
	f := u.folder
	have, err := fileSize(u.data.Name())
	switch {
	case err != nil:
		return err
	case have < 0:
		return nil // It was given up.
	case u.size == 0:
		return f.drop(u.header.UploadID)
	case have > u.size:
		if err = u.data.Truncate(u.size); err == nil {
			f.Quota.Give(have - u.size)
		}
	}
	return err
}
