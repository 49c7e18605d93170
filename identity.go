// Package quartet names the product.
package quartet

import "example.com/quartet/internal/app"

// Identity is the product's name, from which the names of variables, metrics, span attributes and errors are derived. The
// charts spell it out.
var Identity = app.Identity{Name: "quartet", Variables: variables}
