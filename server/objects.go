package main

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/object"
)

// objectService answers quartet.v1.ObjectService. Its methods, one file each, only translate between the contract and
// the object package.
type objectService struct {
	// The Unsafe interface has no methods to inherit: an RPC that is added to the contract breaks the build until it
	// is written.
	quartetv1.UnsafeObjectServiceServer

	store *object.Store
	// draining is closed when the server is about to stop.
	draining <-chan struct{}
	memory   *memory
	// idleTimeout ends an upload that sends nothing for so long.
	idleTimeout time.Duration
}

// protoObject is an object as the contract has it.
func protoObject(o object.Object) *quartetv1.Object {
	return quartetv1.Object_builder{
		Name:        o.Name,
		Generation:  o.Generation,
		ContentType: o.ContentType,
		SizeBytes:   uint64(o.Size),
		Crc32C:      o.CRC32C,
		Sha256:      o.SHA256,
		CreateTime:  timestamppb.New(o.CreateTime),
	}.Build()
}

// clamp brings a size or an offset of the wire into the range of the domain's. No store holds that much, so a number
// that had to be clamped is found too large by whatever looks at it next.
func clamp(n uint64) int64 {
	return int64(min(n, math.MaxInt64))
}
