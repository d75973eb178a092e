"""The only code that two rooms may both import."""
