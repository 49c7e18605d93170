package object

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/tus/tusd/v2/pkg/handler"
	"golang.org/x/exp/slog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/internal/console"
	"example.com/quartet/internal/crc32c"
	"example.com/quartet/internal/rpc"
)

// newTus answers requests of tus 1.0 (https://tus.io/protocols/resumable-upload) with creation and
// termination. An upload's address says what it is, and the server how far it is, so that any
// replica of this client continues it, also after a restart. It keeps nothing else but the ids of
// uploads that were cancelled here.
//
// Upload-Metadata has filename, the object's name, and may have filetype, and sha256 or crc32c in
// hexadecimal, which the server verifies before the object is visible. A request that completes an
// upload may have Repr-Digest with crc32c instead. After a break any request can be the one that
// completes it, also a HEAD without a digest, so that only what Upload-Metadata states is verified
// in any case.
func newTus(client *Client) (http.Handler, error) {
	store := &tusStore{client: client}
	composer := handler.NewStoreComposer()
	composer.UseCore(store)
	composer.UseTerminater(store)
	tus, err := handler.NewHandler(handler.Config{
		StoreComposer:           composer,
		BasePath:                "/panels/object/api/uploads/",
		RespectForwardedHeaders: true,
		DisableDownload:         true,
		Cors:                    &handler.CorsConfig{Disable: true}, // The console decides on origins.
		// An upload that is cut off has this long to have what came committed.
		GracefulRequestCompletionTimeout: tusGrace,
		// The calls are logged, and the requests are those of a person.
		Logger: slog.New(
			slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1}),
		),
	})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Content-Digest is about the body of this one request, and not about the whole. It may be left
		// out: what would be wrong is committed before the end of the body shows it.
		digests, err := parseDigests(r.Header, "Repr-Digest")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		tus.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), digestsKey{}, digests)))
	}), nil
}

// tusGrace is how long what was received may take to be committed after a request has broken.
const tusGrace = 5 * time.Second

// digestsKey is the key of a request's digests in its context.
type digestsKey struct{}

// statedCRC32C is what the Repr-Digest of a request states of the whole, or nil.
func statedCRC32C(ctx context.Context) *uint32 {
	stated, _ := ctx.Value(digestsKey{}).(digests)
	return stated.crc32c
}

// tusStore implements handler.DataStore and handler.TerminaterDataStore.
type tusStore struct {
	// client sends the uploads on.
	client *Client

	// cancelled are the latest uploads that were cancelled here: the server cannot tell one of them
	// from one that has not begun.
	mu        sync.Mutex
	cancelled []string
}

// maxCancelled bounds what is remembered.
const maxCancelled = 1000

// tusUpload is an upload as its address says it: the id that the server knows, a dot, and this as
// JSON in base64url. It has all that the header of an upload states, so that each request can send
// the same header.
type tusUpload struct {
	store *tusStore
	// id is the whole of the address, and key the upload_id at its beginning.
	id, key string

	// The names in the JSON are short, as they are part of a URL.
	Name   string  `json:"n"`
	Size   int64   `json:"s"`
	Type   string  `json:"t,omitempty"`
	SHA256 []byte  `json:"h,omitempty"`
	CRC32C *uint32 `json:"c,omitempty"`
}

// NewUpload implements handler.DataStore for POST. It sends the header to the server, so that what
// the server will not take is refused now.
func (s *tusStore) NewUpload(ctx context.Context, info handler.FileInfo) (handler.Upload, error) {
	meta := info.MetaData
	u := &tusUpload{
		store: s, key: uuid.NewString(), Size: info.Size,
		Name: cmp.Or(meta["filename"], meta["name"]),
		Type: cmp.Or(meta["filetype"], meta["type"]),
	}
	if u.Name == "" {
		return nil, tusError(http.StatusBadRequest, "Upload-Metadata has no filename")
	}
	if text := meta["crc32c"]; text != "" {
		sum, err := strconv.ParseUint(text, 16, 32)
		if err != nil {
			return nil, tusError(http.StatusBadRequest, "crc32c is no number in hexadecimal")
		}
		u.CRC32C = new(uint32(sum))
	}
	sum, err := hex.DecodeString(meta["sha256"])
	if err != nil || len(sum) != 0 && len(sum) != 32 {
		return nil, tusError(http.StatusBadRequest, "sha256 is not 32 bytes in hexadecimal")
	}
	u.SHA256 = sum
	// Everything that the header of a stream needs is in the address: this process does not keep it.
	described, err := json.Marshal(u)
	if err != nil {
		return nil, err
	}
	u.id = u.key + "." + base64.RawURLEncoding.EncodeToString(described)
	// An empty one is finished by that.
	_, err = s.client.appendUpload(ctx, u.header(), 0, bytes.NewReader(nil), statedCRC32C(ctx))
	if err != nil {
		return nil, tusFailure(err)
	}
	return u, nil
}

