package store

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
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	gocloudaws "gocloud.dev/aws"
)

const (
	// openTimeout bounds the whole of opening a bucket: whoever is wrongly configured learns it soon.
	openTimeout = 10 * time.Second
	// credentialsTimeout is less, because without any the SDK asks for those of an EC2 machine, and waits for the answer.
	credentialsTimeout = 5 * time.Second
	dialTimeout        = 3 * time.Second
	// idleConnections is how many connections are kept when they are not needed.
	idleConnections = 64
)

// openS3 opens a bucket at s3://name, with the parameters that gocloud knows, such as endpoint, region and use_path_style,
// and with credentials from the environment or files as the AWS SDK finds them. The bucket must exist.
func openS3(ctx context.Context, u *url.URL, partSize int64, log *slog.Logger) (*s3Bucket, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errSlow)
	defer cancel()
	client, err := newS3Client(ctx, u, log)
	if err != nil {
		return nil, err
	}
	b := &s3Bucket{client: client, name: u.Host, partSize: partSize, closeIdle: func() {}}
	if c, ok := client.Options().HTTPClient.(*http.Client); ok {
		b.closeIdle = c.CloseIdleConnections
	}
	if _, _, err := b.list(ctx, uploadsFolder, "", 1); err != nil {
		b.closeIdle()
		return nil, err
	}
	return b, nil
}

func newS3Client(ctx context.Context, u *url.URL, log *slog.Logger) (*s3.Client, error) {
	if !isBucket(u) {
		return nil, errors.New("want s3://bucket?parameters, with neither credentials nor a path")
	}
	q := u.Query()
	if err := errors.Join(checkEndpoint(q), checkValues(q)); err != nil {
		return nil, err
	}
	pathStyle, _ := strconv.ParseBool(q.Get("use_path_style")) // It is one, or not there.
	q.Del("use_path_style")
	if !q.Has("response_checksum_validation") {
		q.Set("response_checksum_validation", "when_required") // Parts have a checksum of ours; two cost half the speed.
	}
	cfg, err := gocloudaws.V2ConfigFromURLParams(ctx, q)
	if err != nil {
		return nil, err
	}
	if err := checkIdentity(ctx, cfg); err != nil {
		return nil, err
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = pathStyle
		o.HTTPClient = newHTTPClient(o.HTTPClient)
		o.Logger = sdkLog(log)
	}), nil
}

// sdkLog is where the SDK writes, instead of standard error, what it finds odd in answers.
func sdkLog(log *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(class logging.Classification, format string, args ...any) {
		level := slog.LevelDebug
		if class == logging.Warn {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "S3", "text", fmt.Sprintf(format, args...))
	})
}

func isBucket(u *url.URL) bool {
	return u.Host != "" && u.User == nil && (u.Path == "" || u.Path == "/")
}

// checkEndpoint also refuses what has no meaning in an endpoint, and would be in the error of each request.
func checkEndpoint(q url.Values) error {
	text := q.Get("endpoint")
	endpoint, err := url.Parse(text)
	if err != nil || strings.ContainsAny(text, "@?#") ||
		q.Has("endpoint") && (endpoint.Scheme != "http" && endpoint.Scheme != "https" || endpoint.Host == "") {
		return errors.New("endpoint must be http://host or https://host, with neither credentials nor parameters")
	}
	return nil
}

// parameterValues are those of parameters that gocloud takes no others of, and else repeats in its error.
var parameterValues = map[string]*regexp.Regexp{
	"use_path_style": boolean, "hostname_immutable": boolean, "dualstack": boolean, "fips": boolean, "anonymous": boolean,
	"rate_limiter_capacity":        regexp.MustCompile(`^[0-9]{1,9}$`),
	"role":                         regexp.MustCompile(`^arn:`),
	"request_checksum_calculation": checksumUse, "response_checksum_validation": checksumUse,
}

var (
	boolean     = regexp.MustCompile(`(?i)^(true|false|[tf01])$`)
	checksumUse = regexp.MustCompile(`(?i)^when_(supported|required)$`)
)

// checkValues names the parameter and not its value, because an operator who takes one for another may put a secret there.
func checkValues(q url.Values) error {
	for _, name := range slices.Sorted(maps.Keys(q)) {
		value, allowed := q.Get(name), parameterValues[name]
		if value != "" && allowed != nil && !allowed.MatchString(value) {
			return fmt.Errorf("the parameter %s has a value that it cannot have", name)
		}
	}
	return nil
}

// checkIdentity makes sure that requests can be signed. The SDK would find out at each of them, and each time wait for
// a metadata service that may not be there.
func checkIdentity(ctx context.Context, cfg aws.Config) error {
	if cfg.Region == "" {
		return errors.New("no region: set the parameter region or AWS_REGION, to us-east-1 if the service has no regions")
	}
	if aws.IsCredentialsProvider(cfg.Credentials, aws.AnonymousCredentials{}) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return fmt.Errorf("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: %w", err)
	}
	return nil
}

// newHTTPClient keeps the SDK's settings, such as authorities from AWS_CA_BUNDLE, but does not wait half a minute for a
// connection nor for ever for an answer.
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
