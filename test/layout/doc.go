// Package layout tests the shape of the repository: what stands at its root, which package may
// import which, that internal/ does not know the product's name, and that the commands in documents
// exist. It needs only Go and git. The linter reports a forbidden import at its line; these tests
// also find what is reached through other packages.
package layout
