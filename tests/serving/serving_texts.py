"""Four pairs of three queries."""

QUERIES = ["red shoes", "kettle", "red shoes", "garden hose"]
TITLES = ["blue sneakers", "red kettle", "red running shoes shoes shoes", "hose"]
