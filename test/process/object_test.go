package process_test

import "testing"

func TestNoSecretIsPrintedOfABucketThatCannotBeOpened(t *testing.T) {
	starts := map[string]start{}
	credentials := []string{
		"AWS_ACCESS_KEY_ID=key",
		"AWS_SECRET_ACCESS_KEY=" + secret,
		"AWS_SESSION_TOKEN=" + secret,
		"AWS_MAX_ATTEMPTS=1",
		"AWS_EC2_METADATA_DISABLED=true",
	}
	for name, url := range map[string]string{
		"credentials":                           "s3://key:" + secret + "@bucket?region=r",
		"credentials with a slash":              "s3://key:" + secret + "/" + secret + "@bucket?region=r",
		"credentials with a slash after digits": "s3://key:123/" + secret + "@bucket?region=r",
		"credentials with a percent sign":       "s3://key:%" + secret + "@bucket?region=r",
		"credentials with a control character":  "s3://key:" + secret + "\x01@bucket?region=r",
		"credentials of another service":        "gs://key:" + secret + "@bucket",
		"credentials in a parameter":            "s3://bucket?region=r&secret_key=" + secret,
		"credentials in a parameter of another": "gs://bucket?access_id=" + secret,
		"a parameter's value":                   "s3://bucket?region=r&anonymous=" + secret,
		"a parameter's other value":             "s3://bucket?region=r&use_path_style=" + secret,
		"a role":                                "s3://bucket?region=r&role=" + secret,
		"an endpoint's user":                    "s3://bucket?region=r&endpoint=http://user:" + secret + "@127.0.0.1:1",
		"an endpoint's user alone":              "s3://bucket?region=r&endpoint=http://" + secret + "@127.0.0.1:1",
		"an endpoint's user with a slash":       "s3://bucket?region=r&endpoint=http://user:" + secret + "/" + secret + "@127.0.0.1:1",
		"an endpoint's user without a scheme":   "s3://bucket?region=r&endpoint=user:" + secret + "@127.0.0.1:1",
		"an endpoint's parameter":               "s3://bucket?region=r&endpoint=http://127.0.0.1:1/%3Ftoken=" + secret,
		"a folder of another host":              "file://user:" + secret + "@host/folder",
		"no scheme":                             "key:" + secret + "@bucket",
	} {
		starts[name] = start{
			program: "server",
			set:     []string{"OBJECT_URL=" + url},
			env:     credentials,
			says:    "OBJECT_URL: ",
		}
	}
	for name, variable := range map[string]string{
		"an endpoint by the variable":               "AWS_ENDPOINT_URL=http://user:" + secret + "@127.0.0.1:1",
		"an endpoint by the variable, with a slash": "AWS_ENDPOINT_URL=http://user:" + secret + "/" + secret + "@127.0.0.1:1",
		"a proxy":                    "HTTPS_PROXY=http://user:" + secret + "@127.0.0.1:1",
		"a proxy that is no address": "HTTPS_PROXY=http://user:" + secret + "/" + secret + "@127.0.0.1:1",
	} {
		starts[name] = start{
			program: "server",
			set:     []string{"OBJECT_URL=s3://bucket?region=r"},
			env:     append([]string{variable}, credentials...),
			says:    "server failed",
		}
	}
	starts["a store that is not there"] = start{
		program: "server",
		set: []string{
			"OBJECT_URL=s3://bucket?region=r&use_path_style=true&endpoint=http://127.0.0.1:1",
		},
		env:  credentials,
		says: "server failed",
	}
	wantNoSecret(t, starts)
}
