"""Images: from a source to prepared arrays, from prepared arrays to batches."""
