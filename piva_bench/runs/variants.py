"""A method at certain parameters: the user's, the profile's, its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from piva_bench.distillation.params import AdapterParams
from piva_bench.errors import MethodError, UnknownName, UserError
from piva_bench.key import content_key
from piva_bench.params import MethodParams, faults, profile_defaults
from piva_bench.registry import METHODS
from piva_bench.tuned import tuned_defaults

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.method import EditMethod
    from piva_bench.profiles import Profile

CONTROL = "depth_control"
"""The depth ControlNet among a setting's models."""


@dataclass(frozen=True)
class Variant:
    """A method at certain parameters, under its canonical name.

    Attributes:
        requested: the name the user gave.
        given: the parameters the user gave; with ``requested`` they are the variant again, in another process.
        name: canonical name, which records carry (Piva without its regulariser is "dds").
        version: of the canonical method's card.
        source_hash: of the method's file if it was given as a file.
        cls: the canonical method's class.
        params: its own parameters, all of them.
        kind: what is edited; see ``EditMethod.kinds``.
        follow: the parameters of that kind.
        models: fingerprints of the models beside the main one, by name: those of the method's card, and
            ``depth_control`` for adapters that are a depth ControlNet.
        replaced: defaults that were replaced, by parameter: own, new, and what the new one comes from.
    """

    requested: str
    given: Mapping[str, Any]
    name: str
    version: str
    source_hash: str | None
    cls: type[EditMethod]
    params: MethodParams
    kind: str = "pictures"
    follow: MethodParams = field(default_factory=MethodParams)
    models: Mapping[str, str] = field(default_factory=dict)
    replaced: Mapping[str, tuple[Any, Any, str]] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Equal for equal settings."""
        return content_key(self._identity())

    @cached_property
    def family(self) -> str:
        """Equal for settings that differ in their number of steps alone, where the shorter is the longer's prefix."""
        identity = self._identity()
        if getattr(self.cls, "prefix", False):
            identity["params"] = {name: v for name, v in identity["params"].items() if name != "steps"}
        return content_key(identity)

    def _identity(self) -> dict[str, Any]:
        return {
            "method": self.name,
            "method_version": self.version,
            "method_source": self.source_hash,
            "params": self.params_dict(),
        }

    def method(self) -> EditMethod:
        """The method at work."""
        return self.cls(self.params)

    def params_dict(self) -> dict[str, Any]:
        """The parameters that decide its edits, as plain JSON values."""
        values = self.params.recorded() | self.follow.recorded()
        return values | dict(self.params.stamp) | dict(self.follow.stamp) | dict(self.models)

    def attach_models(self, denoiser: Denoiser, profile: Profile) -> None:
        """Puts the models that the method needs beside the main one, unless they are there.

        Raises:
            ModelError: one is missing, or made for another model.
        """
        from piva_bench.diffusion.aliases import locate_depth_control
        from piva_bench.diffusion.controlnet import DepthControl
        from piva_bench.diffusion.load import load_denoiser

        for name in self.cls.card.models:
            if name not in denoiser.beside:
                path = profile.model_beside(name)
                denoiser.put_beside(name, load_denoiser(path, denoiser.device, denoiser.dtype))
        if CONTROL in self.models and denoiser.depth_control is None:
            folder = locate_depth_control(profile.depth_control)
            control = DepthControl.from_pretrained(folder, denoiser.device, denoiser.dtype)
            denoiser.attach_depth_control(control)


def resolve_variants(
    methods: Sequence[str], given: Mapping[str, Any], profile: Profile, kind: str = "pictures"
) -> list[Variant]:
    """Methods with their parameters: the user's, else the method's for the profile, else its own defaults.

    A parameter goes to every method that has it; ``method.parameter`` goes to that method alone, and wins there. One
    that no method has is an error.

    Args:
        methods: names or ``path/to/file.py:Class``.
        given: parameters by name.
        profile: supplies ``method_defaults``.
        kind: what is edited; methods have its parameters too.

    Raises:
        UnknownName: of a method or a parameter.
        UserError: a value of the wrong type or out of its bounds, a method that edits nothing of this kind or is
            unfinished.
    """
    classes = [(name, METHODS.load(name)) for name in dict.fromkeys(methods)]
    for name, cls in classes:
        _check_class(name, cls)
        if kind not in cls.kinds:
            raise UserError(
                f"{name} edits {' and '.join(cls.kinds)}, not {kind}: choose another method or dataset."
            )
    own: dict[str, dict[str, Any]] = {name: {} for name, _ in classes}
    for parameter in given:
        takers = _takers(parameter, classes, kind)
        for name in takers:
            plain = parameter.rpartition(".")[2]
            # What names its method wins, wherever it stands.
            if "." in parameter or f"{_short(name)}.{plain}" not in given:
                own[name][plain] = given[parameter]
    return [_variant(name, cls, own[name], profile, kind) for name, cls in classes]


