// Package e2e proves on a real cluster what the charts, the images and the development loop promise. `make e2e` makes the
// cluster and runs it. It knows nothing of the main module but what everybody sees from outside: the charts, the
// commands and the metrics. Only TestDisruption and TestMemory, which `make e2e-disruption` runs, call the servers as a
// program does, with client/call: they have more transfers at once than there is room for processes.
package e2e
