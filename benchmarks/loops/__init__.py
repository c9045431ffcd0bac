"""Editing one picture at a time, a loop for each rule that distils, as the rules' authors write it.

Calls, order and rows are those of the authors' code, also where that code computes what the engine leaves out; the
words are ours. Settings come from the rule's card, so that a loop and the engine do the same work. ``ORIGINS`` says
whose manner each loop follows.
"""

from benchmarks.loops import editors, flows, generators, trained
from benchmarks.loops.model import Loop

LOOPS: dict[str, Loop] = {
    "sds": generators.sds,
    "dds": editors.dds,
    "dds_official": editors.dds,
    "cds": editors.cds,
    "pds": editors.pds,
    "pds_2d": editors.pds_2d,
    "ids": editors.ids,
    "vsd": trained.vsd,
    "nfsd": generators.nfsd,
    "csd": generators.csd,
    "sbp": generators.sbp,
    "ism": generators.ism,
    "sdi": generators.sdi,
    "ssd": editors.ssd,
    "dreamcatalyst": editors.dreamcatalyst,
    "drfs": flows.drfs,
    "flowalign": flows.flowalign,
    "piva": trained.piva,
}
ORIGINS = {
    "sds": "google/prompt-to-prompt, DDS_zeroshot.ipynb (Apache-2.0)",
    "dds": "google/prompt-to-prompt, DDS_zeroshot.ipynb (Apache-2.0)",
    "dds_official": "google/prompt-to-prompt, DDS_zeroshot.ipynb (Apache-2.0)",
    "cds": "HyelinNAM/ContrastiveDenoisingScore, pipeline_cds.py (no licence)",
    "pds": "KAIST-Visual-AI-Group/PDS, pds/pds.py (no licence)",
    "pds_2d": "the same, with main.py of KAIST-Visual-AI-Group/Diffusion-Assignment4-Distillation (MIT)",
    "ids": "shhh0620/IDS, pipelines/pipeline_ids.py (BSD-3-Clause)",
    "vsd": "davidmcall/SDS-Bridge, 2D_experiments/guidance.py (MIT), after thu-ml/prolificdreamer (Apache-2.0)",
    "nfsd": "davidmcall/SDS-Bridge, 2D_experiments/guidance.py (MIT)",
    "csd": "CVMI-Lab/Classifier-Score-Distillation, stable_diffusion_triple_guidance.py (no licence)",
    "sbp": "davidmcall/SDS-Bridge, 2D_experiments/guidance.py (MIT)",
    "ism": "EnVision-Research/LucidDreamer, guidance/sd_utils.py (MIT)",
    "sdi": "threestudio, stable_diffusion_sdi_guidance.py (Apache-2.0)",
    "ssd": "Alex-Zhu1/SSD, sd_ssd_guidance.py (S-Lab 1.0)",
    "dreamcatalyst": "kaist-cvml/DreamCatalyst, nerfstudio/dc/dc.py (no licence)",
    "drfs": "gaspardbd/DeltaVelocityRectifiedFlow, models/DVRF.py (CC-BY-4.0)",
    "flowalign": "FlowAlign/FlowAlign, diffusion/editing/sd3_edit.py (no licence)",
    "piva": "no official code; adapters as in the 2D VSD scripts",
}

__all__ = ["LOOPS", "ORIGINS"]