def _takers(parameter: str, classes: Sequence[tuple[str, type[EditMethod]]], kind: str) -> list[str]:
    """The methods that a parameter goes to."""
    owner, _, plain = parameter.rpartition(".")
    if owner:
        named = [(name, cls) for name, cls in classes if owner in (_short(name), cls.card.name)]
        if not named:
            raise UnknownName(
                "method before the dot of --param", owner, [_short(name) for name, _ in classes]
            )
        classes = named
    known = {name: known_parameters(cls, kind) for name, cls in classes}
    takers = [name for name in known if plain in known[name]]
    if not takers:
        for other in {each for _, cls in classes for each in cls.kinds} - {kind}:
            if any(plain in cls.kinds[other].model_fields for _, cls in classes if other in cls.kinds):
                near = get_close_matches(plain, {one for names in known.values() for one in names}, 1)
                raise UserError(
                    f"{plain} is a parameter of edits of {other}, and these are {kind}"
                    + (f" (which have {near[0]})" if near else "")
                    + ": see `piva-bench describe method`."
                )
        every = {one for names in known.values() for one in names}
        whose = f" of {' or '.join(_short(name) for name in known)}"
        raise UnknownName(f"parameter{whose}", plain, every, "See `piva-bench describe method`.")
    return takers


def _short(name: str) -> str:
    return name.rpartition(":")[2]


def known_parameters(cls: type[EditMethod], kind: str) -> set[str]:
    """Names of a method's parameters, those of what it edits included."""
    follow = cls.kinds.get(kind, MethodParams)
    return set(cls.Params.model_fields) | set(follow.model_fields)


def defaults_of(
    method: str, model: type[MethodParams], profile: Profile, kind: str
) -> dict[str, tuple[Any, str]]:
    """The defaults that are not the parameters' own, and what they come from: the profile, or the file of a tuning.

    Args:
        method: name, or ``file.py:Class``.
        model: of its parameters, or of those of what it edits.
        profile: as it is for the kind.
        kind: what is edited.
    """
    by_profile = profile_defaults(model, profile.name, profile.method_defaults)
    found = {name: (value, f"profile {profile.name}") for name, value in by_profile.items()}
    tuned = tuned_defaults(method, profile, kind)
    return found | {name: tuned[name] for name in tuned if name in model.model_fields}


def declared_defaults(cls: type[EditMethod], profile: Profile, kind: str) -> dict[str, Any]:
    """All parameters of a method at their defaults in a profile, as the code declares them."""
    found: dict[str, Any] = {}
    for model in (cls.Params, cls.kinds[kind]):
        found |= {name: field.default for name, field in model.model_fields.items()}
        found |= profile_defaults(model, profile.name, profile.method_defaults)
    return found


def _check_class(name: str, cls: type[EditMethod]) -> None:
    """Says once, before anything is computed, what a method lacks."""
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise MethodError(f"{name} is not finished: it has no {' and no '.join(missing)}.")
    for params in (cls.Params, *cls.kinds.values()):
        if wrong := faults(params):
            raise MethodError(f"{name}: parameter {wrong[0]}.")
    for kind, params in cls.kinds.items():
        if twice := sorted(params.model_fields.keys() & cls.Params.model_fields.keys()):
            raise MethodError(
                f"{name}: {twice[0]} is a parameter of {params.__name__} already: to give it another default, name a "
                f"subclass of {params.__name__} for {kind} in `kinds`."
            )
    strength = cls.card.strength
    if strength is not None and strength.parameter not in cls.Params.model_fields:
        raise MethodError(f"{name}: its card's strength, {strength.parameter}, is none of its parameters.")


def _variant(
    requested: str, cls: type[EditMethod], given: Mapping[str, Any], profile: Profile, kind: str
) -> Variant:
    replaced: dict[str, tuple[Any, Any, str]] = {}

    def values(model: type[MethodParams]) -> dict[str, Any]:
        defaults = defaults_of(requested, model, profile, kind)
        for name, (value, whence) in defaults.items():
            if name not in given and value != model.model_fields[name].default:
                replaced[name] = (model.model_fields[name].default, value, whence)
        own = {name: value for name, (value, _) in defaults.items()}
        return own | {name: given[name] for name in given if name in model.model_fields}

    try:
        params = cls.Params(**values(cls.Params))
        follow = cls.kinds[kind](**values(cls.kinds[kind]))
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
    models = _models(cls, params, profile, kind)
    version = cls.card.version
    return Variant(requested, given, name, version, source_hash, cls, params, kind, follow, models, replaced)


def _models(cls: type[EditMethod], params: MethodParams, profile: Profile, kind: str) -> dict[str, str]:
    """Fingerprints of the models that a method needs beside the main one, by name."""
    from piva_bench.diffusion.aliases import locate_depth_control
    from piva_bench.diffusion.fingerprints import control_fingerprint, fingerprint

    found = {name: fingerprint(profile.model_beside(name)) for name in cls.card.models}
    if isinstance(params, AdapterParams) and params.adapter == "controlnet":
        if kind != "scenes":
            raise UserError("adapter=controlnet needs depth, which pictures have not: leave it out.")
        found[CONTROL] = control_fingerprint(locate_depth_control(profile.depth_control))
    return found


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    return f"{'.'.join(map(str, fault['loc']))}={fault['input']!r}: {message[:1].lower()}{message[1:]}"
