// Command signer gives pods the certificates that they ask for with PodCertificateRequests of
// Kubernetes 1.37, which has no signer of its own for them. It is for development: its key is in a
// Secret, and it keeps no record of what it has signed.
//
// A certificate has the names that the API server vouches for, and none that the pod chooses: the
// URI spiffe://<trust domain>/ns/<namespace>/sa/<service account>, and the DNS names of the
// Services that select the pod.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	var (
		name      = flag.String("name", "", "of the signer, as in spec.signerName")
		authority = flag.String("authority", "/authority", "folder with its tls.crt and tls.key")
		domain    = flag.String(
			"trust-domain",
			"cluster.local",
			"of SPIFFE, and of the names of Services",
		)
		lifetime = flag.Duration(
			"lifetime",
			24*time.Hour,
			"of a certificate, from an hour on, unless a pod asks for less",
		)
		renewal = flag.Duration(
			"renewal",
			0,
			"after how long pods renew one, from 10m on; 0 is half of its lifetime",
		)
	)
	flag.Parse()
	if *name == "" {
		log.Fatal("-name is missing")
	}
	api, err := inCluster(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	if err != nil {
		log.Fatal(err)
	}
	// The authority is read once, at the start.
	a, err := readAuthority(*authority, *domain, *lifetime, *renewal)
	if err != nil {
		log.Fatal("authority: ", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	run(ctx, api, a, *name)
}

// interval is how often the signer looks for requests. A pod waits for its certificate that long.
const interval = time.Second

// run answers requests until ctx is done. A problem is logged once, until it changes.
func run(ctx context.Context, api *api, a *authority, name string) {
	log.Printf("signing for %s until %s", name, a.cert.NotAfter.Format(time.DateOnly))
	said := ""
	// The API is asked again and again; a watch would be more code than the rest.
	for ticker := time.NewTicker(interval); ; {
		problem := ""
		if err := signAll(ctx, api, a, name); err != nil && ctx.Err() == nil {
			problem = err.Error()
		}
		if problem != "" && problem != said {
			log.Print(problem)
		}
		said = problem
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// signAll answers all requests that have no answer yet. One that fails does not keep the others
// from being answered, and is tried again.
func signAll(ctx context.Context, api *api, a *authority, name string) error {
	requests, err := api.requests(ctx, name)
	if err != nil {
		return err
	}
	var problems []error
	for _, r := range requests {
		if r.answered() {
			continue
		}
		if err := answer(ctx, api, a, r); err != nil {
			problems = append(problems, fmt.Errorf("%s/%s: %w", r.Metadata.Namespace, r.Metadata.Name, err))
		}
	}
	return errors.Join(problems...)
}

// answer signs a request or denies it. An error means that it is tried again; a denial is for what
// would never be right.
func answer(ctx context.Context, api *api, a *authority, r *request) error {
	// The API asks signers to deny annotations that they do not know, since a pod expects them to have
	// an effect.
	if len(r.Spec.UnverifiedUserAnnotations) > 0 {
		return api.deny(ctx, r, "InvalidUnverifiedUserAnnotations", "this signer knows no annotations")
	}
	services, err := api.servicesOf(ctx, r)
	if err != nil {
		return err
	}
	status, err := a.sign(r, services, time.Now())
	if err != nil {
		return api.deny(ctx, r, "InvalidRequest", err.Error())
	}
	if err := api.setStatus(ctx, r, status); err != nil {
		return err
	}
	log.Printf("signed for the pod %s/%s until %s", r.Metadata.Namespace, r.Spec.PodName,
		status.NotAfter.Format(time.RFC3339))
	return nil
}
