"""Metrics: pure functions of one edit each, and protocols, which name a fixed set of them."""
