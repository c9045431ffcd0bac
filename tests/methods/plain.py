"""Plain one-image loops, written from the equations on diffusers' own networks, in float64."""

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

from piva_bench.session.noise import noise, timestep

STEPS, W = 5, 4.0


class Plain:
    """A tiny Stable Diffusion and one edit of it.

    Attributes:
        z_src: the source's latents [1, 4, 8, 8].
    """

    def __init__(self, folder, denoiser, task, seed=0):
        load = {"torch_dtype": torch.float64}
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet", **load).requires_grad_(False)
        self.vae = AutoencoderKL.from_pretrained(folder / "vae", **load)
        self.abar = DDPMScheduler.from_pretrained(folder / "scheduler").alphas_cumprod.double()
        self.denoiser, self.task, self.seed = denoiser, task, seed
        with torch.no_grad():
            mode = self.vae.encode(task.source[None].double()).latent_dist.mode()
        self.z_src = mode * self.vae.config.scaling_factor

    def a(self, t):
        return self.abar[t].sqrt()

    def s(self, t):
        return (1 - self.abar[t]).sqrt()

    def noise(self, step, purpose):
        return noise(self.seed, self.task.sample_id, step, purpose, self.z_src.shape[1:])[None].double()

    def t(self, step, among):
        return timestep(self.seed, self.task.sample_id, step, among, "edit/t")

    def eps(self, x, t, prompt):
        text = self.denoiser.condition([prompt]).text
        return self.unet(x, torch.tensor([t]), encoder_hidden_states=text).sample

    def guided(self, x, t, prompt, w):
        null = self.eps(x, t, "")
        return null + w * (self.eps(x, t, prompt) - null)

    def clean(self, x, eps, t):
        return (x - self.s(t) * eps) / self.a(t)

    def delta(self, z, z_src, t, eps, w):
        """DDS's difference of branches."""
        x, x_src = (self.a(t) * one + self.s(t) * eps for one in (z, z_src))
        target = self.guided(x, t, self.task.target_prompt, w)
        return target - self.guided(x_src, t, self.task.source_prompt, w)

    def ddim(self, x, eps, t, to):
        picture = x if t is None else self.clean(x, eps, t)
        return picture if to is None else self.a(to) * picture + self.s(to) * eps

    def distilled(self, steps, gradient, scale, rate=0.1):
        """The edited picture of ``z -= rate * scale * gradient(step, z)``."""
        z = self.z_src.clone()
        for step in range(steps):
            z = z - rate * scale * gradient(step, z)
        return self.picture(z)

    def by_adam(self, steps, gradient, rate, beta2=0.999, scale=2000 / 4096):
        """The edited picture of Adam (arXiv 1412.6980, algorithm 1) at the rates ``rate(step)``."""
        z, first, second = self.z_src.clone(), 0, 0
        for step in range(steps):
            slope = scale * gradient(step, z)
            first = 0.9 * first + 0.1 * slope
            second = beta2 * second + (1 - beta2) * slope**2
            root = (second / (1 - beta2 ** (step + 1))).sqrt()
            z = z - rate(step) * first / (1 - 0.9 ** (step + 1)) / (root + 1e-8)
        return self.picture(z)

    @torch.no_grad()
    def picture(self, z):
        return self.vae.decode(z / self.vae.config.scaling_factor).sample.clamp(-1, 1)[0]


def grid(steps):
    """The timesteps of a sampler of Stable Diffusion: every (1000 / steps)-th from 1, the noisiest first."""
    return [1 + (1000 // steps) * index for index in range(steps)][::-1]


def invert(plain, prompt=None):
    """Noise of DDIM's inversion without guidance, and the way to it, the noisiest first and the source last."""
    x, t, way = plain.z_src, None, [plain.z_src]
    for to in grid(STEPS)[::-1]:
        eps = plain.eps(x, to, plain.task.source_prompt if prompt is None else prompt)
        x, t = plain.ddim(x, eps, t, to), to
        way.insert(0, x)
    return way


def edited(denoiser, method, task, **params):
    """Our picture of an edit in few steps."""
    (outcome,) = method(method.Params(steps=STEPS, **params)).edit([task], denoiser, 0)
    assert outcome.reason is None
    return outcome.image


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
