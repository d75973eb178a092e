"""Room: soft targets of a teacher -> a small student, as a cross-encoder or a bi-encoder."""
