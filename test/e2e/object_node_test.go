package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// onNode runs a script in the node's container, for what Kubernetes does not tell.
func onNode(ctx context.Context, node, script string, args ...string) (string, error) {
	out, err := try(ctx, "", "docker", append([]string{"exec", node, "sh", "-euc", script, "sh"}, args...)...)
	return out.stdout, err
}

// partBytes is how much the files of parts have in the volume of the platform's store. Beside each object's parts is a
// small record of who owns them, which does not count.
func (n *namespace) partBytes(ctx context.Context) (total int64, err error) {
	claim, err := n.kube.CoreV1().PersistentVolumeClaims(n.name).Get(ctx, "platform-s3", metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	volume, err := n.kube.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	pods, err := n.labelled(ctx, "app.kubernetes.io/name=s3")
	if err != nil || len(pods) != 1 || volume.Spec.HostPath == nil {
		return 0, errors.Join(err, fmt.Errorf("%d pods of the store, with the volume %v", len(pods), volume.Spec))
	}
	sizes, err := onNode(ctx, pods[0].Spec.NodeName,
		`find "$1/quartet" -type f -size +64k -printf '%s\n'`, volume.Spec.HostPath.Path)
	for _, size := range strings.Fields(sizes) {
		bytes, malformed := strconv.ParseInt(size, 10, 64)
		total, err = total+bytes, errors.Join(err, malformed)
	}
	return total, err
}

// memory is what a container has in memory.
type memory struct {
	// anonymous is what its processes have taken; files can be dropped by the kernel, except those in use, so that the
	// rest counts as well in what the kubelet calls the working set. sockets are what the kernel buffers for connections.
	anonymous, workingSet, sockets int64
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
	}, err
}
