"""What a user asks for, and what it comes to: profile, dataset, methods, model, units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from piva_bench.errors import ModelError, UserError
from piva_bench.profiles import Profile, get_profile, resolve_model
from piva_bench.registry import DATASETS
from piva_bench.runs.groups import members
from piva_bench.runs.kinds import kind_of_samples
from piva_bench.runs.masks import check_blend
from piva_bench.runs.plan import Unit, make_units, select_samples
from piva_bench.runs.record import ENGINE, Setup
from piva_bench.runs.references import fitting, reference_rows
from piva_bench.runs.shard import SHARES, Shard
from piva_bench.runs.variants import Variant, resolve_variants

if TYPE_CHECKING:
    from piva_bench.data.dataset import Dataset
    from piva_bench.data.sample import Sample
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.runs.scoring import Scorer

Dtype = Literal["float32", "bfloat16", "float16"]

BatchSize = Annotated[int, Field(ge=1)] | Literal["auto"]

MaskBlend = Literal["end", "steps"]

Workers = Annotated[int, Field(ge=1)] | Literal["auto"]


class RunRequest(BaseModel):
    """A run as asked for: the options of ``piva-bench run``.

    Attributes:
        output_dir: the run's folder.
        address: of the object store that this folder follows, if it does.
        references: whether the run adds the reference rows by itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[str, ...] = Field(min_length=1)
    dataset: str
    profile: str = "embedded"
    params: dict[str, Any] = Field(default_factory=dict)
    samples: tuple[str, ...] = ()
    limit: int | None = Field(default=None, ge=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    model: str | None = None
    data_root: Path | None = None
    output_dir: Path | None = None
    address: str | None = None
    overwrite: bool = False
    device: str = "auto"
    dtype: Dtype = "float32"
    batch_size: BatchSize = "auto"
    compile: bool = False
    channels_last: bool = False
    keep_fields: bool = False
    workers: Workers = "auto"
    snapshots: tuple[int, ...] = ()
    shard: Shard | None = None
    mask_blend: MaskBlend | None = None
    references: bool = False
    executor: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    timeout: float | None = Field(default=None, gt=0)
    max_hours: float | None = Field(default=None, gt=0)


@dataclass(frozen=True)
class Order:
    """A plan as plain values: what another process needs to prepare it again.

    Attributes:
        request: as asked for.
        settings: methods as they were asked for, with the parameters given.
        setup: what all records share.
    """

    request: RunRequest
    settings: tuple[tuple[str, dict[str, Any]], ...]
    setup: Setup

    def prepare(self) -> Prepared:
        """The plan; see ``prepare``."""
        profile, dataset = open_both(self.request)
        kind = kind_of_samples(dataset.samples).name
        variants = [resolve_variants([name], given, profile, kind)[0] for name, given in self.settings]
        prepared = prepare(self.request, variants, (profile, dataset))
        return replace(prepared, setup=self.setup)


@dataclass(frozen=True)
class Prepared:
    """A request with everything looked up that can be without loading the model."""

    request: RunRequest
    profile: Profile
    dataset: Dataset
    samples: list[Sample]
    variants: list[Variant]
    references: list[Variant]
    """The reference rows that the run adds by itself."""
    model_path: Path
    device: str
    setup: Setup
    units: list[Unit]
    output_dir: Path
    notes: tuple[str, ...] = ()
    """What the user should know of the samples and of methods that are left out, a line each."""

    def samples_by_id(self) -> dict[str, Sample]:
        """All samples of the dataset, not only the chosen ones."""
        return {sample.id: sample for sample in self.dataset.samples}

    def load_denoiser(self) -> Denoiser:
        """Loads the model; takes seconds.

        Raises:
            ModelError: the folder is incomplete, torn or unsuitable.
        """
        import torch

        from piva_bench.diffusion.load import load_denoiser

        denoiser = load_denoiser(
            self.model_path, device=self.device, dtype=getattr(torch, self.request.dtype)
        )
        for variant in (*self.variants, *self.references):
            variant.attach_models(denoiser, self.profile)
        denoiser.tune(compile=self.request.compile, channels_last=self.request.channels_last)
        return denoiser

    def batch_size(
        self,
        units: Sequence[Unit],
        denoiser: Callable[[], Denoiser | None],
        interrupted: int | None = None,
        workers: int = 1,
        trial: bool = False,
    ) -> int:
        """Most edits to compute together: as asked for, or as in an interrupted run, or as memory has room for.

        Args:
            units: the edits.
            denoiser: loads the model, if it has to be tried.
            interrupted: what an interrupted run took.
            workers: processes that share the memory.
            trial: whether nothing may be made that takes long and is kept.
        """
        from piva_bench.runs.batch_size import automatic_batch_size

        if self.request.batch_size != "auto":
            return self.request.batch_size
        if interrupted:
            return interrupted
        model = denoiser()
        assert model is not None, "an automatic batch size is found with a model"
        return automatic_batch_size(units, model, self.setup.resolution, workers, trial=trial)

    def order(self) -> Order:
        """The plan as plain values."""
        settings = tuple((variant.requested, dict(variant.given)) for variant in self.variants)
        return Order(self.request, settings, self.setup)

    def scorer(self) -> Scorer:
        """Of the profile's protocol.

        Raises:
            UserError: its models are missing, or it does not suit the dataset.
        """
        from piva_bench.runs.scoring import Scorer

        return Scorer(self.profile.protocol, self.samples_by_id())


def open_dataset(name: str, profile: Profile, data_root: Path | None) -> Dataset:
    """Opens a registered dataset.

    Raises:
        UnknownName: no such dataset.
        DataError: it is missing or torn.
    """
    return DATASETS.load(name)(profile, data_root)


def open_both(request: RunRequest) -> tuple[Profile, Dataset]:
    """The dataset of a request, and its profile as it is for datasets of that kind.

    Raises:
        UnknownName: no such profile or dataset.
        DataError: the dataset is missing or torn.
    """
    profile = get_profile(request.profile)
    dataset = open_dataset(request.dataset, profile, request.data_root)
    return profile.for_kind(kind_of_samples(dataset.samples).name), dataset


def prepare(
    request: RunRequest,
    variants: list[Variant] | None = None,
    opened: tuple[Profile, Dataset] | None = None,
) -> Prepared:
    """Looks everything up and lays out the edits.

    Args:
        request: what is asked for.
        variants: what to run; by default each method of the request (or of its groups) at the request's parameters.
        opened: the request's profile and dataset, if they have been looked up (see ``open_both``).

    Raises:
        UserError: an unknown name, a parameter out of bounds, a missing dataset, model or device.
    """
    from piva_bench.runs.prompts import PromptReader, cut_notes, marked

    profile, dataset = opened or open_both(request)
    notes = [*getattr(dataset, "notes", ())]
    if variants is None:
        kind = kind_of_samples(dataset.samples).name
        methods, left_out = members(request.methods, kind, profile)
        variants = resolve_variants(methods, request.params, profile, kind)
        variants = with_snapshots(variants, request.snapshots, profile)
        notes += left_out
    if request.mask_blend:
        check_blend(request.mask_blend, variants)
    samples = select_samples(dataset.samples, request.samples, request.limit)
    samples = request.shard.of(samples) if request.shard else samples
    references: list[Variant] = []
    if request.references:
        kind = kind_of_samples(dataset.samples).name
        references = reference_rows(variants, samples, request.params, profile, kind)
    device = resolve_device(request.device)
    model_path = resolve_model(request.model or profile.model)
    if reader := PromptReader.of_model(model_path):
        notes += cut_notes(samples, reader)
        samples = marked(samples, reader)
    setup = Setup(
        profile=profile.name,
        dataset=request.dataset,
        dataset_revision=dataset.revision,
        model=request.model or profile.model,
        model_fingerprint=model_fingerprint(model_path),
        resolution=profile.resolution,
        dtype=request.dtype,
        engine=ENGINE,
    )
    units = make_units(setup, variants, samples, request.seeds, request.mask_blend)
    for row in references:
        units += make_units(setup, [row], fitting(row, samples), request.seeds)
    return Prepared(
        request=request,
        profile=profile,
        dataset=dataset,
        samples=samples,
        variants=variants,
        references=references,
        model_path=model_path,
        device=device,
        setup=setup,
        units=units,
        output_dir=output_dir_of(request),
        notes=tuple(notes),
    )


def with_snapshots(variants: list[Variant], snapshots: Sequence[int], profile: Profile) -> list[Variant]:
    """The same settings, and each that allows it at fewer steps, too.

    Raises:
        UserError: none of the methods can be seen on its way.
    """
    if not snapshots:
        return variants
    found = []
    for variant in variants:
        found.append(variant)
        steps = variant.method().steps
        if steps is None or not getattr(variant.cls, "prefix", False):
            continue
        for number in sorted({*snapshots}):
            if number < steps:
                found += resolve_variants(
                    [variant.requested], {**variant.given, "steps": number}, profile, variant.kind
                )
    if len(found) == len(variants):
        raise UserError(
            "--snapshots: none of these methods takes more steps than that, or can be seen on its way."
        )
    return found


def output_dir_of(request: RunRequest) -> Path:
    """Where a run's results go: in the folder of the whole; of each share in one of its own below that."""
    whole = whole_dir_of(request)
    return whole / SHARES / request.shard.name if request.shard else whole


def whole_dir_of(request: RunRequest) -> Path:
    """The folder of the whole run: as asked for, else named after profile and dataset."""
    return request.output_dir or Path("results/runs") / f"{request.profile}-{request.dataset}"


def resolve_device(device: str) -> str:
    """The torch device behind ``auto`` (CUDA where there is one) or a device name.

    Raises:
        UserError: there is no such device here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(f"There is no device '{device}' here: give --device cpu or auto.") from error
    return device


def model_fingerprint(path: Path) -> str:
    """Fingerprint of a diffusers folder, without loading it.

    Raises:
        ModelError: the folder is not complete, or holds a model of another kind.
    """
    from piva_bench.diffusion.fingerprints import fingerprint
    from piva_bench.diffusion.kinds import check_kind

    check_kind(path)
    try:
        return fingerprint(path)
    except OSError as error:
        raise ModelError(
            f"{path} is no complete diffusers folder: {error.filename} cannot be read."
        ) from error
