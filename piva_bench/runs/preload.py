"""What every worker process needs, imported once for all of them: they are forked from a process that has it.

Nothing here may compute anything: threads do not survive a fork.
"""

from piva_bench import prepare

prepare()

import diffusers  # noqa: E402, F401
import open_clip  # noqa: E402, F401
import torch  # noqa: E402, F401
import transformers  # noqa: E402, F401

import piva_bench.diffusion.rectified_flow  # noqa: E402
import piva_bench.diffusion.stable_diffusion  # noqa: E402
import piva_bench.distillation.picture_edit  # noqa: E402
import piva_bench.runs.worker  # noqa: E402, F401
