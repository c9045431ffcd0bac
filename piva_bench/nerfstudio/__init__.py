"""The nerfstudio plug-in: its scenes as something to render and to edit, and ``ns-train piva``."""
