"""clean: what PIE-Bench's metrics mean to measure."""
