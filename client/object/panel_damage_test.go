package object

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/telemetry"
)

func TestADownloadByHTTPThatIsDamagedIsCut(t *testing.T) {
	f, address := startFake(t)
	tele := telemetry.Discard()
	panel, err := newPanel(
		cli.Connection{Conn: clienttest.Dial(t, tele, address, descriptor), Telemetry: tele},
	)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(panel.API)
	t.Cleanup(server.Close)
	get := func(want string) (*http.Response, []byte, error) {
		t.Helper()
		request, err := http.NewRequestWithContext(
			t.Context(),
			http.MethodGet,
			server.URL+"/objects/o",
			nil,
		)
		if err != nil {
			t.Fatal(err)
		}
		if want != "" {
			request.Header.Set("Range", want)
		}
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		return response, content, err
	}
	f.badSum = true
	f.keep(quartetv1.UploadHeader_builder{Name: "o"}.Build(), clienttest.Random(11, 1<<20))
	if r, b, err := get(""); err == nil {
		t.Errorf("%s, %d bytes", r.Status, len(b))
	}
	r, b, err := get("bytes=1000-")
	if err != nil || r.StatusCode != http.StatusPartialContent || len(b) != 1<<20-1000 {
		t.Errorf("a range: %s, %d bytes, %v", r.Status, len(b), err)
	}
}
