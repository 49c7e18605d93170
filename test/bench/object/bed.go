package object

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"example.com/quartet/test/bench/measure"
	"example.com/quartet/test/process"
)

// fastRoot is memory that looks like a disk, on Linux.
const fastRoot = "/dev/shm"

// bed is what all pairs of a run lie on: folders, programs and the collector of spans.
type bed struct {
	disk, fast string
	isFast     bool // or else fast is a folder on the disk too
	program    string
	collector  *collector

	gateway        *exec.Cmd // nil if no versitygw is on the PATH
	gatewayAddress string
}

// makeBed builds our server and starts what is shared. What is there when it fails has to be
// stopped too.
func makeBed(ctx context.Context, o Options) (b *bed, err error) {
	b = &bed{}
	if b.disk, err = os.MkdirTemp("", "quartet-bench-"); err != nil {
		return b, err
	}
	// All parts together leave less than that there. Containers that do not say how large it should be
	// have a small one.
	b.isFast = measure.Room(fastRoot) >= 20*o.Bytes
	root := b.disk
	if b.isFast {
		root = fastRoot
	}
	if b.fast, err = os.MkdirTemp(root, "quartet-bench-"); err != nil {
		return b, err
	}
	if b.program, err = buildProgram(ctx, b.disk, "server"); err != nil {
		return b, err
	}
	if b.collector, err = startCollector(ctx); err != nil {
		return b, err
	}
	return b, b.startGateway(ctx)
}

func (b *bed) startGateway(ctx context.Context) error {
	program, err := exec.LookPath("versitygw")
	if err != nil {
		return nil //nolint:nilerr // Then there is no S3, which is said in the report.
	}
	folder := filepath.Join(b.fast, "s3")
	if err := os.MkdirAll(filepath.Join(folder, bucketName), 0o755); err != nil {
		return err
	}
	b.gateway, b.gatewayAddress, err = startGateway(ctx, program, folder)
	return err
}

// folder is a variant's own, the same each time it is started.
func (b *bed) folder(v variant) (string, error) {
	root := b.disk
	if v.place == onFast {
		root = b.fast
	}
	number := slices.IndexFunc(variants, func(other variant) bool { return other.name == v.name })
	path := filepath.Join(root, fmt.Sprintf("variant-%d", number))
	return path, os.MkdirAll(path, 0o755)
}

// objects is the setting of our server that says where it has its objects.
func (b *bed) objects(v variant, folder string) string {
	if v.place == onS3 {
		return process.Setting("OBJECT_URL", fmt.Sprintf("s3://%s?endpoint=http://%s&region=%s&use_path_style=true",
			bucketName, b.gatewayAddress, regionName))
	}
	return process.Setting("OBJECT_DIR", filepath.Join(folder, "objects"))
}

func (b *bed) stop() error {
	if b.collector != nil {
		b.collector.stop()
	}
	var err error
	if b.gateway != nil {
		err = stopGateway(b.gateway)
	}
	for _, folder := range []string{b.disk, b.fast} {
		if folder != "" {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}
	return err
}
