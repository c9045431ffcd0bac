"""3D models as people have them: files in, triangles with colours and a list of what is not shown out."""

from piva_bench.scene.models.read import FOREIGN, MODELS, read_model
from piva_bench.scene.models.surface import Layer, Model, Place, Surface, Texture

__all__ = ["FOREIGN", "MODELS", "Layer", "Model", "Place", "Surface", "Texture", "read_model"]
