"""Statistics of agreement: numbers in, numbers out; no tables, no torch, no I/O."""
