"""The nerfstudio plug-in: its scenes as something to render and to edit, and ``ns-train piva``."""

from piva_bench import prepare

prepare()  # ns-train imports this before it knows of us
