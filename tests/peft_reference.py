"""LoRA by peft, one adapter at a time: the reference our batched adapters are held against."""

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from piva_bench.diffusion.lora import LayerLora


def peft_unet(folder, lora: LayerLora, rank: int, names: list[str]) -> PeftModel:
    """A second copy of the UNet with named peft adapters on the layers ``lora`` adapts."""
    return peft_model(UNet2DConditionModel.from_pretrained(folder / "unet"), lora, rank, names)


def peft_model(network, lora: LayerLora, rank: int, names: list[str]) -> PeftModel:
    """A network with named peft adapters on the layers ``lora`` adapts."""
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=lora.names)
    model = get_peft_model(network.eval(), config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    return model.eval()


def parameters(model: PeftModel, lora: LayerLora, adapter: str) -> list[tuple[Tensor, Tensor]]:
    """An adapter's (A, B), layer by layer."""
    modules = dict(model.base_model.model.named_modules())
    return [
        (modules[name].lora_A[adapter].weight, modules[name].lora_B[adapter].weight) for name in lora.names
    ]


@torch.no_grad()
def copy_weights(model: PeftModel, lora: LayerLora, adapter: str, weights: Tensor) -> None:
    """Gives a peft adapter the weights [P] of one of ours."""
    rows = lora.rows(weights[None])
    for (a, b), (our_a, our_b) in zip(parameters(model, lora, adapter), rows.factors, strict=True):
        a.copy_(our_a[0].view_as(a))
        b.copy_(our_b[0].view_as(b))


def flat(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """(A, B) pairs in the layout of our weights: all A, then all B."""
    return torch.cat([a.flatten() for a, _ in pairs] + [b.flatten() for _, b in pairs])