// GetUpload implements handler.DataStore. It takes an address apart, and asks no server: GetInfo
// does.
func (s *tusStore) GetUpload(_ context.Context, id string) (handler.Upload, error) {
	u := &tusUpload{store: s, id: id}
	key, encoded, _ := strings.Cut(id, ".")
	described, err := base64.RawURLEncoding.DecodeString(encoded)
	// An address comes from outside, and may be anything.
	if err != nil || json.Unmarshal(described, u) != nil || len(key) != len(uuid.Nil.String()) ||
		uuid.Validate(key) != nil || u.Name == "" || u.Size < 0 {
		return nil, handler.ErrNotFound
	}
	u.key = key
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancelled := range s.cancelled {
		if cancelled == key {
			return nil, handler.ErrNotFound
		}
	}
	return u, nil
}

// AsTerminatableUpload implements handler.TerminaterDataStore.
func (s *tusStore) AsTerminatableUpload(u handler.Upload) handler.TerminatableUpload {
	return u.(*tusUpload) // There is no other type.
}

// header is the same for each stream of the upload, as the contract wants it.
func (u *tusUpload) header() *quartetv1.UploadHeader {
	header := quartetv1.UploadHeader_builder{
		UploadId: u.key, Name: u.Name, ContentType: u.Type, SizeBytes: new(uint64(u.Size)),
		Sha256: u.SHA256, Crc32C: u.CRC32C,
	}
	return header.Build()
}

// GetInfo implements handler.Upload for HEAD, and before each PATCH: it asks the server how far the
// upload is. If all bytes are committed and there is no object, the last request broke before
// finish, which is sent now if this request may change anything. It is compared with the digest of
// this request, as an object that is there already is.
func (u *tusUpload) GetInfo(ctx context.Context) (handler.FileInfo, error) {
	info := handler.FileInfo{ID: u.id, Size: u.Size, MetaData: handler.MetaData{"filename": u.Name}}
	if u.Type != "" {
		info.MetaData["filetype"] = u.Type
	}
	state, err := u.store.client.GetUpload(ctx, u.key)
	if err != nil {
		return info, tusFailure(err)
	}
	info.Offset = int64(state.GetCommittedSizeBytes())
	stated := statedCRC32C(ctx)
	switch {
	case !state.HasObject():
		if info.Offset == u.Size && u.Size > 0 && console.MayWrite(ctx) {
			_, err = u.store.client.appendUpload(ctx, u.header(), u.Size, bytes.NewReader(nil), stated)
		}
	case state.GetObject().GetName() != u.Name:
		err = handler.ErrNotFound // The address was made up.
	case stated != nil && *stated != state.GetObject().GetCrc32C():
		err = handler.NewError("CHECKSUM_MISMATCH",
			"the upload is finished, and its object is not what Repr-Digest states", checksumMismatch)
	default:
		info.Offset = u.Size
	}
	return info, tusFailure(err)
}

// WriteChunk implements handler.Upload for PATCH: it sends what comes on to the server. It returns
// how much of that the server has committed, which on a store that commits in parts may be less
// than what was sent; tus tells the sender so.
func (u *tusUpload) WriteChunk(ctx context.Context, offset int64, src io.Reader) (int64, error) {
	counted := &countingReader{Reader: src}
	response, err := u.store.client.appendUpload(ctx, u.header(), offset, counted, statedCRC32C(ctx))
	committed := int64(response.GetCommittedSizeBytes()) - offset
	switch {
	case err != nil:
		return 0, tusFailure(err)
	// The last byte was in this request, and the upload is finished.
	case response.HasObject():
		return u.Size - offset, nil
	// Without an error a sender of small pieces would send the same piece for ever.
	case committed <= 0 && counted.n > 0:
		return 0, tusError(http.StatusUnprocessableEntity,
			"the store commits whole parts, and this was less than one: send more at once")
	default:
		return max(committed, 0), nil
	}
}

// FinishUpload does nothing: the server finished the upload with its last byte.
func (u *tusUpload) FinishUpload(context.Context) error { return nil }

// GetReader is not called, as downloads are not by tus.
func (u *tusUpload) GetReader(context.Context) (io.ReadCloser, error) {
	return nil, handler.ErrNotImplemented
}

// Terminate removes what the server has of the upload.
func (u *tusUpload) Terminate(ctx context.Context) error {
	err := u.store.client.CancelUpload(ctx, u.key, CancelOptions{AllowMissing: true})
	if err != nil {
		return tusFailure(err)
	}
	// The server does not know a cancelled upload any more, and would let it begin again at 0.
	u.store.mu.Lock()
	defer u.store.mu.Unlock()
	u.store.cancelled = append(u.store.cancelled, u.key)
	if len(u.store.cancelled) > maxCancelled {
		u.store.cancelled = u.store.cancelled[1:]
	}
	return nil
}

