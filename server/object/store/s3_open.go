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
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	gocloudaws "gocloud.dev/aws"

	"example.com/quartet/internal/config"
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
func openS3(ctx context.Context, u *url.URL, opts Options) (*s3Bucket, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errSlow)
	defer cancel()
	client, err := newS3Client(ctx, u, opts)
	if err != nil {
		return nil, err
	}
	b := &s3Bucket{client: client, name: u.Host, partSize: opts.PartSize, closeIdle: func() {}}
	if c, ok := client.Options().HTTPClient.(*http.Client); ok {
		b.closeIdle = c.CloseIdleConnections
	}
	if _, _, err := b.list(ctx, uploadsFolder, "", 1); err != nil {
		b.closeIdle()
		return nil, err
	}
	return b, nil
}

func newS3Client(ctx context.Context, u *url.URL, opts Options) (*s3.Client, error) {
	p, err := parseS3(u)
	if err != nil {
		return nil, err
	}
	cfg, err := newConfig(ctx, p.Values, opts)
	if err != nil {
		return nil, err
	}
	if err := checkIdentity(ctx, cfg); err != nil {
		return nil, err
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = p.pathStyle
		o.HTTPClient = newHTTPClient(o.HTTPClient)
	}), nil
}

// newConfig is the configuration of all requests, those for credentials among them. Gocloud makes it of the parameters, and
// has none for the log and the HTTP client: what looks for credentials is made once more, with ours.
func newConfig(ctx context.Context, q url.Values, opts Options) (aws.Config, error) {
	cfg, err := gocloudaws.V2ConfigFromURLParams(ctx, q)
	if err != nil {
		return cfg, fmt.Errorf("%w: %w", ErrURL, err)
	}
	client := awshttp.NewBuildableClient()
	if !opts.Proxy {
		client = client.WithTransportOptions(func(t *http.Transport) { t.Proxy = nil })
	}
	load := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithLogger(sdkLog(opts.Log)), awsconfig.WithHTTPClient(client), awsconfig.WithRegion(cfg.Region), awsconfig.WithSharedConfigProfile(q.Get("profile")),
	}
	if on, _ := strconv.ParseBool(q.Get("dualstack")); on {
		load = append(load, awsconfig.WithUseDualStackEndpoint(aws.DualStackEndpointStateEnabled))
	}
	if on, _ := strconv.ParseBool(q.Get("fips")); on {
		load = append(load, awsconfig.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	ours, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return cfg, err
	}
	cfg.Logger, cfg.HTTPClient = ours.Logger, ours.HTTPClient
	switch role := q.Get("role"); {
	case role != "":
		cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(ours), role))
	case !aws.IsCredentialsProvider(cfg.Credentials, aws.AnonymousCredentials{}):
		cfg.Credentials = ours.Credentials
	}
	return cfg, nil
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

// s3Parameters are what a URL has behind the bucket.
type s3Parameters struct {
	url.Values // those that gocloud knows
	pathStyle  bool
}

func parseS3(u *url.URL) (p s3Parameters, err error) {
	if u.Hostname() == "" || u.Host != u.Hostname() || u.User != nil || u.Fragment != "" || (u.Path != "" && u.Path != "/") {
		return p, errors.New("want s3://bucket?parameters, with neither credentials nor a path")
	}
	if p.Values, err = url.ParseQuery(u.RawQuery); err != nil {
		return p, errors.New("has parameters that cannot be read, expected name=value with & between them")
	}
	if err := checkValues(p.Values); err != nil {
		return p, err
	}
	p.pathStyle, _ = strconv.ParseBool(p.Get("use_path_style")) // It is one, or not there.
	p.Del("use_path_style")
	if p.Has("endpoint") {
		endpoint, err := config.ParseURL(p.Get("endpoint"), "http", "https")
		if err == nil && endpoint.RawQuery+endpoint.Fragment != "" {
			err = errors.New("has parameters")
		}
		if err == nil && endpoint.User != nil {
			err = errors.New("has credentials, which are for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
		}
		if err != nil {
			return p, fmt.Errorf("endpoint %w", err)
		}
	}
	if !p.Has("response_checksum_validation") {
		p.Set("response_checksum_validation", "when_required") // Parts have a checksum of ours; two cost half the speed.
	}
	return p, nil
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
		return fmt.Errorf("%w: no region: set the parameter region or AWS_REGION, to us-east-1 if the service has no regions", ErrURL)
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
