"""Datasets of edit tasks: the sample type, the dataset protocol and the loaders."""
