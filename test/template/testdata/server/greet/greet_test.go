package greet

import (
	"testing"

	"google.golang.org/grpc/codes"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

func TestGreet(t *testing.T) {
	services := []app.Service{Service()}
	s := apptest.Start(t, telemetry.Discard(), services, "TEST_GREET_SALUTATION=Welcome")
	client := quartetv1.NewGreetServiceClient(s.Conn)
	got, err := client.Greet(apptest.Deadline(t), quartetv1.GreetRequest_builder{Name: "Ada"}.Build())
	if err != nil || got.GetGreeting() != "Welcome, Ada!" {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = client.Greet(apptest.Deadline(t), &quartetv1.GreetRequest{})
	apptest.WantStatus(t, err, codes.InvalidArgument, "NO_NAME")
}
