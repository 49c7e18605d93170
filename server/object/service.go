// Package object answers ObjectService: one file per RPC, which translates between the contract and the store, and the limits
// of memory for transfers. What the service does is in the package store, which knows no gRPC.
package object

import (
	"context"
	"errors"
	"math"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/object/store"
)

// Service is what the server has of ObjectService.
func Service() app.Service {
	cfg := &Config{}
	return app.Service{
		Name:   "object",
		Config: cfg,
		Open: func(ctx context.Context, host app.Host) (app.Opened, error) {
			s, err := open(ctx, *cfg, host)
			if err != nil {
				return app.Opened{}, err
			}
			return app.Opened{
				Service: rpc.Service{
					Register: func(r grpc.ServiceRegistrar) { quartetv1.RegisterObjectServiceServer(r, s) },
					Errors:   errorTable,
					Codec:    bulk.Codec{},
				},
				Check: s.store.Ping,
				Work:  s.keepHouse,
				Close: func(context.Context) error { return s.store.Close() },
			}, nil
		},
	}
}

// service answers quartet.v1.ObjectService.
type service struct {
	// The Unsafe interface has no methods to inherit: an RPC that is added to the contract breaks the build until it
	// is written.
	quartetv1.UnsafeObjectServiceServer

	config Config
	host   app.Host
	store  *store.Store
	memory *memory
}

func open(ctx context.Context, cfg Config, host app.Host) (*service, error) {
	url, err := cfg.url()
	if err != nil {
		return nil, err
	}
	cfg.fitMemory(host.RPC)
	s := &service{config: cfg, host: host}
	if s.store, err = store.Open(ctx, url, cfg.options(host.Telemetry)); err != nil {
		if errors.Is(err, store.ErrURL) {
			err = config.Problem(config.About("URL", err))
		}
		return nil, err
	}
	if err := s.store.Check(ctx); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	if s.memory, err = newMemory(cfg, *host.RPC, s.store.WriterBytes(), host.Telemetry.Metrics); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	return s, nil
}

// protoObject is an object as the contract has it.
func protoObject(o store.Object) *quartetv1.Object {
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
