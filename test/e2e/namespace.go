package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// namespace is where one state of the charts is tried.
type namespace struct {
	*cluster
	name string
}

// newNamespace makes a namespace that admits only what keeps to the restricted Pod Security
// Standard, and warns of what does not. It is deleted after the test, and explained if that has
// failed.
func (c *cluster) newNamespace(t *testing.T, name string) *namespace {
	t.Helper()
	n := &namespace{c, name}
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name,
		Labels: map[string]string{
			"pod-security.kubernetes.io/enforce": "restricted",
			"pod-security.kubernetes.io/warn":    "restricted",
		},
	}}
	_, err := c.kube.CoreV1().Namespaces().Create(t.Context(), made, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's own context is over.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if t.Failed() {
			n.explain(ctx, t)
		}
		if err := c.kube.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return n
}

// kubectl is the command line of kubectl for this namespace.
func (n *namespace) kubectl(args ...string) []string {
	return append([]string{"--context", n.context, "--namespace", n.name}, args...)
}

// inventory is all there is in the namespace, as kind/name. Events are left out, which come and go
// by themselves, and so are the metrics that metrics-server shows as pods.
func (n *namespace) inventory(ctx context.Context) ([]string, error) {
	kinds, err := try(ctx, "", "kubectl", n.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name")...)
	if err != nil {
		return nil, err
	}
	listed := slices.DeleteFunc(strings.Fields(kinds.stdout), func(kind string) bool {
		return strings.HasPrefix(kind, "events") || strings.HasSuffix(kind, ".metrics.k8s.io")
	})
	all, err := try(ctx, "", "kubectl", n.kubectl("get", strings.Join(listed, ","), "--output=name", "--ignore-not-found")...)
	return strings.Fields(all.stdout), err
}

func (n *namespace) inventoryNow(t *testing.T) []string {
	t.Helper()
	all, err := n.inventory(t.Context())
	if err == nil && len(all) == 0 {
		err = errors.New("kubectl lists nothing at all")
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// added is what is in now and was not in before.
func added(before, now []string) []string {
	return slices.DeleteFunc(slices.Clone(now), func(name string) bool {
		return slices.Contains(before, name)
	})
}

// claims are those of volumes among what is in a namespace.
func claims(inventory []string) []string {
	return slices.DeleteFunc(slices.Clone(inventory), func(name string) bool { return !strings.HasPrefix(name, "persistentvolumeclaim/") })
}

// explain shows what people look at when something has failed. What explains most comes last, as
// that is what is left of a log that was cut; and it is of all namespaces, as what provides volumes
// or names lives elsewhere.
func (n *namespace) explain(ctx context.Context, t *testing.T) {
	show := func(args ...string) {
		out, err := try(ctx, "", "kubectl", n.kubectl(args...)...)
		if err != nil {
			out.stdout = err.Error()
		}
		t.Logf("kubectl -n %s %s\n%s", n.name, strings.Join(args, " "), out.stdout)
	}
	pods, err := n.kube.CoreV1().Pods(n.name).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Log(err)
		return
	}
	for _, pod := range pods.Items {
		show("logs", pod.Name, "--all-containers", "--tail=40", "--prefix")
		if restarts(pod) > 0 {
			show("logs", pod.Name, "--all-containers", "--tail=40", "--prefix", "--previous")
		}
	}
	// the provisioner of kind's volumes
	show("logs", "--namespace=local-path-storage", "--selector=app", "--tail=8")
	show("get", "pods,persistentvolumeclaims", "--all-namespaces")
	show("get", "events", "--all-namespaces", "--field-selector=type!=Normal", "--sort-by=.lastTimestamp",
		"--output=custom-columns=AT:.lastTimestamp,OF:.involvedObject.name,REASON:.reason,MESSAGE:.message")
}

func restarts(pod corev1.Pod) (times int) {
	for _, container := range pod.Status.ContainerStatuses {
		times += int(container.RestartCount)
	}
	return times
}

// pods are those of one component that are not on their way out.
func (n *namespace) pods(ctx context.Context, component string) ([]corev1.Pod, error) {
	return n.labelled(ctx, "app.kubernetes.io/component="+component)
}

// labelled are the same of any label, for pods that are not quartet's.
func (n *namespace) labelled(ctx context.Context, label string) ([]corev1.Pod, error) {
	list, err := n.kube.CoreV1().Pods(n.name).List(ctx, metav1.ListOptions{LabelSelector: label})
	if err != nil {
		return nil, err
	}
	deleted := func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil }
	return slices.DeleteFunc(list.Items, deleted), nil
}

// somePods are the pods of a component, of which there have to be so many.
func (n *namespace) somePods(t *testing.T, component string, count int) []corev1.Pod {
	t.Helper()
	pods, err := n.pods(t.Context(), component)
	if err == nil && len(pods) != count {
		err = fmt.Errorf("%d pods of %s, expected %d", len(pods), component, count)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pods
}

// readySince is when a pod became ready, and whether it is.
func readySince(pod corev1.Pod) (time.Time, bool) {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			return condition.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
}
