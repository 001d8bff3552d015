"""The judge scores the held-out items: what the pipelines that make a judge share."""
