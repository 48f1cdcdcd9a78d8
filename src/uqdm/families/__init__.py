"""Model families: what a step asks, and what its answer makes known. Arrays and integers; no bytes, no networks, no files."""