// tusError is an error for the sender, with tus's way to name them.
func tusError(code int, text string) handler.Error {
	return handler.NewError(
		"ERR_"+strings.ToUpper(strings.ReplaceAll(http.StatusText(code), " ", "_")),
		text,
		code,
	)
}

// tusFailure is the answer for an error of the server, with its reason. One that is an answer
// already, and nil, are returned as they are.
func tusFailure(err error) error {
	if _, ours := errors.AsType[handler.Error](err); err == nil || ours {
		return err
	}
	code, text := httpError(err)
	answer := handler.NewError(cmp.Or(rpc.Reason(err), console.Code(err).String()), text, code)
	if code == http.StatusServiceUnavailable {
		answer.HTTPResponse.Header["Retry-After"] = retryAfter(err)
	}
	return answer
}

// countingReader counts what was read.
type countingReader struct {
	io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// minRead is how much is collected before it is sent, of content that comes slowly: each chunk
// costs a message.
const minRead = 64 << 10

// appendUpload sends what src has, the bytes of an upload from offset on, over one stream, and
// finishes the upload if they are its last. crc, if not nil, is the CRC-32C of the whole. It holds
// two chunks in memory. A stream that breaks is not resumed, because src cannot be read again: the
// caller asks how far the upload is and begins there.
func (c *Client) appendUpload(
	ctx context.Context,
	header *quartetv1.UploadHeader,
	offset int64,
	src io.Reader,
	crc *uint32,
) (response *quartetv1.UploadObjectResponse, err error) {
	ctx, o := c.beginTransfer(ctx, c.metrics.uploads, header.GetName())
	from := offset
	defer func() { o.end(ctx, offset-from, response.GetObject().GetCrc32C(), err) }()
	// A replica that is stopping refuses the stream before it has read anything of src.
	resumption := c.resumption(o)
	resumption.MaxTries = 3 // To begin; once there was something to send, an error is final.
	begun := false
	err = resumption.Resume(ctx, "upload", func(ctx context.Context, a *rpc.Attempt) error {
		a.Wait()
		stream, err := c.objects.UploadObject(ctx, grpc.ForceCodecV2(bulk.Codec{}))
		if err != nil {
			return err
		}
		received := new(quartetv1.UploadObjectResponse)
		answered, answer := context.WithCancelCause(ctx)
		// The answer is waited for from the start, as in upload.attempt. Until errAnswered says that it
		// is there, received belongs to this goroutine: answered also ends with ctx.
		go func() { answer(cmp.Or(stream.RecvMsg(received), errAnswered)) }()
		buffers := c.chunks.Buffers(int64(header.GetSizeBytes()) - offset)
		defer buffers.Drain(answered)
		err = stream.Send(quartetv1.UploadObjectRequest_builder{Header: header}.Build())
		for err == nil {
			var buffer *[]byte
			if buffer, err = buffers.Take(answered); err != nil {
				break
			}
			a.Ready()
			data := *buffer
			// While the sender is read the server owes nothing, so that a slow one is no stall.
			n, readErr := io.ReadAtLeast(src, data, min(minRead, len(data)))
			a.Wait()
			if n > 0 {
				begun = true
				*buffer = data[:n]
				chunk := quartetv1.UploadChunk_builder{
					Offset: uint64(offset), Data: *buffer, Crc32C: crc32c.Checksum(*buffer),
				}
				message := quartetv1.UploadObjectRequest_builder{Chunk: chunk.Build()}.Build()
				sent := bulk.Message{Message: message, Bulk: buffers.Bulk(buffer)}
				err = stream.SendMsg(&sent)
				sent.Free()
				offset += int64(n)
			}
			if readErr != nil {
				break // The reader of a request ends early rather than failing.
			}
		}
		// Otherwise the stream is half-closed without finish, which commits what has arrived.
		if whole := uint64(offset) == header.GetSizeBytes(); err == nil && whole {
			finish := quartetv1.UploadFinish_builder{SizeBytes: new(uint64(offset)), Crc32C: crc}
			_ = stream.Send(quartetv1.UploadObjectRequest_builder{Finish: finish.Build()}.Build())
		}
		a.WaitLonger(time.Duration(offset/(64<<20)) * time.Second)
		_ = stream.CloseSend() // The server's answer says more than what failed here.
		<-answered.Done()
		if err = context.Cause(answered); errors.Is(err, errAnswered) {
			response = received
			return nil
		}
		if begun || status.Code(err) != codes.Unavailable {
			err = rpc.Final(cmp.Or(stalled(ctx), err))
		}
		return err
	})
	return response, err
}

// stalled is the error of a stream whose server was waited for too long, or nil.
func stalled(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), rpc.ErrStalled) {
		return rpc.ErrStalled
	}
	return nil
}
