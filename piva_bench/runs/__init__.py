"""Runs: what is to be edited (plan), its name (key), where it is kept (store), who does it (executor)."""
