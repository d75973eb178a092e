"""A shop's search log (UBI) -> clean, private, de-duplicated events, interactions and query frequencies."""
