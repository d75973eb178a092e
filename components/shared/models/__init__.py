"""Models on disk and at work: safe folders, the texts a model reads, length-bucketed batches, scoring."""
