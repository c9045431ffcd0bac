"""views-clean: 3D edits of real objects."""
