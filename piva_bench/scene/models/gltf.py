"""glTF 2.0: the scene's nodes, instances, skins, and which extensions a file may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from piva_bench.errors import DataError
from piva_bench.scene.models.geometry import creased_normals, whole_normals
from piva_bench.scene.models.gltf_accessors import read_floats
from piva_bench.scene.models.gltf_file import Document, Tree, open_gltf
from piva_bench.scene.models.gltf_materials import Materials
from piva_bench.scene.models.gltf_parts import Attributes, read_primitive
from piva_bench.scene.models.surface import Floats, Notes, Surface

INSTANCING = "EXT_mesh_gpu_instancing"
READ = {
    "KHR_draco_mesh_compression", "KHR_mesh_quantization", "EXT_meshopt_compression", "KHR_meshopt_compression",
    INSTANCING, "EXT_texture_webp", "EXT_texture_avif", "MSFT_texture_dds", "KHR_texture_transform",
    "KHR_materials_unlit", "KHR_materials_emissive_strength", "KHR_materials_pbrSpecularGlossiness",
    "KHR_node_visibility",
}  # fmt: skip
BESIDE = {
    "KHR_lights_punctual", "EXT_lights_image_based", "EXT_lights_ies", "KHR_materials_variants", "KHR_xmp",
    "KHR_xmp_json_ld", "KHR_animation_pointer", "KHR_node_selectability", "KHR_node_hoverability",
    "KHR_interactivity", "KHR_audio", "KHR_audio_emitter", "KHR_physics_rigid_bodies", "KHR_implicit_shapes",
    "OMI_collider", "OMI_physics_body", "OMI_physics_shape", "EXT_structural_metadata", "EXT_mesh_features",
    "EXT_instance_features", "MSFT_lod", "AGI_articulations", "VRM", "VRMC_vrm", "VRMC_springBone",
    "VRMC_node_constraint", "CESIUM_RTC",
}  # fmt: skip
"""Extensions that change nothing of what is shown here: lights are the rig's, nothing moves."""


def read_gltf(path: Path) -> tuple[list[Surface], Notes]:
    """The triangles of a file's scene, in its frame, and what is not shown of it.

    Raises:
        DataError: it is malformed, or asks for what is not read; in one line.
    """
    doc = open_gltf(path)
    unknown = [name for name in doc.required if name not in READ | BESIDE]
    if unknown:
        cure = "export it without"
        if "KHR_texture_basisu" in unknown:
            cure = "export it with PNG, JPEG or WebP textures, or convert it (gltf-transform png)"
        raise DataError(f"it requires {', '.join(unknown)}, which is not read: {cure}")
    _note_beside(doc)
    scene = _Scene(doc)
    surfaces = [surface for node in _roots(doc) for surface in scene.surfaces(node, np.eye(4), ())]
    if not surfaces:
        seen = ", ".join(doc.notes.unshown)
        raise DataError("it holds no triangle" + (f" (but {seen})" if seen else ""))
    return surfaces, doc.notes


def _note_beside(doc: Document) -> None:
    if doc.tree.get("animations"):
        doc.notes.not_shown("animations")
    if (count := len(doc.tree.get("scenes", ()))) > 1:
        doc.notes.say(f"{count} scenes: only the one that the file shows first is read")
    extensions = doc.tree.get("extensions", {})
    if variants := extensions.get("KHR_materials_variants", {}).get("variants"):
        names = ", ".join(str(each.get("name", "?")) for each in variants[:6])
        doc.notes.say(
            f"{len(variants)} variants of its materials ({names}): only its own materials are shown"
        )
    if extensions.get("KHR_lights_punctual", {}).get("lights"):
        doc.notes.not_shown("its lights")


def _roots(doc: Document) -> list[int]:
    nodes = doc.tree.get("nodes", [])
    if doc.tree.get("scenes"):
        return list(doc.item("scenes", doc.tree.get("scene", 0)).get("nodes", []))
    children = {child for node in nodes for child in node.get("children", ())}
    return [index for index in range(len(nodes)) if index not in children]


