package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// names are those of all metrics and labels.
type names map[string]bool

// others are the metrics of Prometheus itself and of client_golang's collectors, and the labels of scraping, histograms,
// summaries and rules.
const others = `up
	go_gc_duration_seconds go_gc_duration_seconds_sum go_gc_duration_seconds_count go_gc_gogc_percent
	go_gc_gomemlimit_bytes go_goroutines go_info go_sched_gomaxprocs_threads go_threads go_memstats_alloc_bytes
	go_memstats_alloc_bytes_total go_memstats_frees_total go_memstats_heap_alloc_bytes go_memstats_heap_idle_bytes
	go_memstats_heap_inuse_bytes go_memstats_heap_objects go_memstats_heap_released_bytes go_memstats_heap_sys_bytes
	go_memstats_last_gc_time_seconds go_memstats_mallocs_total go_memstats_next_gc_bytes
	go_memstats_stack_inuse_bytes go_memstats_sys_bytes
	process_cpu_seconds_total process_max_fds process_network_receive_bytes_total
	process_network_transmit_bytes_total process_open_fds process_resident_memory_bytes
	process_start_time_seconds process_virtual_memory_bytes
	__name__ namespace pod job node instance container le quantile slo`

var quoted = regexp.MustCompile("`([^`]+)`")

// readNames takes metrics from the first cells of docs/telemetry.md's tables, where SIDE stands for server and client and
// … for what the name before began with. Anything else in backticks may be a label.
func readNames(file string) (names, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	known := names{}
	for _, name := range strings.Fields(others) {
		known[name] = true
	}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		histogram := len(cells) > 3 && strings.TrimSpace(cells[2]) == "histogram"
		for _, found := range quoted.FindAllStringSubmatch(line, -1) {
			name := strings.Replace(found[1], "…", "grpc_SIDE", 1)
			known.add(strings.Replace(name, "SIDE", "server", 1), histogram)
			known.add(strings.Replace(name, "SIDE", "client", 1), histogram)
		}
	}
	if !known["quartet_build_info"] {
		return nil, fmt.Errorf("%s has no quartet_build_info in a table", file)
	}
	return known, nil
}

func (n names) add(name string, histogram bool) {
	n[name] = true
	if histogram {
		n[name+"_bucket"], n[name+"_count"], n[name+"_sum"] = true, true, true
	}
}
