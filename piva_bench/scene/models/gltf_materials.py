"""What glTF surfaces look like: base colour and glow, with their textures (section 3.9 and its extensions)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from piva_bench.errors import DataError
from piva_bench.scene.models.gltf_file import Document, Tree
from piva_bench.scene.models.gltf_parts import Attributes
from piva_bench.scene.models.surface import PLAIN, Floats, Layer, Rgba, Surface, Texture, display_factor
from piva_bench.scene.models.textures import decode_picture, mirrored

SPECULAR_GLOSSINESS = "KHR_materials_pbrSpecularGlossiness"
SOURCES = ("EXT_texture_webp", "EXT_texture_avif", "MSFT_texture_dds", "KHR_texture_basisu")
"""Extensions that name a texture's picture in a format beyond PNG and JPEG."""
TRANSFORM = "KHR_texture_transform"
CLAMP, MIRROR, NEAREST = 33071, 33648, 9728
MAPS = {
    "normalTexture": "normal maps",
    "occlusionTexture": "occlusion maps",
    "metallicRoughnessTexture": "metalness and roughness maps",
    "specularGlossinessTexture": "gloss maps",
}
READ = {"KHR_materials_unlit", "KHR_materials_emissive_strength", SPECULAR_GLOSSINESS}
"""Extensions of materials that change what is shown."""


@dataclass
class Materials:
    """The materials of a file; pictures are decoded once."""

    doc: Document
    _pictures: dict[int, NDArray[np.uint8] | str] = field(default_factory=dict)

    def dress(self, primitive: Tree, part: Attributes, positions: Floats, normals: Floats) -> Surface:
        """A primitive's triangles with their colours."""
        named = primitive.get("material")
        material = {} if named is None else self.doc.item("materials", named)
        tints = _tints(part)
        self._note_unshown(material, part)
        extensions = material.get("extensions", {})
        base = self._base(material, part)
        strength = extensions.get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0)
        glow = self._glow(material, part, float(strength))
        coloured = named is not None or tints is not None
        if not coloured:
            base = replace(base, factor=display_factor(PLAIN, PLAIN, PLAIN))
        return Surface(
            positions, normals, base, glow, tints,
            alpha={"MASK": "mask", "BLEND": "blend"}.get(material.get("alphaMode", ""), "opaque"),
            cutoff=float(material.get("alphaCutoff", 0.5)),
            lit="KHR_materials_unlit" not in extensions,
            coloured=coloured,
        )  # fmt: skip

    def _base(self, material: Tree, part: Attributes) -> Layer:
        gloss = material.get("extensions", {}).get(SPECULAR_GLOSSINESS)
        if gloss is not None:
            if gloss.get("specularFactor", [1, 1, 1]) != [1, 1, 1] and not any(
                gloss.get("diffuseFactor", [1, 1, 1])[:3]
            ):
                self.doc.notes.not_shown("specular colours")
            return self._layer(gloss.get("diffuseTexture"), _rgba(gloss.get("diffuseFactor", [1] * 4)), part)
        pbr = material.get("pbrMetallicRoughness", {})
        return self._layer(pbr.get("baseColorTexture"), _rgba(pbr.get("baseColorFactor", [1] * 4)), part)

    def _glow(self, material: Tree, part: Attributes, strength: float) -> Layer | None:
        red, green, blue = (strength * float(each) for each in material.get("emissiveFactor", [0, 0, 0]))
        if not max(red, green, blue) > 0:
            return None
        layer = self._layer(material.get("emissiveTexture"), (red, green, blue, 1.0), part)
        # A lamp whose picture is not there must not shine in full.
        return None if "emissiveTexture" in material and layer.texture is None else layer

    def _layer(self, info: Tree | None, factor: Rgba, part: Attributes) -> Layer:
        if info is None:
            return Layer(factor)
        transform = info.get("extensions", {}).get(TRANSFORM, {})
        number = transform.get("texCoord", info.get("texCoord", 0))
        uv = part.at_corners(f"TEXCOORD_{number}")
        texture = self.doc.item("textures", info["index"])
        if uv is None:
            self.doc.notes.say(f"texture {info['index']} is not shown: the part lacks TEXCOORD_{number}")
            return Layer(factor)
        pixels = self._picture(info["index"], texture)
        if pixels is None:
            return Layer(factor)
        if transform:
            uv = _transformed(uv, transform)
        sampler = self.doc.item("samplers", texture["sampler"]) if "sampler" in texture else {}
        wraps = sampler.get("wrapS", 0), sampler.get("wrapT", 0)
        laid = Texture(pixels, (wraps[0] != CLAMP, wraps[1] != CLAMP), sampler.get("magFilter") != NEAREST)
        laid, uv = mirrored(laid, uv, (wraps[0] == MIRROR, wraps[1] == MIRROR))
        return Layer(factor, laid, uv)

    def _picture(self, number: int, texture: Tree) -> NDArray[np.uint8] | None:
        """A texture's pixels: of the first of its pictures that can be read; None, noted, if none can."""
        faults = []
        for source in _sources(texture):
            if source not in self._pictures:
                self._pictures[source] = self._decode(source)
            if not isinstance(found := self._pictures[source], str):
                return found
            faults.append(found)
        reason = faults[0] if faults else "it names no picture"
        self.doc.notes.say(f"texture {number} is not shown: {reason}")
        return None

    def _decode(self, source: int) -> NDArray[np.uint8] | str:
        image = self.doc.item("images", source)
        try:
            if "uri" in image:
                return decode_picture(self.doc.uri(image["uri"]))
            return decode_picture(self.doc.view(image["bufferView"])[0])
        except (DataError, OSError, KeyError) as error:
            return str(error) if isinstance(error, DataError) else "its picture cannot be read"

    def _note_unshown(self, material: Tree, part: Attributes) -> None:
        notes = self.doc.notes
        extensions = material.get("extensions", {})
        gloss = extensions.get(SPECULAR_GLOSSINESS, {})
        for holder in (material, material.get("pbrMetallicRoughness", {}), gloss):
            for name, words in MAPS.items():
                if name in holder:
                    notes.not_shown(words)
        for name in extensions:
            if name not in READ:
                notes.not_shown(name)
        for name in part.values:
            if name.startswith("_") or (name.startswith("COLOR_") and name != "COLOR_0"):
                notes.not_shown(f"the attribute {name}")


def _sources(texture: Tree) -> Iterator[int]:
    extensions = texture.get("extensions", {})
    for name in SOURCES:
        if "source" in extensions.get(name, {}):
            yield extensions[name]["source"]
    if "source" in texture:
        yield texture["source"]


def _transformed(uv: Floats, transform: Tree) -> Floats:
    """KHR_texture_transform: scaled, turned, moved."""
    turn = float(transform.get("rotation", 0.0))
    cos, sin = np.cos(turn), np.sin(turn)
    scaled = uv * np.asarray(transform.get("scale", [1, 1]), np.float64)
    turned = np.stack(
        [cos * scaled[:, 0] + sin * scaled[:, 1], cos * scaled[:, 1] - sin * scaled[:, 0]], axis=1
    )
    return turned + np.asarray(transform.get("offset", [0, 0]), np.float64)


def _tints(part: Attributes) -> Floats | None:
    colours = part.at_corners("COLOR_0")
    if colours is None:
        return None
    opaque = np.ones((len(colours), 4))
    opaque[:, : colours.shape[1]] = colours
    return opaque


def _rgba(factor: Any) -> Rgba:
    red, green, blue, alpha = map(float, factor)
    return red, green, blue, alpha
