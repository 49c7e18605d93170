package e2e

import "strings"

// service is what one of the services adds to the states of TestQuartet. What it does not set, it
// has no part in.
type service struct {
	name string
	// embedded, clustered, observed and secured are its promises in these states.
	embedded  func(e *embedded) []promise
	clustered func(s *clustered) []promise
	observed  func(o *observed) []promise
	secured   func(s *secured) []promise
	// clusteredValues and observedValues are for helm --set: the traffic that these states look at.
	clusteredValues, observedValues string
}

// services are those that are registered, in the order of their files.
var services []service

// register is called to initialize a variable, so that a service needs no line outside its own
// files.
func register(s service) service {
	services = append(services, s)
	return s
}

// promises are what the services add to a state.
func promises[S any](state S, of func(s service) func(state S) []promise) (all []promise) {
	for _, s := range services {
		if add := of(s); add != nil {
			for _, p := range add(state) {
				all = append(all, promise{s.name + ": " + p.name, p.keep})
			}
		}
	}
	return all
}

// settings joins values for helm --set, those of a state and those that the services add to it.
func settings(own []string, of func(s service) string) string {
	for _, s := range services {
		if add := of(s); add != "" {
			own = append(own, add)
		}
	}
	return strings.Join(own, ",")
}
