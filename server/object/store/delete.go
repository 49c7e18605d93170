package store

import "context"

// Delete removes an object and its content, if the generation is 0 or the object's, and returns ErrNotFound or
// ErrGenerationGone otherwise.
func (s *Store) Delete(ctx context.Context, name string, generation int64) error {
	if err := checkName(name); err != nil {
		return err
	}
	m, err := s.deleteManifest(ctx, name, generation)
	if err != nil {
		return err
	}
	s.discard(ctx, partEntries(m.Parts)...)
	return nil
}

func (s *Store) deleteManifest(ctx context.Context, name string, generation int64) (*manifest, error) {
	defer s.names.lock(name)()
	var m *manifest
	err := retryChanged(func() (err error) {
		var version string
		if m, version, err = s.findManifest(ctx, name); err != nil {
			return err
		}
		if generation != 0 && generation != m.Generation {
			return ErrGenerationGone
		}
		if err := s.recordComplete(ctx, m); err != nil {
			return err
		}
		return during("delete the manifest", s.bury(ctx, m, version))
	})
	return m, err
}
