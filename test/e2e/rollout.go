package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rolledOut waits until every Deployment and StatefulSet of a release runs what it should run, and
// nothing else.
func (r release) rolledOut(t *testing.T, within time.Duration) {
	t.Helper()
	took := eventually(t, "rollout of "+r.name, within, func(ctx context.Context) error {
		ofRelease := metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + r.name}
		deployments, err := r.kube.AppsV1().Deployments(r.namespace.name).List(ctx, ofRelease)
		if err != nil {
			return err
		}
		sets, err := r.kube.AppsV1().StatefulSets(r.namespace.name).List(ctx, ofRelease)
		if err != nil {
			return err
		}
		return unfinished(deployments.Items, sets.Items)
	})
	t.Logf("%s rolled out in %.1f s", r.name, took.Seconds())
}

func unfinished(deployments []appsv1.Deployment, sets []appsv1.StatefulSet) error {
	var problems []error
	check := func(name string, current bool, want *int32, all, updated, available int32) {
		if !current || all != *want || updated != *want || available != *want {
			problems = append(problems, fmt.Errorf("%s: %d pods wanted, %d there, %d of them new and %d available", name, *want, all, updated, available))
		}
	}
	for _, d := range deployments {
		s := d.Status
		check(d.Name, s.ObservedGeneration >= d.Generation,
			d.Spec.Replicas, s.Replicas, s.UpdatedReplicas, s.AvailableReplicas)
	}
	for _, d := range sets {
		s := d.Status
		check(d.Name, s.ObservedGeneration >= d.Generation,
			d.Spec.Replicas, s.Replicas, s.UpdatedReplicas, s.AvailableReplicas)
	}
	if len(deployments)+len(sets) == 0 {
		return errors.New("there is nothing that could roll out")
	}
	return errors.Join(problems...)
}
