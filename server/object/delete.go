package object

import "context"

// Delete removes an object and its content, if the generation is 0 or the object's, and returns ErrNotFound or
// ErrGenerationGone otherwise. Across replicas a generation that is replaced at the same moment may be taken for the one
// that was meant.
func (s *Store) Delete(ctx context.Context, name string, generation int64) error {
	if err := checkName(name); err != nil {
		return err
	}
	m, err := s.deleteManifest(ctx, name, generation)
	if err != nil {
		return err
	}
	s.discard(ctx, partKeys(m.Parts)...)
	return nil
}

func (s *Store) deleteManifest(ctx context.Context, name string, generation int64) (*manifest, error) {
	defer s.names.lock(name)()
	m, err := s.readManifest(ctx, name)
	if err != nil {
		return nil, err
	}
	if generation != 0 && generation != m.Generation {
		return nil, ErrGenerationGone
	}
	if err := s.recordComplete(ctx, m); err != nil {
		return nil, err
	}
	return m, during("delete the manifest", s.bucket.delete(ctx, manifestKey(name)))
}