@dataclass
class _Scene:
    """The nodes of a file, and how they stand."""

    doc: Document

    @cached_property
    def materials(self) -> Materials:
        """Of all its parts."""
        return Materials(self.doc)

    @cached_property
    def worlds(self) -> list[Floats]:
        """Where each node stands in the scene, [4, 4]; nodes know their children alone."""
        nodes = self.doc.tree.get("nodes", [])
        parents = {child: parent for parent, node in enumerate(nodes) for child in node.get("children", ())}
        worlds: list[Floats] = []
        for index in range(len(nodes)):
            way = [index]
            while (parent := parents.get(way[-1])) is not None:
                if parent in way:
                    raise DataError("it is damaged: its nodes are their own parents")
                way.append(parent)
            world = np.eye(4)
            for node in reversed(way):
                world = world @ local_matrix(self.doc.item("nodes", node))
            worlds.append(world)
        return worlds

    def surfaces(self, index: int, world: Floats, above: tuple[int, ...]) -> Iterator[Surface]:
        """The triangles of a node and all below it."""
        if index in above:
            raise DataError("it is damaged: its nodes are their own parents")
        node = self.doc.item("nodes", index)
        extensions = node.get("extensions", {})
        if not extensions.get("KHR_node_visibility", {}).get("visible", True):
            self.doc.notes.not_shown("nodes that the file hides")
            return
        here = world @ local_matrix(node)
        if "mesh" in node:
            yield from self._mesh(node, here)
        for child in node.get("children", ()):
            yield from self.surfaces(child, here, (*above, index))

    def _mesh(self, node: Tree, here: Floats) -> Iterator[Surface]:
        mesh = self.doc.item("meshes", node["mesh"])
        weights: Any = node.get("weights", mesh.get("weights", []))
        places = [here @ instance for instance in self._instances(node)]
        for primitive in mesh.get("primitives", ()):
            part = read_primitive(self.doc, primitive, weights)
            if part is None or not len(part.corners):
                continue
            for name in primitive.get("extensions", {}):
                if name not in READ | BESIDE:
                    self.doc.notes.not_shown(name)
            positions, normals = part.values["POSITION"], part.values.get("NORMAL")
            moves: list[Floats] = [np.broadcast_to(place, (len(positions), 4, 4)) for place in places]
            if "skin" in node:
                moves = [self._skinned(node["skin"], part)]
            for move in moves:
                yield self._surface(primitive, part, positions, normals, move)

    def _surface(
        self, primitive: Tree, part: Attributes, positions: Floats, normals: Floats | None, move: Floats
    ) -> Surface:
        """A primitive's triangles, each vertex moved by its own matrix [V, 4, 4]."""
        moved = np.einsum("nij,nj->ni", move[:, :3, :3], positions) + move[:, :3, 3]
        corners = moved[part.corners]
        if normals is None:
            turned = creased_normals(corners) if np.isfinite(corners).all() else np.zeros_like(corners)
        else:
            # The matrix of cofactors turns normals as its matrix turns points, for singular ones too.
            linear = move[:, :3, :3]
            cofactors = np.stack(
                [np.cross(linear[:, (row + 1) % 3], linear[:, (row + 2) % 3]) for row in range(3)], axis=1
            )
            turned = whole_normals(np.einsum("nij,nj->ni", cofactors, normals)[part.corners], corners)
        return self.materials.dress(primitive, part, corners, turned)

    def _instances(self, node: Tree) -> list[Floats]:
        """EXT_mesh_gpu_instancing: a matrix for each copy."""
        wanted = node.get("extensions", {}).get(INSTANCING, {}).get("attributes")
        if not wanted:
            return [np.eye(4)]
        given = {name: read_floats(self.doc, index) for name, index in wanted.items()}
        if any(name.startswith("_COLOR") for name in given):
            self.doc.notes.not_shown("colours of instances")
        known = {name: given[name] for name in ("TRANSLATION", "ROTATION", "SCALE") if name in given}
        count = min((len(values) for values in given.values()), default=1)
        copies = []
        for number in range(count):
            entry = {name.lower(): values[number].tolist() for name, values in known.items()}
            copies.append(local_matrix(entry))
        return copies

    def _skinned(self, index: int, part: Attributes) -> Floats:
        """The matrix of each vertex, [V, 4, 4], by the joints it hangs on (section 3.7.3)."""
        skin = self.doc.item("skins", index)
        joints = [self.worlds[joint] for joint in skin["joints"] if 0 <= joint < len(self.worlds)]
        if not joints or len(joints) != len(skin["joints"]):
            raise DataError("it is damaged: a skin names joints that are not there")
        matrices = np.stack(joints)
        if "inverseBindMatrices" in skin:
            bind = read_floats(self.doc, skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
            if len(bind) < len(matrices):
                raise DataError("it is damaged: a skin has fewer matrices than joints")
            matrices = matrices @ bind[: len(matrices)]
        count = len(part.values["POSITION"])
        total, share = np.zeros((count, 4, 4)), np.zeros(count)
        number = 0
        while f"JOINTS_{number}" in part.values and f"WEIGHTS_{number}" in part.values:
            which = part.values[f"JOINTS_{number}"].astype(np.int64)
            weight = part.values[f"WEIGHTS_{number}"]
            if which.max(initial=0) >= len(matrices):
                raise DataError("it is damaged: vertices hang on joints that are not there")
            for column in range(min(which.shape[1], weight.shape[1])):
                total += weight[:, column, None, None] * matrices[which[:, column]]
                share += weight[:, column]
            number += 1
        if number == 0:
            raise DataError("it is damaged: a part has a skin and no JOINTS_0 and WEIGHTS_0")
        loose = share <= 0  # vertices that hang on nothing follow the first joint
        total[loose], share[loose] = matrices[0], 1
        return total / share[:, None, None]


def local_matrix(node: Tree) -> Floats:
    """A node's own matrix, [4, 4]: stated, or of translation, rotation (x, y, z, w) and scale."""
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    matrix[:3, :3] = _rotation(node.get("rotation", [0, 0, 0, 1])) * np.asarray(
        node.get("scale", [1, 1, 1]), np.float64
    )
    matrix[:3, 3] = node.get("translation", [0, 0, 0])
    return matrix


def _rotation(quaternion: Any) -> Floats:
    values = np.asarray(quaternion, np.float64)
    length = np.linalg.norm(values)
    if not length > 0:
        return np.eye(3)
    x, y, z, w = values / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
