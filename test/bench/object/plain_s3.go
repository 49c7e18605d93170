package object

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// What the gateway is started with.
const (
	bucketName = "quartet"
	accessKey  = "quartet"
	secretKey  = "a-secret-for-benchmarks"
	regionName = "us-east-1"
)

// s3Client is Amazon's SDK, straight to the gateway. It does not hash what it sends, as ours does
// not.
type s3Client struct {
	client *s3.Client
	parts  bool // Uploads are multipart uploads.

	mu       sync.Mutex
	uploaded []string
}

func newS3Client(address string, parts bool) *s3Client {
	return &s3Client{parts: parts, client: s3.New(s3.Options{
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
	if c.parts {
		return c.putParts(ctx, key, size)
	}
	in := &s3.PutObjectInput{
		Bucket: aws.String(bucketName), Key: &key, Body: newContent(size), ContentLength: &size,
	}
	_, err := c.client.PutObject(
		ctx, in, s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware),
	)
	return err
}

const (
	partBytes     = 8 << 20 // as ours
	partsInFlight = 2       // as ours
)

// putParts is what ours asks of the gateway for an upload: parts of the same size with checksums of
// the same kind.
func (c *s3Client) putParts(ctx context.Context, key string, size int64) error {
	begun, err := c.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: aws.String(bucketName), Key: &key,
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, ChecksumType: types.ChecksumTypeFullObject,
	})
	if err != nil {
		return err
	}
	parts := make([]types.CompletedPart, (size+partBytes-1)/partBytes)
	var group errgroup.Group
	group.SetLimit(partsInFlight)
	for i := range parts {
		group.Go(func() error {
			number, length := aws.Int32(int32(i+1)), min(partBytes, size-int64(i)*partBytes)
			crc := binary.BigEndian.AppendUint32(nil, sumOf(length).CRC)
			sum := aws.String(base64.StdEncoding.EncodeToString(crc))
			out, err := c.client.UploadPart(ctx, &s3.UploadPartInput{
				Bucket: aws.String(bucketName), Key: &key, UploadId: begun.UploadId, PartNumber: number,
				Body: newContent(length), ContentLength: &length,
				ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, ChecksumCRC32C: sum,
			}, s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware))
			if err == nil {
				parts[i] = types.CompletedPart{PartNumber: number, ETag: out.ETag, ChecksumCRC32C: sum}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	_, err = c.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(bucketName), Key: &key, UploadId: begun.UploadId,
		ChecksumType:    types.ChecksumTypeFullObject,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return err
}

func (c *s3Client) prepare(ctx context.Context, job Job) error {
	if job.Upload {
		return nil
	}
	name := contentName(job.Bytes)
	in := &s3.HeadObjectInput{Bucket: aws.String(bucketName), Key: &name}
	if _, err := c.client.HeadObject(ctx, in); err == nil {
		return nil
	}
	return c.put(ctx, name, job.Bytes)
}

func (c *s3Client) download(ctx context.Context, job Job) (Sum, error) {
	return c.get(ctx, contentName(job.Bytes), job.Check)
}

func (c *s3Client) get(ctx context.Context, name string, check bool) (Sum, error) {
	answer, err := c.client.GetObject(
		ctx, &s3.GetObjectInput{Bucket: aws.String(bucketName), Key: &name},
	)
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
		_, err := c.client.DeleteObject(
			ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucketName), Key: &name},
		)
		problems = append(problems, err)
	}
	c.uploaded = nil
	return errors.Join(problems...)
}
