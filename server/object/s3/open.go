package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"example.com/quartet/internal/config"
)

const (
	// openTimeout bounds the whole of opening a bucket: an operator with a wrong setting learns it
	// soon.
	openTimeout = 10 * time.Second
	// credentialsTimeout is less, because without any the SDK asks for those of an EC2 machine, and
	// waits for the answer.
	credentialsTimeout = 5 * time.Second
	// dialTimeout bounds one attempt to connect.
	dialTimeout = 3 * time.Second
	// idleConnections is how many connections are kept when they are not needed.
	idleConnections = 64
)

// ErrURL means that the URL of the bucket makes no sense, or lacks what the environment does not
// have either.
var ErrURL = errors.New("wrong URL")

// CheckURL returns an error unless the URL is one that Open knows. The error has nothing of the URL
// in it that may be a secret.
func CheckURL(rawURL string) error {
	_, err := parse(rawURL)
	return err
}

// String names a bucket without its parameters, where an operator may have put a secret, except for
// the endpoint.
func (l location) String() string {
	if l.endpoint == nil {
		return "s3://" + l.bucket
	}
	return "s3://" + l.bucket + " at " + l.endpoint.Scheme + "://" + l.endpoint.Host
}

// connect returns a client whose requests can be signed. Credentials and all that the URL does not
// say come from where the AWS SDK looks for them.
func (l location) connect(ctx context.Context, opts Options) (*awss3.Client, error) {
	transport := awshttp.NewBuildableClient()
	if !opts.Proxy {
		transport = transport.WithTransportOptions(func(t *http.Transport) { t.Proxy = nil })
	}
	load := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithLogger(sdkLog(opts.Log)), awsconfig.WithHTTPClient(transport),
		awsconfig.WithRegion(l.Get("region")),
		// Every byte that is read is compared with the trailer's checksums, so that the SDK need not do
		// it too.
		awsconfig.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, err
	}
	if err := checkIdentity(ctx, cfg); err != nil {
		return nil, err
	}
	return awss3.NewFromConfig(cfg, func(o *awss3.Options) {
		o.UsePathStyle, _ = strconv.ParseBool(l.Get("use_path_style")) // It is one, or not there.
		o.HTTPClient = newHTTPClient(o.HTTPClient)
		if l.endpoint != nil {
			o.BaseEndpoint = aws.String(l.endpoint.String())
		}
	}), nil
}

// sdkLog has the SDK's warnings in the log of the process: by default the SDK writes them to
// standard error.
func sdkLog(log *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(class logging.Classification, format string, args ...any) {
		level := slog.LevelDebug
		if class == logging.Warn {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "S3", "text", fmt.Sprintf(format, args...))
	})
}

// location is what a URL says: s3://bucket?parameters.
type location struct {
	bucket   string
	endpoint *url.URL // nil: that of AWS for the region
	url.Values
}

// parameters are those that a URL may have, and what they may be where that is known. A value is
// never repeated in an error, because an operator that takes one for another may put a secret
// there.
var parameters = map[string]*regexp.Regexp{
	"region": regexp.MustCompile(``), "endpoint": regexp.MustCompile(``),
	"use_path_style": regexp.MustCompile(`(?i)^(true|false|[tf01])$`),
}

// parse reads a URL. It refuses parameters that it does not know, since a misspelt one would be
// ignored without a word.
func parse(rawURL string) (l location, err error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil: // What it says has the URL, or a part of it.
		return l, errors.New("cannot be read, expected s3://bucket?region=…")
	case u.Scheme != "s3":
		return l, errors.New("has no scheme that is known, expected s3://bucket?region=…")
	case u.Hostname() == "" || u.Host != u.Hostname() || u.User != nil || u.Fragment != "" ||
		(u.Path != "" && u.Path != "/"):
		return l, errors.New("want s3://bucket?parameters, with neither credentials nor a path")
	}
	l.bucket = u.Host
	if l.Values, err = url.ParseQuery(u.RawQuery); err != nil {
		return l, errors.New("has parameters that cannot be read, expected name=value with & between")
	}
	for _, name := range slices.Sorted(maps.Keys(l.Values)) {
		switch allowed := parameters[name]; {
		case allowed == nil:
			return l, fmt.Errorf("has a parameter that is not known, expected some of %s",
				strings.Join(slices.Sorted(maps.Keys(parameters)), ", "))
		case l.Get(name) != "" && !allowed.MatchString(l.Get(name)):
			return l, fmt.Errorf("the parameter %s has a value that it cannot have", name)
		}
	}
	if !l.Has("endpoint") {
		return l, nil
	}
	l.endpoint, err = config.ParseURL(l.Get("endpoint"), "http", "https")
	switch {
	case err != nil:
	case l.endpoint.RawQuery+l.endpoint.Fragment != "":
		err = errors.New("has parameters")
	case l.endpoint.User != nil:
		err = errors.New("has credentials, which are for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	if err != nil {
		return l, fmt.Errorf("endpoint %w", err)
	}
	return l, nil
}

// checkIdentity makes sure that requests can be signed. The SDK would find out at each of them, and
// each time wait for a metadata service that may not be there.
func checkIdentity(ctx context.Context, cfg aws.Config) error {
	if cfg.Region == "" {
		return fmt.Errorf("%w: no region: set the parameter region or AWS_REGION, "+
			"to us-east-1 if the service has no regions", ErrURL)
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return fmt.Errorf("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: %w", err)
	}
	return nil
}

// newHTTPClient keeps the SDK's settings, such as authorities from AWS_CA_BUNDLE, but does not wait
// half a minute for a connection, nor for ever for the head of an answer. It follows no redirects.
func newHTTPClient(client aws.HTTPClient) aws.HTTPClient {
	configured, ok := client.(*awshttp.BuildableClient)
	if !ok {
		configured = awshttp.NewBuildableClient()
	}
	transport := configured.GetTransport()
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	transport.ResponseHeaderTimeout = requestTimeout
	transport.MaxIdleConnsPerHost = idleConnections
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
