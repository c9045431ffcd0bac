"""The words of the studio world: everything a scene may hold, and how it is spoken of.

Each table maps the identifier used in scenes and records to its natural-English forms; the first form is the
plain one, the others are synonyms that captions draw from.
"""

from __future__ import annotations

OBJECTS: dict[str, tuple[str, ...]] = {
    "teddy_bear": ("teddy bear",),
    "chicken": ("chicken", "hen"),
    "horse": ("horse",),
    "cactus": ("cactus",),
    "cupcake": ("cupcake",),
    "forklift": ("forklift",),
    "biplane": ("biplane", "airplane"),
    "table": ("table", "round table"),
    "motorbike": ("motorbike", "motorcycle"),
    "rocking_horse": ("rocking horse",),
    "barrel": ("barrel",),
    "crate": ("crate",),
    "guitar": ("guitar", "electric guitar"),
    "piano": ("piano", "grand piano"),
    "mailbox": ("mailbox",),
    "armchair": ("armchair",),
    "cup": ("cup", "coffee cup"),
    "lantern": ("stone lantern",),
    "fire_extinguisher": ("fire extinguisher",),
    "wheelbarrow": ("wheelbarrow",),
    "toilet": ("toilet",),
    "lamp": ("lamp", "desk lamp"),
    "boots": ("pair of boots",),
    "handbag": ("handbag",),
    "ball": ("ball",),
    "cone": ("cone",),
    "ring": ("ring",),
}
"""24 textured CC0 models and three primitives (ball, cone, ring)."""

PRIMITIVES = ("ball", "cone", "ring")

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.06, 0.06),
    "yellow": (0.95, 0.78, 0.06),
    "green": (0.08, 0.55, 0.14),
    "blue": (0.08, 0.22, 0.85),
    "purple": (0.42, 0.10, 0.62),
    "pink": (1.00, 0.48, 0.68),
    "white": (0.95, 0.95, 0.95),
    "black": (0.045, 0.045, 0.05),
}
"""Paint colours as display RGB in [0, 1]. ``None`` in a scene means the model's own colours ("natural")."""

MATERIALS: dict[str, tuple[str, ...]] = {
    "plain": ("",),
    "wood": ("wooden",),
    "metal": ("metal", "metallic"),
    "marble": ("marble",),
}

PRINTS: dict[str, tuple[str, ...]] = {
    "none": ("",),
    "stripes": ("with stripes", "with a striped print"),
    "dots": ("with polka dots", "with a dotted print"),
    "checks": ("with checks", "with a checkered print"),
}

POSES: dict[str, tuple[str, ...]] = {
    "upright": ("",),
    "upside_down": ("turned upside down", "standing on its head"),
    "lying": ("lying on its side", "fallen on its side"),
}

FIXED_POSE: dict[str, tuple[str, ...]] = {
    "ball": ("upright",),
    "crate": ("upright",),
    "ring": ("upright",),
    "barrel": ("upright", "lying"),
}
"""Objects that look the same in some poses, with the poses that can be told apart."""

ACCESSORIES: dict[str, tuple[str, ...]] = {
    "none": ("",),
    "party_hat": ("wearing a party hat", "with a party hat on top"),
    "top_hat": ("wearing a top hat", "with a black top hat on top"),
    "balloon": ("with a balloon tied to it", "with a red balloon above it"),
}

SECONDS: dict[str, tuple[str, ...]] = {
    "none": ("",),
    "ball": ("ball",),
    "cube": ("cube", "box"),
    "cone": ("cone",),
}

FLOORS: dict[str, tuple[str, ...]] = {
    "wood": ("a wooden floor", "wooden planks"),
    "grass": ("grass", "a green lawn"),
    "sand": ("sand", "a sandy ground"),
    "tiles": ("checkered tiles", "a tiled floor"),
}

BACKDROPS: dict[str, tuple[str, ...]] = {
    "grey": ("a grey wall", "a plain grey backdrop"),
    "brick": ("a brick wall",),
    "sky": ("a blue sky", "a blue sky with clouds"),
    "sunset": ("a sunset", "an orange sunset"),
    "night": ("a night sky", "a starry night sky"),
}

STYLES: dict[str, tuple[str, ...]] = {
    "photo": ("a photo of", "a photograph of", "a picture of"),
    "sketch": ("a pencil sketch of", "a pencil drawing of"),
    "cartoon": ("a cartoon of", "a cartoon drawing of"),
    "sepia": ("a sepia photo of", "an old sepia photograph of"),
}

COLOURLESS = ("sketch", "sepia")
"""Styles that show neither colour nor, at this size, material: such pictures do not count for those heads."""

VIEWS: dict[str, tuple[str, ...]] = {
    "front": ("",),
    "side": ("seen from the side", "side view"),
    "back": ("seen from behind", "back view"),
}

HEADS: dict[str, tuple[str, ...]] = {
    "object": tuple(OBJECTS),
    "color": ("natural", *COLORS),
    "material": tuple(MATERIALS),
    "print": tuple(PRINTS),
    "pose": tuple(POSES),
    "accessory": tuple(ACCESSORIES),
    "second": tuple(SECONDS),
    "floor": tuple(FLOORS),
    "backdrop": tuple(BACKDROPS),
    "style": tuple(STYLES),
}
"""What an attribute classifier reads off a picture: head name to its classes, in order."""
