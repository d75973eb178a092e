"""A shop's own files, read through its card into our items, judged queries and judgments."""
