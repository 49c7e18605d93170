package e2e

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodePort is the address on this machine of a Service of type NodePort: connections there are
// shared out to its pods, as they come and go, by the node's network and nothing else.
func (n *namespace) nodePort(t *testing.T, service, port string) string {
	t.Helper()
	return n.nodePorts(t, service, port)[0]
}

// portTime is how long the nodes may take to forward a new port, or one whose pod is a new one.
const portTime = 30 * time.Second

// nodePorts are its addresses by way of each node, when all of them forward it. To a pod, what
// comes by another node has another address.
func (n *namespace) nodePorts(t *testing.T, service, port string) (addresses []string) {
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
		if p.Name != port || p.NodePort == 0 {
			continue
		}
		for _, node := range nodes.Items {
			for _, a := range node.Status.Addresses {
				if a.Type == corev1.NodeInternalIP {
					addresses = append(addresses, fmt.Sprintf("%s:%d", a.Address, p.NodePort))
				}
			}
		}
	}
	if len(addresses) == 0 {
		t.Fatalf("%s has no port %s on the nodes", service, port)
	}
	for _, address := range addresses {
		eventually(t, address+" leads to a pod", portTime, func(ctx context.Context) error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	}
	return addresses
}
