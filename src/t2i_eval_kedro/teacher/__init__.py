"""Who teaches, what it costs, and whether it is worth learning from."""
