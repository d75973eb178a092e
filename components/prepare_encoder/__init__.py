"""Makes the encoder that a teacher or a student starts from."""
