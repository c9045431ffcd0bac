"""The methods that ship with piva-bench: one file each, wired by the entry points a third party uses."""
