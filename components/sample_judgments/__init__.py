"""Room: which pairs people should judge next."""
