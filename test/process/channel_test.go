package process_test

import "testing"

func TestNoSecretIsPrintedOfABrokerThatCannotBeReached(t *testing.T) {
	starts := map[string]start{}
	for name, url := range map[string]string{
		"no port":              "nats://user:" + secret + "@127.0.0.1:port",
		"a slash":              "nats://user:" + secret + "/" + secret + "@127.0.0.1:4222",
		"a slash after digits": "nats://user:123/" + secret + "@127.0.0.1:4222",
		"a hash":               "nats://user:" + secret + "#" + secret + "@127.0.0.1:4222",
		"a question mark":      "nats://user:" + secret + "?" + secret + "@127.0.0.1:4222",
		"a percent sign":       "nats://user:%" + secret + "@127.0.0.1:4222",
		"a blank":              "nats://user:" + secret + " " + secret + "@127.0.0.1:4222",
		"a control character":  "nats://user:" + secret + "\x01@127.0.0.1:4222",
		"no slashes":           "nats:user:" + secret + "@127.0.0.1:4222",
		"no scheme":            "user:" + secret + "@127.0.0.1:4222",
		"another scheme":       "https://user:" + secret + "@127.0.0.1:4222",
		"a second server":      "nats://127.0.0.1:4222,nats://user:" + secret + "@127.0.0.1:port",
		"a server of the web":  "nats://user:" + secret + "@127.0.0.1:1,ws://user:" + secret + "@127.0.0.1:1",
	} {
		starts[name] = start{
			program: "server",
			set:     []string{"CHANNEL_URL=" + url},
			says:    "CHANNEL_URL: ",
		}
	}
	for name, url := range map[string]string{
		"a password": "nats://user:" + secret + "@127.0.0.1:1",
		"a token":    "nats://" + secret + "@127.0.0.1:1",
		"several":    "nats://user:" + secret + "@127.0.0.1:1,nats://127.0.0.1:2",
	} {
		starts[name] = start{
			program: "server",
			set:     []string{"CHANNEL_URL=" + url},
			says:    "waiting for the message broker",
		}
	}
	wantNoSecret(t, starts)
}
