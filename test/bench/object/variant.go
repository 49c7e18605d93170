package object

import (
	"context"
	"fmt"
)

// kind is a way to move files.
type kind string

const (
	kindRaw   kind = "raw"
	kindH1    kind = "h1"
	kindH2C   kind = "h2c"
	kindNaive kind = "naive"
	kindBare  kind = "bare"
	kindOurs  kind = "ours"
	kindWeb   kind = "web" // The first one by HTTP/1.1, the second by h2c.
	kindWeb2  kind = "web2"
	kindS3    kind = "s3"
)

// variant is one thing to measure: a way, and where the server has the file.
type variant struct {
	name  string
	kind  kind
	place place
	check bool // Ours always checks.
	sync  bool // Ours always syncs.
	own   bool // Each of several transfers has a connection of its own, where they would share one.
	parts bool // An upload is S3's multipart upload, as ours is.
}

// The names of those that goals or others name.
const (
	h1Name        = "net/http HTTP/1.1, memory"
	h1FastName    = "net/http HTTP/1.1, file"
	h1DiskName    = "net/http HTTP/1.1, disk"
	h1SyncedName  = "net/http HTTP/1.1, disk, synced"
	h2cName       = "net/http h2c, memory"
	naiveName     = "naive gRPC, memory"
	naiveFastName = "naive gRPC, file"
	bareName      = "bare gRPC without copies"
	oursFastName  = "ours, folder"
	oursDiskName  = "ours, folder on disk"
	oursOwnFast   = "ours, folder, own connections"
	oursThroughS3 = "ours, s3://"
	webName       = "ours, Connect over HTTP/1.1"
	web2Name      = "ours, Connect over h2c"
	plainS3Name   = "plain S3 client"
	partsS3Name   = "plain S3 client, multipart"
	rawName       = "raw TCP, memory"
	rawFastName   = "raw TCP, file"
	naiveSumsName = "naive gRPC, memory, CRC32C"
	naiveFastSums = "naive gRPC, file, CRC32C"
	h2cFastName   = "net/http h2c, file"
)

var variants = []variant{
	{name: rawName, kind: kindRaw, place: inMemory},
	{name: rawFastName, kind: kindRaw, place: onFast},
	{name: h1Name, kind: kindH1, place: inMemory},
	{name: h1FastName, kind: kindH1, place: onFast},
	{name: h1DiskName, kind: kindH1, place: onDisk},
	{name: h1SyncedName, kind: kindH1, place: onDisk, sync: true},
	{name: h2cName, kind: kindH2C, place: inMemory},
	{name: h2cFastName, kind: kindH2C, place: onFast},
	{name: naiveName, kind: kindNaive, place: inMemory},
	{name: naiveSumsName, kind: kindNaive, place: inMemory, check: true},
	{name: naiveFastName, kind: kindNaive, place: onFast},
	{name: naiveFastSums, kind: kindNaive, place: onFast, check: true},
	{name: bareName, kind: kindBare, place: inMemory},
	{name: oursFastName, kind: kindOurs, place: onFast},
	{name: oursOwnFast, kind: kindOurs, place: onFast, own: true},
	{name: oursDiskName, kind: kindOurs, place: onDisk},
	{name: webName, kind: kindWeb, place: onFast},
	{name: web2Name, kind: kindWeb2, place: onFast},
	{name: plainS3Name, kind: kindS3, place: onS3},
	{name: partsS3Name, kind: kindS3, place: onS3, parts: true},
	{name: oursThroughS3, kind: kindOurs, place: onS3},
}

func variantNamed(name string) (variant, error) {
	for _, v := range variants {
		if v.name == name {
			return v, nil
		}
	}
	return variant{}, fmt.Errorf("there is no variant %q", name)
}

// mover is the client's end of a connection, or of as many as its kind makes by itself.
type mover interface {
	// prepare has the server have what will be downloaded.
	prepare(context.Context, Job) error
	// download drops what comes, and says what it was.
	download(context.Context, Job) (Sum, error)
	// upload says what the server says that came.
	upload(context.Context, Job) (Sum, error)
	// clean removes what was uploaded.
	clean(context.Context) error
	close()
}

// connect makes so many connections where that is for the client to say.
func (v variant) connect(ctx context.Context, address string, connections int) (mover, error) {
	switch v.kind {
	case kindRaw:
		return rawClient{address: address}, nil
	case kindH1, kindH2C:
		return newHTTPClient(address, v.kind == kindH2C), nil
	case kindNaive:
		return newNaiveClient(address)
	case kindBare:
		return newBareClient(address)
	case kindWeb, kindWeb2:
		return newWebClient(ctx, address, v.kind == kindWeb2)
	case kindS3:
		return newS3Client(address, v.parts), nil
	default:
		return newOursClient(ctx, address, connections)
	}
}

// alike is what the clients of anchors need not do: their servers make what they need, and are told
// to clean.
type alike struct{}

func (alike) prepare(context.Context, Job) error { return nil }
func (alike) clean(context.Context) error        { return nil }
func (alike) close()                             {}
