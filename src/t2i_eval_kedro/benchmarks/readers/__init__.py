"""One reader per public benchmark: raw files -> canonical tables."""
