package e2e

import (
	"context"
	"errors"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// onNode runs a script in the node's container, for what Kubernetes does not tell.
func onNode(ctx context.Context, node, script string, args ...string) (string, error) {
	out, err := try(ctx, "", "docker", append([]string{"exec", node, "sh", "-euc", script, "sh"}, args...)...)
	return out.stdout, err
}

// memory is what a container has in memory.
type memory struct {
	// anonymous is what its processes have taken; files can be dropped by the kernel, except those in
	// use, so that the rest counts as well in what the kubelet calls the working set. sockets are what
	// the kernel buffers for connections.
	anonymous, workingSet, sockets int64
	// needed is all that the kernel cannot take away by dropping files, with what it keeps itself for
	// the container. most is the most there ever was, with files.
	needed, most int64
}

// memoryOf reads the memory of a pod's container from its control group, of whichever version.
func (n *namespace) memoryOf(ctx context.Context, pod corev1.Pod) (memory, error) {
	_, id, _ := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
	text, err := onNode(ctx, pod.Spec.NodeName, `
		group=$(find /sys/fs/cgroup -path "*kubepods*$1*" -name memory.stat | head -1)
		cat "$group"
		cd "${group%/*}"
		for total in memory.current memory.usage_in_bytes; do
			if [ -f $total ]; then echo "usage $(cat $total)"; fi
		done
		for peak in memory.peak memory.max_usage_in_bytes; do
			if [ -f $peak ]; then echo "peak $(cat $peak)"; fi
		done`, id)
	stat := map[string]int64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		number, malformed := strconv.ParseInt(value, 10, 64)
		stat[name], err = number, errors.Join(err, malformed)
	}
	return memory{
		anonymous:  stat["anon"] + stat["rss"],
		workingSet: stat["usage"] - stat["inactive_file"],
		sockets:    stat["sock"],
		needed:     stat["usage"] - stat["inactive_file"] - stat["active_file"],
		most:       stat["peak"],
	}, err
}
