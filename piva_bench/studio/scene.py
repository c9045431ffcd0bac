"""A scene: everything that decides one studio picture, as plain values."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from piva_bench.studio import vocabulary as words


@dataclass(frozen=True)
class Scene:
    """One set in front of one camera. Equal scenes give equal pictures, pixel for pixel.

    Words (``object`` .. ``style``) are keys of :mod:`piva_bench.studio.vocabulary`. Angles are degrees, lengths
    are in units of the object's bounding size (its largest edge is 1).
    """

    object: str
    color: str | None = None
    material: str = "plain"
    print: str = "none"
    pose: str = "upright"
    accessory: str = "none"
    second: str = "none"
    second_color: str | None = None
    floor: str = "wood"
    backdrop: str = "grey"
    style: str = "photo"
    yaw: float = 0.0
    """Turn of the object about the vertical, from its canonical three-quarter view."""
    elevation: float = 18.0
    distance: float = 1.0
    """Camera distance as a multiple of the default."""
    shift: float = 0.0
    """Sideways place of the object, as a share of its size."""
    light: float = 0.0
    """Turn of the key light about the vertical."""
    second_side: int = 1
    """+1: the second object stands to the right, -1: to the left."""
    phase: float = 0.0
    """Offset in [0, 1) of floor and backdrop patterns."""

    def __post_init__(self) -> None:
        checks = (
            ("object", self.object, words.OBJECTS),
            ("material", self.material, words.MATERIALS),
            ("print", self.print, words.PRINTS),
            ("pose", self.pose, words.POSES),
            ("accessory", self.accessory, words.ACCESSORIES),
            ("second", self.second, words.SECONDS),
            ("floor", self.floor, words.FLOORS),
            ("backdrop", self.backdrop, words.BACKDROPS),
            ("style", self.style, words.STYLES),
        )
        for field, value, allowed in checks:
            if value not in allowed:
                raise ValueError(f"scene: {field} {value!r} is none of {', '.join(allowed)}")
        for field, paint in (("color", self.color), ("second_color", self.second_color)):
            if paint is not None and paint not in words.COLORS:
                raise ValueError(f"scene: {field} {paint!r} is none of {', '.join(words.COLORS)}")
        if (self.second == "none") != (self.second_color is None):
            raise ValueError("scene: a second object and its colour come together or not at all")

    def replace(self, **changes: Any) -> Scene:
        """Copy of the scene with the named fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scene:
        """The inverse of :meth:`to_dict`."""
        return cls(**values)

    @property
    def view(self) -> str:
        """Which side of the object the camera sees: ``front``, ``side`` or ``back``."""
        turn = abs((self.yaw + 180.0) % 360.0 - 180.0)
        return "front" if turn <= 50.0 else "side" if turn <= 130.0 else "back"

    @property
    def attributes(self) -> dict[str, str]:
        """The class of every head of :data:`piva_bench.studio.vocabulary.HEADS`."""
        values = {head: getattr(self, head) for head in words.HEADS if head != "color"}
        return {**values, "color": self.color or "natural"}


COMPOSITION_FIELDS = (
    "object", "color", "material", "print", "pose", "accessory", "second", "floor", "backdrop", "style",
)  # fmt: skip


def composition_key(scene: Scene) -> str:
    """The scene's words in one string, without colour of the second object and without any number.

    Two scenes of equal key show the same things; a model that has seen one has seen the composition.
    """
    return "/".join(str(getattr(scene, field)) for field in COMPOSITION_FIELDS)


def held_out_pair(scene: Scene) -> bool:
    """Whether the scene pairs the object with a colour or material that no training picture ever shows.

    One pair in eight is held out, chosen by a hash so that the choice needs no list and never moves.
    """
    pairs = [(scene.object, scene.color)] if scene.color else []
    if scene.material != "plain":
        pairs.append((scene.object, scene.material))
    return any(hashlib.blake2b(json.dumps(p).encode(), digest_size=2).digest()[0] % 8 == 0 for p in pairs)


def _weighted(rng: random.Random, table: Collection[str], first: float) -> str:
    """The first entry with probability ``first``, else any other with equal chance."""
    names = list(table)
    return names[0] if rng.random() < first else rng.choice(names[1:])


def random_view(rng: random.Random, *, all_sides: bool) -> dict[str, Any]:
    """The numbers of a scene: where the camera stands, how the object is turned, how the light falls."""
    around = all_sides and rng.random() < 0.3
    return {
        "yaw": round(rng.uniform(-180, 180) if around else rng.uniform(-35, 35), 2),
        "elevation": round(rng.uniform(8, 30), 2),
        "distance": round(rng.uniform(0.93, 1.12), 3),
        "shift": round(rng.uniform(-0.08, 0.08), 3),
        "light": round(rng.uniform(-25, 25), 2),
        "second_side": rng.choice((-1, 1)),
        "phase": round(rng.random(), 4),
    }


def random_scene(rng: random.Random, *, all_sides: bool = True) -> Scene:
    """Draw a scene. Plain things are common and rare things not too rare, so that a small model learns both."""
    material = _weighted(rng, words.MATERIALS, 0.55)
    second = _weighted(rng, words.SECONDS, 0.78)
    name = rng.choice(list(words.OBJECTS))
    pose = _weighted(rng, words.POSES, 0.80)
    return Scene(
        object=name,
        color=None if rng.random() < 0.28 else rng.choice(list(words.COLORS)),
        material=material,
        print=_weighted(rng, words.PRINTS, 0.66) if material == "plain" else "none",
        pose=pose if pose in words.FIXED_POSE.get(name, words.POSES) else "upright",
        accessory=_weighted(rng, words.ACCESSORIES, 0.73),
        second=second,
        second_color=None if second == "none" else rng.choice(list(words.COLORS)),
        floor=rng.choice(list(words.FLOORS)),
        backdrop=rng.choice(list(words.BACKDROPS)),
        style=_weighted(rng, words.STYLES, 0.82),
        **random_view(rng, all_sides=all_sides),
    )


def training_scenes(seed: int, count: int, held_out: Collection[str]) -> list[Scene]:
    """``count`` scenes for training: none of a held-out composition, none with a held-out pair."""
    rng = random.Random(f"studio-training-{seed}")
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng)
        if not held_out_pair(scene) and composition_key(scene) not in held_out:
            scenes.append(scene)
    return scenes
