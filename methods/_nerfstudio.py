"""``ns-train piva``: the editing of nerfstudio scenes, by Piva unless ``--pipeline.method`` says otherwise."""

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.plugins.types import MethodSpecification

from piva_bench.nerfstudio.pipeline import EditPipelineConfig
from piva_bench.nerfstudio.trainer import EditTrainerConfig

specification = MethodSpecification(
    config=EditTrainerConfig(
        method_name="piva",
        pipeline=EditPipelineConfig(method="piva"),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
        vis="viewer",
    ),
    description="Edits a trained scene by score distillation: Piva, or another method of piva-bench.",
)
