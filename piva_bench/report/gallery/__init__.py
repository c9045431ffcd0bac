"""The gallery: one static folder to look through a run's edits. It opens from disk, without a server."""
