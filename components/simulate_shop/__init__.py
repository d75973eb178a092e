"""A made-up shop: catalogue, queries graded by hidden rules, and a UBI log of its shoppers."""
