package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// repository is the root of the checkout, seen from where tests run.
const repository = "../.."

// cluster is the kind cluster that `make e2e` has made, with the images loaded.
type cluster struct {
	// context is its name in KUBECONFIG. Every command names it, so that none ever reaches another
	// cluster.
	context string
	kube    kubernetes.Interface
}

func openCluster(t *testing.T) *cluster {
	t.Helper()
	name := os.Getenv("E2E_CLUSTER")
	if name == "" {
		t.Fatal("E2E_CLUSTER is not set: run `make e2e`, which makes a cluster and deletes it")
	}
	c := &cluster{context: "kind-" + name}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(),
		&clientcmd.ConfigOverrides{CurrentContext: c.context}).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	// Every look is one request; the default of 5 a second would make the tests slower than the
	// cluster.
	config.QPS, config.Burst = 50, 100
	if c.kube, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	c.ready(t)
	return c
}

// ready waits for what a cluster brings along: kind says that it is ready when its name service and
// its volumes are still being started, and installations would pay for that with their time.
func (c *cluster) ready(t *testing.T) {
	t.Helper()
	took := eventually(t, "the cluster's own Deployments", 3*time.Minute, func(ctx context.Context) error {
		own, err := c.kube.AppsV1().Deployments(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		return unfinished(own.Items, nil)
	})
	t.Logf("the cluster was ready after %.0f s", took.Seconds())
}
