"""The plan: which edits a run consists of, each under its content key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from piva_bench.errors import UnknownName, UserError
from piva_bench.registry import METHODS
from piva_bench.runs.record import Setup, unit_key
from piva_bench.scene.params import LATENT_PARAMETERS, FieldEditParams, FieldParams

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.method import EditMethod
    from piva_bench.params import MethodParams
    from piva_bench.profiles import Profile


@dataclass(frozen=True)
class Variant:
    """A method at certain parameters, under its canonical name.

    Attributes:
        requested: the name the user gave.
        name: canonical name, which records carry (Piva without its regulariser is "dds").
        version: of the canonical method's card.
        source_hash: of the method's file if it was given as a file.
        cls: the canonical method's class.
        params: its parameters, all of them.
        scene: of the radiance field, for datasets of scenes.
        depth_control: fingerprint of the depth ControlNet, for adapters that are one.
    """

    requested: str
    name: str
    version: str
    source_hash: str | None
    cls: type[EditMethod]
    params: MethodParams
    scene: FieldParams | None = None
    depth_control: str | None = None

    def params_dict(self) -> dict[str, Any]:
        """The parameters that decide its edits, as plain JSON values."""
        if self.scene is None:
            return self.params.model_dump(mode="json")
        own = self.params.model_dump(mode="json", exclude=set(LATENT_PARAMETERS))
        control = {} if self.depth_control is None else {"depth_control": self.depth_control}
        return own | self.scene.model_dump(mode="json") | control

    def attach_control(self, denoiser: Denoiser, profile: Profile) -> None:
        """Puts the profile's depth ControlNet beside the model, where the method's adapters are one.

        Raises:
            ModelError: it is missing, or made for another model.
        """
        if self.depth_control is None or denoiser.depth_control is not None:
            return
        from piva_bench.diffusion.aliases import locate_depth_control
        from piva_bench.diffusion.controlnet import DepthControl

        folder = locate_depth_control(profile.depth_control)
        denoiser.attach_depth_control(DepthControl.from_pretrained(folder, denoiser.device, denoiser.dtype))


@dataclass(frozen=True)
class Unit:
    """One edit to be made: sample x method x parameters x seed."""

    key: str
    sample: Sample
    variant: Variant
    seed: int


def resolve_variants(
    methods: Sequence[str], given: Mapping[str, Any], profile: Profile, scenes: bool = False
) -> list[Variant]:
    """Methods with their parameters: the user's, else the profile's, else the method's own defaults.

    A parameter goes to every method that has it; one that no method has is an error.

    Args:
        methods: names or ``path/to/file.py:Class``.
        given: parameters by name.
        profile: supplies ``method_defaults``.
        scenes: whether scenes are edited; methods then have the parameters of their fields too.

    Raises:
        UnknownName: of a method or a parameter.
        UserError: a value of the wrong type or out of its bounds, a method that edits no scenes.
    """
    classes = [(name, METHODS.load(name)) for name in dict.fromkeys(methods)]
    for name, cls in classes:
        if scenes and not cls.edits_scenes():
            raise UserError(f"{name} edits pictures, not 3D scenes: choose another method or dataset.")
    known = {field for _, cls in classes for field in known_parameters(cls, scenes)}
    for parameter in given:
        if scenes and parameter in LATENT_PARAMETERS:
            raise UserError(
                f"{parameter} moves a picture's latents, and these are scenes: see field_learning_rate."
            )
        if parameter not in known:
            owner = f" of {' or '.join(methods)}"
            raise UnknownName(f"parameter{owner}", parameter, known, "See `piva-bench describe method`.")
    return [_variant(name, cls, given, profile, scenes) for name, cls in classes]


def known_parameters(cls: type[EditMethod], scenes: bool) -> set[str]:
    """Names of a method's parameters, those of its field included where it edits scenes."""
    return set(cls.Params.model_fields) | (set(field_params(cls).model_fields) if scenes else set())


def field_params(cls: type[EditMethod]) -> type[FieldParams]:
    """What a reference shows depends on how the source was fitted alone."""
    return FieldParams if cls.card.kind == "reference" else FieldEditParams


