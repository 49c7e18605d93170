// Package e2e proves on a real cluster what the charts, the images and the development loop
// promise. `make e2e` makes the cluster and runs TestQuartet, which knows nothing of the main
// module but what is visible from outside: the charts, the commands and the metrics.
//
// The states that TestQuartet goes through know no service by name. What a service promises in them
// is in files named after it, channel_test.go for example, which register it; deleting them deletes
// its tests. So are tests of their own that take long, as TestDisruption, which `make
// e2e-disruption` runs. Those may call the servers as a program does: they have more calls at once
// than there is room for processes.
package e2e
