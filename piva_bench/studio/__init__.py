"""The studio: how the embedded world, its pictures and its models are made.

Nothing here is needed to run the benchmark; it is needed to rebuild what the benchmark ships.
"""
