"""Room: the unlabelled pool of pairs that the teacher will score."""
