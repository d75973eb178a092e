"""Room: behavior neighbors of queries and items, from what shoppers clicked."""
