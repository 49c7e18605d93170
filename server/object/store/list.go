package store

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000
)

// List returns the objects whose name begins with prefix, in the byte order of names: at most pageSize of them (100 if
// 0, never more than 1000), and the token of the next page, empty on the last. Objects that come or go meanwhile may
// be listed or not. A negative page size or a token that is not from a page with the same prefix is an
// ErrInvalidArgument.
func (s *Store) List(ctx context.Context, prefix string, pageSize int, pageToken string) ([]Object, string, error) {
	if pageSize < 0 {
		return nil, "", fmt.Errorf("%w: page size %d", ErrInvalidArgument, pageSize)
	}
	if pageSize == 0 {
		pageSize = defaultPageSize
	}
	after, err := startOfPage(prefix, pageToken)
	if err != nil {
		return nil, "", err
	}
	names, more, err := s.listNames(ctx, prefix, after, min(pageSize, maxPageSize))
	if err != nil {
		return nil, "", err
	}
	objects, err := s.getAll(ctx, names)
	if err != nil || !more {
		return objects, "", err
	}
	return objects, pageTokenAfter(names[len(names)-1]), nil
}

// A page token is the last name of the page before. It is encoded so that nobody builds one by hand and finds it to
// be something else later.
func pageTokenAfter(name string) string { return base64.RawURLEncoding.EncodeToString([]byte(name)) }

// startOfPage returns the key after which the page begins.
func startOfPage(prefix, pageToken string) (string, error) {
	if pageToken == "" {
		return keyBefore(prefix), nil
	}
	name, err := base64.RawURLEncoding.DecodeString(pageToken)
	if err != nil || checkName(string(name)) != nil || !strings.HasPrefix(string(name), prefix) {
		return "", fmt.Errorf("%w: page token is not from a list with this prefix", ErrInvalidArgument)
	}
	return manifestKey(string(name)), nil
}

// keyBefore returns a key that is less than that of every name with the prefix, and not less than that of any smaller
// name. So the list begins at the first match, although encoded names share no whole characters with their prefix.
func keyBefore(prefix string) string {
	if prefix == "" {
		return ""
	}
	key := manifestKey(prefix)
	end := len(key) - 1
	return key[:end] + string(key[end]-1) + "~"
}

// listNames returns a page of names, and whether there are more, which it only says of a page that has any.
func (s *Store) listNames(ctx context.Context, prefix, after string, limit int) ([]string, bool, error) {
	for {
		found, more, err := s.bucket.list(ctx, objectsFolder, after, limit)
		if err != nil {
			return nil, false, during("list objects", err)
		}
		if len(found) > 0 {
			after = found[len(found)-1].key
		}
		names, beyond := s.decodeNames(ctx, prefix, keysOf(slices.DeleteFunc(found, s.mayBeTombstone)))
		more = more && !beyond
		if len(names) > 0 || !more {
			return names, more, nil
		}
	}
}

// decodeNames returns the names with the prefix, and whether the keys go beyond them; keys are in order and begin
// with the first name that can have the prefix.
func (s *Store) decodeNames(ctx context.Context, prefix string, keys []string) (names []string, beyond bool) {
	for _, key := range keys {
		name, err := decodeName(strings.TrimPrefix(key, objectsFolder))
		switch {
		case err != nil:
			s.log.WarnContext(ctx, "the bucket has a foreign key among the objects", "key", key)
		case !strings.HasPrefix(name, prefix):
			return names, true
		default:
			names = append(names, name)
		}
	}
	return names, false
}

// getAll looks the names up, leaving out those that have gone. One corrupt manifest does not hide all other objects.
func (s *Store) getAll(ctx context.Context, names []string) ([]Object, error) {
	found := make([]*Object, len(names))
	err := parallel(ctx, parallelism, len(names), func(ctx context.Context, i int) error {
		m, err := s.readManifest(ctx, names[i])
		switch {
		case errors.Is(err, ErrNotFound):
			return nil
		case errors.Is(err, ErrCorrupt):
			s.log.ErrorContext(ctx, "an object was left out of a list", "error", err)
			return nil
		case err != nil:
			return err
		}
		found[i] = &m.Object
		return nil
	})
	objects := make([]Object, 0, len(names))
	for _, o := range found {
		if o != nil {
			objects = append(objects, *o)
		}
	}
	return objects, err
}
