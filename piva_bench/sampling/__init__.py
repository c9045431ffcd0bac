"""Editors that walk a sampler's schedule: one pass from noise to picture, or there and back."""
