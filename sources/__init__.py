"""Where calls come in. A source emits ``schemas.batch.RawBatch`` and knows nothing of what the bytes mean."""
