"""The HTTP server in front of a judge."""
