// Package quartet names the product.
package quartet

import (
	_ "embed" // for Contract

	"example.com/quartet/internal/app"
)

// Identity is the product's name, from which the names of variables, metrics, span attributes and
// errors are derived. The charts spell it out.
var Identity = app.Identity{Name: "quartet", Variables: variables}

// Contract is the contract with its comments, which generated code lacks: an encoded
// google.protobuf.FileDescriptorSet with source information.
//
//go:embed gen/contract.binpb
var Contract []byte
