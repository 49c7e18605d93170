package object

import (
	"os"
	"strings"
	"testing"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

// TestAnAddressThatCannotBeUsedIsAProblemOfTheConfiguration expects the name of the variable, and
// nothing secret.
func TestAnAddressThatCannotBeUsedIsAProblemOfTheConfiguration(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	for _, url := range []string{
		"s3://b?region=x&endpoint=http://h:99999", "s3://b?region=x&endpoint=http://me:hush@",
		"s3://b?region=x&endpoint=h:1", "s3://me:hush@b?region=x",
		"s3://b?region=x&wrong=hush", "s3://b", "gs://b", "'s3://b'", "s3://b?use_path_style=hush",
	} {
		server := app.Server{Identity: apptest.Identity, Services: []app.Service{Service()}}
		_, err := server.Open(t.Context(), apptest.Environ("TEST_OBJECT_URL="+url), telemetry.Discard())
		if err == nil || !strings.HasPrefix(err.Error(), "TEST_OBJECT_URL: ") ||
			strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}
