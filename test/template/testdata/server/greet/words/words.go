// Package words is the domain of GreetService: how people are greeted. It knows no gRPC.
package words

import (
	"errors"
	"slices"
	"strings"
)

// ErrNoName says that there is a person without a name.
var ErrNoName = errors.New("the name is empty")

// Greeter makes greetings.
type Greeter struct{ Salutation string }

// Greet greets people, each of which has to have a name.
func (g Greeter) Greet(names ...string) (string, error) {
	if len(names) == 0 || slices.Contains(names, "") {
		return "", ErrNoName
	}
	return g.Salutation + ", " + strings.Join(names, " and ") + "!", nil
}
