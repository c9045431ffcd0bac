"""pnp-v1: PIE-Bench's official calculator, quirks and all."""
