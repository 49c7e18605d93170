package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// deletePod deletes a pod, which ends as its chart says, and waits until it is gone.
func (n *namespace) deletePod(t *testing.T, name string) {
	t.Helper()
	n.removePod(t, name, metav1.DeleteOptions{})
}

// forceDeletePod is what kubectl delete --grace-period=0 --force does: the pod is forgotten at
// once, and its node kills it when it learns of that.
func (n *namespace) forceDeletePod(t *testing.T, name string) {
	t.Helper()
	n.removePod(t, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
}

func (n *namespace) removePod(t *testing.T, name string, options metav1.DeleteOptions) {
	t.Helper()
	pods := n.kube.CoreV1().Pods(n.name)
	if err := pods.Delete(t.Context(), name, options); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, "end of "+name, 90*time.Second, func(ctx context.Context) error {
		pod, err := pods.Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			return fmt.Errorf("it is %s", pod.Status.Phase)
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	t.Logf("%s was gone after %.1f s", name, took.Seconds())
}

// crashPod kills the process of a pod with SIGKILL and waits until another one runs in its place.
// Kubernetes has no way of doing that, since it always asks first, so that the node has to be told;
// its container has its name.
func (n *namespace) crashPod(t *testing.T, name string) {
	t.Helper()
	pods := n.kube.CoreV1().Pods(n.name)
	pod, err := pods.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimPrefix(pod.Status.ContainerStatuses[0].ContainerID, "containerd://")
	run(t, "docker", "exec", pod.Spec.NodeName, "ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id)
	eventually(t, "restart of "+name, time.Minute, func(ctx context.Context) error {
		pod, err := pods.Get(ctx, name, metav1.GetOptions{})
		if err == nil && restarts(*pod) == 0 {
			err = errors.New("it was not restarted")
		}
		return err
	})
}

// scale sets the replicas of a Deployment, and waits until the ones that are too many are gone.
func (n *namespace) scale(t *testing.T, deployment string, replicas int) {
	t.Helper()
	run(t, "kubectl", n.kubectl("scale", "deployment", deployment, fmt.Sprintf("--replicas=%d", replicas))...)
	found, err := n.kube.AppsV1().Deployments(n.name).Get(t.Context(), deployment, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	selected := metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(found.Spec.Selector)}
	eventually(t, fmt.Sprintf("at most %d pods of %s", replicas, deployment), 90*time.Second, func(ctx context.Context) error {
		list, err := n.kube.CoreV1().Pods(n.name).List(ctx, selected)
		if err == nil && len(list.Items) > replicas {
			return fmt.Errorf("there are %d", len(list.Items))
		}
		return err
	})
}

func names(pods []corev1.Pod) (names []string) {
	for _, pod := range pods {
		names = append(names, pod.Name)
	}
	return names
}
