package workload

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/client/call"
)

// uploadNames is how many names the uploads go round, each replacing the object of an earlier one, so that a workload
// that runs for months takes no more room than one that runs for a minute.
const uploadNames = 4

const contentType = "application/octet-stream"

func (w *Workload) knownName() string { return w.objectName("lookup") }

func (w *Workload) objectName(last string) string {
	return fmt.Sprintf("workload/%s/%s", w.instance, last)
}

// lookUp is the operation of the unary mode.
func (w *Workload) lookUp(ctx context.Context) error {
	object, err := w.caller.Get(ctx, w.knownName())
	if err != nil {
		return w.restoreMissing(ctx, err)
	}
	return w.known.verify(w.knownName(), object)
}

// download is the operation of the server streaming mode.
func (w *Workload) download(ctx context.Context) error {
	to := &comparer{want: w.known.reader()}
	object, err := w.caller.Download(ctx, w.knownName(), to, call.DownloadOptions{})
	if err != nil {
		return w.restoreMissing(ctx, err)
	}
	return errors.Join(to.complete(), w.known.verify(w.knownName(), object))
}

// restoreMissing puts the known object back where a server has lost it. The loss is what the operation reports, and
// counts as bad; without the object all after it would, also when the server is long well again.
func (w *Workload) restoreMissing(ctx context.Context, loss error) error {
	if status.Code(loss) != codes.NotFound {
		return loss
	}
	w.restore.Lock()
	defer w.restore.Unlock()
	// The other mode may have done it meanwhile, and a second upload would disturb its next download.
	if _, err := w.caller.Get(ctx, w.knownName()); status.Code(err) != codes.NotFound {
		return loss
	}
	if err := w.upload(ctx, w.knownName(), w.known); err != nil {
		return fmt.Errorf("%w, and cannot be put back: %w", loss, err)
	}
	return loss
}

// uploadNext is the operation of the client streaming mode. No content is uploaded twice, so that an old object is
// never taken for a new one.
func (w *Workload) uploadNext(ctx context.Context) error {
	name := w.objectName(fmt.Sprint(w.uploads % uploadNames))
	w.uploads++
	return w.upload(ctx, name, newContent(w.uploads, w.known.size))
}

func (w *Workload) upload(ctx context.Context, name string, c content) error {
	object, err := w.caller.Upload(ctx, name, c.reader(), call.UploadOptions{ContentType: contentType, Size: c.size})
	if err != nil {
		return err
	}
	return c.verify(name, object)
}

// removeObjects deletes all that the workload may have stored, as far as it gets.
func (w *Workload) removeObjects(ctx context.Context) {
	names := []string{w.knownName()}
	for i := range uploadNames {
		names = append(names, w.objectName(fmt.Sprint(i)))
	}
	for _, name := range names {
		if err := w.caller.Delete(ctx, name, call.DeleteOptions{AllowMissing: true}); err != nil {
			w.log.Warn("workload: objects left behind", "first", name, "error", err)
			return
		}
	}
}