def _variant(
    requested: str, cls: type[EditMethod], given: Mapping[str, Any], profile: Profile, scenes: bool
) -> Variant:
    def values(model: type[MethodParams]) -> dict[str, Any]:
        fields = set(model.model_fields)
        return profile.defaults_for(fields) | {name: given[name] for name in given if name in fields}

    try:
        params = cls.Params(**values(cls.Params))
        scene = field_params(cls)(**values(field_params(cls))) if scenes else None
    except ValidationError as error:
        raise UserError(f"Method {requested}: {_first_fault(error)}") from error
    source_hash = METHODS.source_hash(requested)
    if source_hash is not None and cls.card.name in METHODS.names():
        raise UserError(
            f"The method in {requested} calls itself '{cls.card.name}', as an installed one does: "
            "give its card another name."
        )
    name, params = cls.canonical(params)
    if name != cls.card.name:
        # The canonical twin is an installed method; a file's own hash does not decide its pixels.
        cls, source_hash = METHODS.load(name), None
    control = None
    if getattr(params, "adapter", "lora") == "controlnet":
        if not scenes:
            raise UserError("adapter=controlnet needs depth, which pictures have not: leave it out.")
        control = _control_fingerprint(profile)
    return Variant(requested, name, cls.card.version, source_hash, cls, params, scene, control)


def _control_fingerprint(profile: Profile) -> str:
    from piva_bench.diffusion.aliases import locate_depth_control
    from piva_bench.diffusion.controlnet import control_fingerprint

    return control_fingerprint(locate_depth_control(profile.depth_control))


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    return f"{'.'.join(map(str, fault['loc']))}={fault['input']!r}: {message[:1].lower()}{message[1:]}"


def select_samples(
    samples: Sequence[Sample], ids: Sequence[str] = (), limit: int | None = None
) -> list[Sample]:
    """The samples of a run, in the dataset's order.

    Args:
        samples: the whole dataset.
        ids: if given, only these.
        limit: if given, this many, spread over the edit types. A larger limit adds to a smaller one's.

    Raises:
        UnknownName: an id that does not exist.
    """
    if ids:
        by_id = {sample.id: sample for sample in samples}
        for wanted in ids:
            if wanted not in by_id:
                raise UnknownName("sample", wanted, by_id)
        samples = [sample for sample in samples if sample.id in set(ids)]
    if limit is None or limit >= len(samples):
        return list(samples)
    by_type = defaultdict(list)
    for sample in samples:
        by_type[sample.edit_type].append(sample)
    rounds = zip_longest(*by_type.values())
    chosen = {sample.id for sample in [s for one in rounds for s in one if s is not None][:limit]}
    return [sample for sample in samples if sample.id in chosen]


def make_units(
    setup: Setup, variants: Iterable[Variant], samples: Sequence[Sample], seeds: Sequence[int]
) -> list[Unit]:
    """The edits of a run, method by method; edits that are one under their canonical name appear once."""
    units: dict[str, Unit] = {}
    for variant in variants:
        for seed in seeds:
            for sample in samples:
                key = unit_key(
                    setup,
                    method=variant.name,
                    method_version=variant.version,
                    method_source=variant.source_hash,
                    params=variant.params_dict(),
                    sample_id=sample.id,
                    seed=seed,
                )
                units.setdefault(key, Unit(key, sample, variant, seed))
    return list(units.values())


def make_batches(units: Iterable[Unit], size: int, by_sample: bool = False) -> list[list[Unit]]:
    """Batches of at most ``size`` edits that share method, parameters and seed.

    Args:
        units: the edits, in plan order.
        size: most edits in a batch.
        by_sample: whether the batches of different settings that begin with the same sample follow one
            another, so that they can share what depends on the samples alone; else they stay in plan order.
    """
    groups, first = defaultdict(list), dict[tuple[int, str], int]()
    for unit in units:
        groups[id(unit.variant), unit.seed].append(unit)
        first.setdefault((unit.seed, unit.sample.id), len(first))
    batches = [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]
    if by_sample:
        batches.sort(key=lambda batch: first[batch[0].seed, batch[0].sample.id])
    return batches
