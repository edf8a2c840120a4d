"""The shapes that cross a boundary: calls, batches, tables. Known by all, knows nobody."""
