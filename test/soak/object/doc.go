// Package soak tests that transfers survive faults: whatever is cut, killed, repeated, raced,
// replaced or full, a transfer ends with the right bytes or with a clear error, a name shows an
// object whole or not at all, and what was acknowledged stays. Housekeeping goes on all the while,
// with a time to live of a minute; a run of minutes ends when the bucket has the visible objects
// and nothing else.
//
// It has tests only. They run real servers, call them through client/object, and break the network,
// the store and the processes at random, while a model of what a correct store may answer checks
// every answer. Each worker and each source of faults decides by numbers of its own, which follow
// from one seed, so that a seed repeats their decisions as far as concurrency allows. make test
// runs it for seconds, make soak for DURATION.
package soak
