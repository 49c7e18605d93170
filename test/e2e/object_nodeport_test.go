package e2e

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodePort is the address on this machine of a Service of type NodePort: connections there are shared out to its pods,
// as they come and go, by the node's network and nothing else.
func (n *namespace) nodePort(t *testing.T, service, port string) string {
	t.Helper()
	found, err := n.kube.CoreV1().Services(n.name).Get(t.Context(), service, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := n.kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found.Spec.Ports {
		for _, a := range nodes.Items[0].Status.Addresses {
			if p.Name == port && p.NodePort != 0 && a.Type == corev1.NodeInternalIP {
				return fmt.Sprintf("%s:%d", a.Address, p.NodePort)
			}
		}
	}
	t.Fatalf("%s has no port %s on the nodes", service, port)
	return ""
}
