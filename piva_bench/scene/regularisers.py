"""What keeps a field tidy while something else moves it: smoothness, sparsity, and the object's bounds.

Each is a scalar tensor, 0 for a field that has nothing of the fault, meant to be weighted and added to a loss.
Score distillation on a free grid grows halos, stains and floaters; these are what the gradient must pay for them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from piva_bench.scene.field import RadianceField


def total_variation(values: Tensor) -> Tensor:
    """Mean squared difference of neighbours along the last three axes."""
    return torch.stack([(values.diff(dim=axis) ** 2).mean() for axis in (-3, -2, -1)]).sum()


def colour_variation(field: RadianceField) -> Tensor:
    """Total variation of colour where there is something: paint on surfaces is smooth, air has no colour."""
    weight = (1 - torch.exp(-field.density)).detach()
    total, mass = field.raw.new_zeros(()), weight.sum().clamp(min=1)
    for axis in (0, 1, 2):
        n = weight.shape[axis] - 1
        pair = torch.minimum(weight.narrow(axis, 0, n), weight.narrow(axis, 1, n))
        total = total + (pair * field.colour.diff(dim=axis + 1) ** 2).sum() / mass
    return total


def density_variation(field: RadianceField) -> Tensor:
    """Total variation of a voxel's opacity: floaters and holes are rough."""
    return total_variation(1 - torch.exp(-field.density))


def sparsity(field: RadianceField) -> Tensor:
    """Mean Cauchy penalty on density (Plenoxels, arXiv 2112.05131): thin fog costs most, solid walls little more."""
    return torch.log1p(2 * field.density**2).mean()


def half_transparency(alpha: Tensor) -> Tensor:
    """Mean binary entropy of rendered opacity: 0 where every ray hits or misses, log 2 where all are undecided."""
    a = alpha.clamp(1e-5, 1 - 1e-5)
    return F.binary_cross_entropy(a, a)


def outside(field: RadianceField, allowed: Tensor) -> Tensor:
    """Mean opacity of the voxels where ``allowed`` [Z, Y, X] is false: what lies outside the object's bounds."""
    opacity = 1 - torch.exp(-field.density)
    return (opacity * ~allowed).sum() / (~allowed).sum().clamp(min=1)
