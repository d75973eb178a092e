"""Shards of (query, item) pairs and a model -> soft targets or rankings, resumable, exactly once."""
