"""Metrics of all systems with intervals, paired differences, slices, and a report page."""
