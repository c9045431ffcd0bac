"""Which layers of a network adapters sit on; by itself, so that parameters can name it without loading torch."""

from typing import Literal

Layers = Literal["attention", "all"]
