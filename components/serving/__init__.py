"""The champion behind HTTP: not a step of the pipeline, so it has no kfp door."""
