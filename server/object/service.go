// Package object answers ObjectService: one file per RPC, which translates between the contract and
// the engine that keeps the objects, and the limits of what callers may take. Below it are what
// engines have in common, in engine, and the two there are, folder and s3.
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
	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/object/engine"
)

// Service is what the server has of ObjectService, for the list in server/main.go. The host fills
// cfg from the environment before it calls Open.
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
					// Permissions say which of these a caller may use.
					NameKinds: []string{nameKind},
					Codec:     bulk.Codec{},
				},
				Check: s.engine.Ping,
				Work:  s.housekeeping,
				Close: func(context.Context) error { return s.engine.Close() },
			}, nil
		},
	}
}

// nameKind is what permissions call the name of an object.
const nameKind = "object"

// permit is the error for a caller that may not use the name of an object. It comes before anything
// that tells whether there is one.
func permit(ctx context.Context, name string) error {
	return rpc.PermitName(ctx, nameKind, name)
}

// service answers quartet.v1.ObjectService.
type service struct {
	// The Unsafe interface has no methods to inherit: an RPC that is added to the contract breaks
	// the build until it is written.
	quartetv1.UnsafeObjectServiceServer

	// config is the configuration, checked.
	config Config
	host   app.Host
	// engine keeps the objects, and quota is what it counts in.
	engine engine.Engine
	quota  *engine.Quota
	// leases, limits and memory are what all calls of this process share.
	leases  leases
	limits  *limits
	memory  *memory
	metrics *metrics
}

// open opens the engine and makes what all calls share. The configuration of the server is made to
// fit the memory here, before the host builds the server with it.
func open(ctx context.Context, cfg Config, host app.Host) (s *service, err error) {
	cfg.fitMemory(host.RPC)
	quota := &engine.Quota{Limit: int64(cfg.QuotaBytes)}
	s = &service{config: cfg, host: host, limits: newLimits(cfg, host.Telemetry.Metrics),
		metrics: newMetrics(host.Telemetry.Metrics, quota), quota: quota}
	if s.engine, err = cfg.openEngine(ctx, host.Telemetry.Log, quota); err != nil {
		return nil, err
	}
	// A store that can be read only is found at the start, and not by the first upload.
	if err = s.engine.Ping(ctx); err == nil {
		s.memory, err = newMemory(cfg, *host.RPC, s.engine.UploadBytes(), host.Telemetry.Metrics)
	}
	if err != nil {
		return nil, errors.Join(err, s.engine.Close())
	}
	return s, nil
}

// protoObject is an object as the contract has it.
func protoObject(o engine.Object) *quartetv1.Object {
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

// clamp brings a size or an offset of the wire into the range of the domain's. No store holds that
// much, so a number that had to be clamped is found too large by whatever looks at it next.
func clamp(n uint64) int64 {
	return int64(min(n, math.MaxInt64))
}
