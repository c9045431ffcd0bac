"""The scene sample: one 3D edit task. It can stand wherever a sample of pictures can, and shows more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from piva_bench.data.backdrops import unseen
from piva_bench.data.sample import Sample

if TYPE_CHECKING:
    from piva_bench.scene.cameras import Cameras
    from piva_bench.scene.region import EditRegion
    from piva_bench.scene.views import PosedViews

SIDES = ("front", "side", "back")
"""The sides that prompts tell apart, as `Cameras.view_names` has them."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Shots:
    """Views of an object, and the place it stands in.

    Attributes:
        views: the V views, transparent where the object is not, with depth.
        backgrounds: uint8 [V, H, W, 3], the place without the object, from each of the cameras.
    """

    views: PosedViews
    backgrounds: Pixels

    @property
    def colour(self) -> tuple[float, float, float] | None:
        """What is behind views without a transparent pixel, in [0, 1]; None if they have some."""
        if not self.views.opaque:
            return None
        red, green, blue = (self.backgrounds[0, 0, 0] / 255).tolist()
        return red, green, blue

    def composite(self) -> Pixels:
        """The pictures, uint8 [V, H, W, 3]."""
        return self.views.composite(self.backgrounds / np.float32(255))


class SceneSource(Protocol):
    """Where the views of an object are read from."""

    @property
    def id(self) -> str:
        """Content fingerprint: what has the same one looks the same."""

    @property
    def box(self) -> NDArray[np.floating[Any]]:
        """[2, 3] lowest and highest corner of the room that the object and any edit of it may fill."""

    @property
    def turntable_cameras(self) -> Cameras:
        """Where the turntable's views are taken from."""

    @property
    def rendered(self) -> bool:
        """Whether the turntable is rendered from a field that has to be fitted first."""

    def fit_views(self) -> Shots:
        """Views to fit a field to."""

    def turntable(self) -> Shots:
        """Views to judge by, in order round the object, the first one from the front."""

    def places(self) -> Sequence[Pixels]:
        """Other places that the turntable could stand in, uint8 [V, H, W, 3] each; none where none are known."""


@dataclass(frozen=True, kw_only=True)
class SceneSample(Sample):
    """One 3D edit task.

    To what only knows pictures it shows the first view of the turntable, on its background.

    Attributes:
        scene: the object as it is.
        counterfactual: gives the turntable's views of the object as it shall be; None where nobody knows it.
        region: gives the part of space that the edit is to keep to; None where the dataset marks none.
        side_prompts: for each of `SIDES` what the source shows from there and what the edit shall show;
            ``source_prompt`` and ``target_prompt`` are those of the front, or name no side.
    """

    kind: ClassVar[str] = "scenes"

    scene: SceneSource = field(compare=False, repr=False)
    counterfactual: Callable[[], PosedViews] | None = field(default=None, compare=False, repr=False)
    region: Callable[[], EditRegion] | None = field(default=None, compare=False, repr=False)
    side_prompts: Mapping[str, tuple[str, str]] = field(compare=False)

    @property
    def scene_id(self) -> str:
        """Content fingerprint of what is edited: a field fitted for one sample serves all of the same id."""
        return self.scene.id

    @property
    def box(self) -> NDArray[np.floating[Any]]:
        """[2, 3] lowest and highest corner of the room that the object and any edit of it may fill."""
        return self.scene.box

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the object's file is not shown, a line each."""
        # Only files of models have something to say; sources of other makers know no such thing.
        return getattr(self.scene, "notes", ())

    def prompts(self, side: str) -> tuple[str, str]:
        """Source and target prompt as they describe one of `SIDES`."""
        return self.side_prompts[side]

    def prompt_pairs(self) -> list[tuple[str, str]]:
        """See `Sample.prompt_pairs`: those of all sides."""
        return list(dict.fromkeys(self.prompts(side) for side in SIDES))

    @property
    def has_counterfactual(self) -> bool:
        """See `Sample.has_counterfactual`."""
        return self.counterfactual is not None

    def load_views(self) -> Shots:
        """The source's views to fit a field to.

        Raises:
            DataError: a file is missing or damaged.
        """
        return self.scene.fit_views()

    def load_turntable(self) -> Shots:
        """The source's views to judge by.

        Raises:
            DataError: a file is missing or damaged.
        """
        return self.scene.turntable()

    def load_counterfactual(self) -> Shots | None:
        """The counterfactual from the turntable's cameras, in the source's place.

        Raises:
            DataError: a file is missing or damaged.
        """
        if self.counterfactual is None:
            return None
        return Shots(self.counterfactual(), self.scene.turntable().backgrounds)

    def load_region(self) -> EditRegion | None:
        """The part of space that the edit is to keep to, or None.

        Raises:
            DataError: a file is missing or damaged.
        """
        return None if self.region is None else self.region()

    def load_backdrops(self) -> Pixels:
        """What the turntable's views are judged before, uint8 [2, V, H, W, 3]; see `unseen`.

        Raises:
            DataError: a file is missing or damaged.
        """
        return unseen(self.scene.turntable().backgrounds, self.scene.places())

    def load_source(self) -> Image.Image:
        """The turntable's first view of the source."""
        return Image.fromarray(self.load_turntable().composite()[0])

    def load_reference(self) -> Image.Image | None:
        """The turntable's first view of the counterfactual."""
        shots = self.load_counterfactual()
        return None if shots is None else Image.fromarray(shots.composite()[0])

    def load_mask(self) -> NDArray[np.bool_] | None:
        """None: the edit region of a scene is a part of space, see `load_region`."""
        return None

    def parts(self) -> tuple[Callable[[], object], ...]:
        """What loads each of the sample's parts; nothing is fitted for it."""
        if self.scene.rendered:
            return (self.load_views,)
        return self.load_views, self.load_turntable, self.load_counterfactual, self.load_region
