"""Log formats: one module for each."""
