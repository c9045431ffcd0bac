"""studio-v1: 2D edits of the embedded world, with metrics that only an exact counterfactual allows."""
