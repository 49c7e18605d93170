package config

import (
	"cmp"
	"fmt"
)

// Within is for Validate methods: it returns an error that names the variable if its value is not between least and most.
func Within[N cmp.Ordered](name string, value, least, most N) error {
	if value < least || value > most {
		return fmt.Errorf("%s=%v: must be between %v and %v", name, value, least, most)
	}
	return nil
}
