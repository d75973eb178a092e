"""Rooms of the pipeline: one folder per step, plus `shared`."""
