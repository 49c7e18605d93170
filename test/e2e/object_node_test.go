package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// partBytes is how much the files of parts have in the volume of the platform's store. Beside each
// object's parts is a small record of their owner, which does not count.
func (n *namespace) partBytes(ctx context.Context) (total int64, err error) {
	claim, err := n.kube.CoreV1().PersistentVolumeClaims(n.name).Get(ctx, "platform-s3", metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	volume, err := n.kube.CoreV1().PersistentVolumes().Get(
		ctx, claim.Spec.VolumeName, metav1.GetOptions{},
	)
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
