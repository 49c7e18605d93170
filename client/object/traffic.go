package object

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/traffic"
)

// steady is this service's part of the steady traffic.
type steady struct {
	client   *Client
	instance string

	// known is the object that is looked up and downloaded; one restore at a time puts it there.
	known   content
	restore sync.Mutex
	// uploads numbers the uploads, and seeds their content. It belongs to the goroutine of uploadNext.
	uploads uint64
}

// traffic is this service's part of the steady traffic. The object that is looked up and downloaded
// is put there first.
func (c Config) traffic(s cli.Connection) traffic.Source {
	t := &steady{client: connect(s), instance: s.Instance,
		known: newContent(0, cmp.Or(s.Bytes, int64(c.Bytes)))}
	return traffic.Source{
		Service: descriptor,
		Operations: []traffic.Operation{
			{Method: "GetObject", Rate: c.Lookups, Do: t.lookUp},
			{Method: "DownloadObject", Rate: c.Downloads, Do: t.download},
			{Method: "UploadObject", Rate: c.Uploads, Do: t.uploadNext},
		},
		SetUp: func(ctx context.Context) error {
			// Then the known object is not needed.
			if c.Lookups == 0 && c.Downloads == 0 {
				return nil
			}
			return t.upload(ctx, t.knownName(), t.known)
		},
		CleanUp: t.removeObjects,
		IsWrong: isDamage,
	}
}

// uploadNames is how many names the uploads use, one after the other, each replacing the object of
// an earlier one, so that traffic that runs for months takes no more room than one that runs for a
// minute.
const uploadNames = 4

// contentType is that of all objects of the traffic.
const contentType = "application/octet-stream"

// knownName is the name of the known object. Each instance of the client has its own objects.
func (t *steady) knownName() string { return t.objectName("lookup") }

func (t *steady) objectName(last string) string { return objectPrefix(t.instance) + "/" + last }

// objectPrefix begins the names of the objects of an instance. With a part of its name it begins
// those of all instances whose names begin so.
func objectPrefix(instance string) string { return "traffic/" + instance }

// leftBehind is how the objects of instances whose names begin alike are deleted. Neither the names
// of instances of load nor those of their objects have a blank.
func leftBehind(c *cli.Terminal, instances string) string {
	return c.Examples(fmt.Sprintf("to delete the objects below %s, should any be left:\n"+
		"PROGRAM list %[1]s | awk 'NR > 1 {print $NF}' | xargs -n 1 PROGRAM delete",
		objectPrefix(instances)))
}

// lookUp is the operation of the unary mode.
func (t *steady) lookUp(ctx context.Context) error {
	object, err := t.client.Get(ctx, t.knownName())
	if err != nil {
		return t.restoreMissing(ctx, err)
	}
	return t.known.verify(t.knownName(), object)
}

// download is the operation of the server streaming mode.
func (t *steady) download(ctx context.Context) error {
	to := &comparer{want: t.known.reader()}
	object, err := t.client.Download(ctx, t.knownName(), to, DownloadOptions{})
	if err != nil {
		return t.restoreMissing(ctx, err)
	}
	return errors.Join(to.complete(), t.known.verify(t.knownName(), object))
}

// restoreMissing puts the known object back where a server has lost it. The loss is what the
// operation reports, and counts as bad. Without the object all later operations would be bad too,
// also when the server works again.
func (t *steady) restoreMissing(ctx context.Context, loss error) error {
	if status.Code(loss) != codes.NotFound {
		return loss
	}
	t.restore.Lock()
	defer t.restore.Unlock()
	// The other mode may have done it meanwhile, and a second upload would disturb its next
	// download.
	if _, err := t.client.Get(ctx, t.knownName()); status.Code(err) != codes.NotFound {
		return loss
	}
	if err := t.upload(ctx, t.knownName(), t.known); err != nil {
		return fmt.Errorf("%w, and cannot be put back: %w", loss, err)
	}
	return loss
}

// uploadNext is the operation of the client streaming mode. No content is uploaded twice, so that
// an old object is never taken for a new one.
func (t *steady) uploadNext(ctx context.Context) error {
	name := t.objectName(fmt.Sprint(t.uploads % uploadNames))
	t.uploads++
	return t.upload(ctx, name, newContent(t.uploads, t.known.size))
}

// upload stores a content, and verifies what the server says that it has stored.
func (t *steady) upload(ctx context.Context, name string, c content) error {
	object, err := t.client.Upload(ctx, name, c.reader(),
		UploadOptions{ContentType: contentType, Size: c.size})
	if err != nil {
		return err
	}
	return c.verify(name, object)
}

// removeObjects deletes all that the traffic may have stored, as far as it gets.
func (t *steady) removeObjects(ctx context.Context) error {
	names := []string{t.knownName()}
	for i := range uploadNames {
		names = append(names, t.objectName(fmt.Sprint(i)))
	}
	for _, name := range names {
		if err := t.client.Delete(ctx, name, DeleteOptions{AllowMissing: true}); err != nil {
			return fmt.Errorf("object %q: %w", name, err)
		}
	}
	return nil
}
