package objectfiles

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// What the gateway is started with.
const (
	bucketName = "quartet"
	accessKey  = "quartet"
	secretKey  = "a-secret-for-benchmarks"
	regionName = "us-east-1"
)

// s3Client is Amazon's SDK, straight to the gateway. It does not hash what it sends, as ours does not.
type s3Client struct {
	client *s3.Client

	mu       sync.Mutex
	uploaded []string
}

func newS3Client(address string) *s3Client {
	return &s3Client{client: s3.New(s3.Options{
		BaseEndpoint:               aws.String("http://" + address),
		Region:                     regionName,
		UsePathStyle:               true,
		Credentials:                credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})}
}

func (c *s3Client) close() {}

func (c *s3Client) put(ctx context.Context, key string, size int64) error {
	in := &s3.PutObjectInput{Bucket: aws.String(bucketName), Key: &key, Body: newContent(size), ContentLength: &size}
	_, err := c.client.PutObject(ctx, in, s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware))
	return err
}

func (c *s3Client) prepare(ctx context.Context, job Job) error {
	if job.Upload {
		return nil
	}
	name := contentName(job.Bytes)
	if _, err := c.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucketName), Key: &name}); err == nil {
		return nil
	}
	return c.put(ctx, name, job.Bytes)
}

func (c *s3Client) download(ctx context.Context, job Job) (Sum, error) {
	return c.get(ctx, contentName(job.Bytes), job.Check)
}

func (c *s3Client) get(ctx context.Context, name string, check bool) (Sum, error) {
	answer, err := c.client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucketName), Key: &name})
	if err != nil {
		return Sum{}, err
	}
	defer answer.Body.Close()
	got := &sink{check: check}
	err = copyAll(got, answer.Body, make([]byte, bufferBytes))
	return got.Sum, err
}

// upload reads back what it sent only if that has to be compared.
func (c *s3Client) upload(ctx context.Context, job Job) (Sum, error) {
	c.mu.Lock()
	name := fmt.Sprintf("upload-%p-%d", c, len(c.uploaded))
	c.uploaded = append(c.uploaded, name)
	c.mu.Unlock()
	if err := c.put(ctx, name, job.Bytes); err != nil || !job.Check {
		return Sum{Bytes: job.Bytes}, err
	}
	return c.get(ctx, name, true)
}

func (c *s3Client) clean(ctx context.Context) error {
	var problems []error
	for _, name := range c.uploaded {
		_, err := c.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucketName), Key: &name})
		problems = append(problems, err)
	}
	c.uploaded = nil
	return errors.Join(problems...)
}
