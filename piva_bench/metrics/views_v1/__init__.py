"""views-v1: 3D edits in the embedded world."""
