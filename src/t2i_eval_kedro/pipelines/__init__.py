"""The pipelines: thin nodes over the packages above; each has a README of its own."""
