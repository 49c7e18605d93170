package config

import (
	"cmp"
	"fmt"
)

// Within is for Validate methods: it returns an error that names the variable if its value is not
// between least and most.
func Within[N cmp.Ordered](name string, value, least, most N) error {
	if value < least || value > most {
		return fmt.Errorf("%s=%v: must be between %v and %v", name, value, least, most)
	}
	return nil
}

// About is for Validate methods: it puts the name of the variable before an error, if there is one.
// The value is not among it, since it may have a password in it.
func About(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}
