// Package soak tests that a channel notices when its history is not what it was: whatever happens
// to the folder of the broker while its server is down, or to the room on its disk, a reader gets
// what was kept, once and in order, or is told.
//
// It has tests only. A model of what a correct channel may have checks a listener that stays all
// the time, and a reader of everything after each step. What happens follows from a seed. make test
// runs it for seconds, make soak for as long as it is told.
package soak
