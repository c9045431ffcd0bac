"""A contact sheet: a row of pictures per sample, to look at before believing any number."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from piva_bench.data.sample import Sample
from piva_bench.errors import DataError
from piva_bench.metrics.protocol import Pixels
from piva_bench.report.look import edit_look, reference_look, source_look
from piva_bench.report.results import variants_in_order
from piva_bench.text import printable

CELL = 128
"""Smallest side of a picture on the sheet; smaller ones are enlarged without smoothing."""
GAP, MARGIN, TEXT, HEAD = 6, 12, 12, 13
INK, FAINT, CHANGED, PAPER, FAILED = "#1a1a1a", "#6b6b6b", "#b3261e", "white", "#eeeeee"
MAX_ROWS = MAX_COLUMNS = 24
JOINTS = "=_,;:/-"

UNDRAWN = "Boxes stand for characters that this picture's font lacks; the page shows them."

_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@dataclass(frozen=True)
class SheetRow:
    """One sample of a sheet.

    Attributes:
        title: sample and edit type.
        source_prompt: shown above the pictures, the words that the target prompt drops in colour.
        target_prompt: shown below it, the words that the source prompt lacks in colour.
        cells: a picture, uint8 [H, W, 3], or the reason why there is none, for each column.
    """

    title: str
    source_prompt: str
    target_prompt: str
    cells: Sequence[Pixels | str]


def changed_words(source: str, target: str) -> list[tuple[str, bool]]:
    """The second prompt's words, and for each whether the first prompt lacks it at that place."""
    before, after = source.split(), target.split()
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    kept = {i for block in matcher.get_matching_blocks() for i in range(block.b, block.b + block.size)}
    return [(word, i not in kept) for i, word in enumerate(after)]


def contact_sheet(title: Sequence[str], columns: Sequence[str], rows: Sequence[SheetRow]) -> Image.Image:
    """Draw a sheet.

    Args:
        title: lines at the top; what the pictures stand on.
        columns: a name for each column of pictures.
        rows: samples; each has as many cells as there are columns.
    """
    side = max([CELL, *(_enlarged(cell) for row in rows for cell in row.cells if not isinstance(cell, str))])
    width = 2 * MARGIN + len(columns) * side + (len(columns) - 1) * GAP
    width = max(width, 480)
    font, bold = (
        ImageFont.truetype(_FONTS / name, TEXT) for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
    )
    inner = width - 2 * MARGIN

    def prompts(row: SheetRow) -> list[list[tuple[str, str]]]:
        dropped = changed_words(row.target_prompt, row.source_prompt)
        added = changed_words(row.source_prompt, row.target_prompt)
        source = _wrap([(word, CHANGED if gone else FAINT) for word, gone in dropped], font, inner)
        return source + _wrap([(word, CHANGED if new else INK) for word, new in added], font, inner)

    line = TEXT + 4
    if _lacks_glyphs(
        "".join(text for row in rows for text in (row.title, row.source_prompt, row.target_prompt))
    ):
        title = [*title, UNDRAWN]
    top = [piece for text in title for piece in _wrap([(word, INK) for word in text.split()], font, inner)]
    captions = [prompts(row) for row in rows]
    labels = [_wrap([(word, INK) for word in name.split()], bold, side) for name in columns]
    label_height = line * max([1, *map(len, labels)])
    height = 2 * MARGIN + line * len(top) + GAP + label_height
    height += sum(line * (1 + len(caption)) + side + 3 * GAP for caption in captions)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = _write(draw, top, MARGIN, MARGIN, font) + GAP
    for i, label in enumerate(labels):
        _write(draw, label, MARGIN + i * (side + GAP), y, bold)
    y += label_height
    for row, caption in zip(rows, captions, strict=True):
        y = _write(draw, [[(printable(row.title), FAINT)]], MARGIN, y + GAP, bold)
        y = _write(draw, caption, MARGIN, y, font) + GAP
        for i, cell in enumerate(row.cells):
            _paste(sheet, draw, cell, (MARGIN + i * (side + GAP), y), side, font)
        y += side + GAP
    return sheet


def sheet_of_run(
    results: pd.DataFrame,
    samples: Mapping[str, Sample],
    images: Path,
    title: Sequence[str],
    limit: int = MAX_ROWS,
) -> Image.Image:
    """The sheet of a run: source, variants, counterfactual; samples spread over the edit types.

    Of more than `MAX_COLUMNS` variants so many are shown, evenly spaced in their order. The unchanged source and the
    counterfactual as methods are left out: they have columns already. Of several seeds the first is shown.

    Args:
        results: from `load_results`.
        samples: the dataset's samples by id.
        images: folder of the edits' pictures, ``<key>.png``.
        title: lines at the top.
        limit: most rows there may be.
    """
    first = results[results["seed"] == results["seed"].min()]
    shown = first[~first["method"].isin(["identity", "counterfactual"])]
    variants = [variant for _, variant in variants_in_order(shown)]
    if len(variants) > MAX_COLUMNS:
        title = [*title, f"{MAX_COLUMNS} of {len(variants)} settings; the gallery has all of them"]
        variants = [variants[round(i)] for i in np.linspace(0, len(variants) - 1, MAX_COLUMNS)]
    rows = []
    with_reference = any(samples[i].reference_path for i in first["sample_id"].unique() if i in samples)
    for sample_id in spread(first.drop_duplicates("sample_id"), limit):
        if sample_id not in samples:
            continue
        sample = samples[sample_id]
        of_sample = shown[shown["sample_id"] == sample_id].set_index("variant")
        cells = [_of_dataset(source_look, sample)]
        cells += [_edit(of_sample, variant, images, sample) for variant in variants]
        if with_reference:
            cells.append(_of_dataset(reference_look, sample))
        text = f"{sample_id} · {sample.edit_type}"
        rows.append(SheetRow(text, sample.source_prompt, sample.target_prompt, cells))
    return contact_sheet(title, ["source", *variants, *["counterfactual"][: int(with_reference)]], rows)


def spread(samples: pd.DataFrame, limit: int) -> list[str]:
    """At most ``limit`` sample ids, taken in turn from the edit types, in the order of types and ids."""
    turns = samples.sort_values("sample_id").groupby("edit_type").cumcount()
    chosen = samples.assign(turn=turns).sort_values(["turn", "edit_type"]).head(limit)
    return list(chosen.sort_values(["edit_type", "sample_id"])["sample_id"])


def _of_dataset(look: Callable[[Sample], Image.Image | None], sample: Sample) -> Pixels | str:
    try:
        picture = look(sample)
    except DataError as error:
        return str(error)
    return "no counterfactual" if picture is None else np.asarray(picture)


def _edit(of_sample: pd.DataFrame, variant: str, images: Path, sample: Sample) -> Pixels | str:
    if variant not in of_sample.index:
        return "not run"
    record = of_sample.loc[variant]
    if record["status"] == "failed":
        return f"failed: {record['reason']}"
    try:
        return np.asarray(edit_look(sample, images / f"{record['key']}.png"))
    except DataError:
        return "picture missing or torn"


def _enlarged(picture: Pixels) -> int:
    """Side of a picture on the sheet: the smallest whole multiple that reaches `CELL`."""
    side = max(picture.shape[:2])
    return side * -(-CELL // side)


Line = list[tuple[str, str]]
"""Words of one line with their colours."""


def _lacks_glyphs(text: str) -> bool:
    """Whether the sheet's font has no picture of some character, as of Chinese or an emoji."""
    known = FT2Font(str(_FONTS / "DejaVuSans.ttf")).get_charmap()
    return any(
        ord(character) not in known
        for character in text
        if not character.isspace() and character.isprintable()
    )


def _wrap(words: Line, font: ImageFont.FreeTypeFont, width: int) -> list[Line]:
    """Break words into lines of at most ``width`` pixels; a word that is longer itself is cut."""
    lines: list[Line] = []
    used = 0.0
    space = font.getlength(" ")
    pieces = [(piece, ink) for word, ink in words for piece in _cut(word, font, width)]
    for word, ink in pieces:
        length = font.getlength(word)
        if not lines or used + space + length > width:
            lines.append([])
            used = -space
        lines[-1].append((word, ink))
        used += space + length
    return lines


def _cut(word: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """A word in pieces that fit the width: cut behind a joint if it has one, and else where it must be."""
    word = printable(word)
    pieces = []
    while font.getlength(word) > width and len(word) > 1:
        fit = max(1, next(i for i in range(len(word), 0, -1) if i == 1 or font.getlength(word[:i]) <= width))
        # A number that is cut reads as two.
        fit = next((i for i in range(fit, 0, -1) if word[i - 1] in JOINTS), fit)
        pieces.append(word[:fit])
        word = word[fit:]
    return [*pieces, word] if word else pieces


def _write(
    draw: ImageDraw.ImageDraw, lines: Sequence[Line], x: float, y: int, font: ImageFont.FreeTypeFont
) -> int:
    """Write lines downwards from (x, y); returns where the next one would begin."""
    for words in lines:
        place = x
        for word, ink in words:
            draw.text((place, y), word, fill=ink, font=font)
            place += font.getlength(word + " ")
        y += TEXT + 4
    return y


def _paste(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    cell: Pixels | str,
    place: tuple[int, int],
    side: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    """Put a picture, enlarged by a whole factor, or a reason at its place."""
    x, y = place
    if isinstance(cell, str):
        draw.rectangle((x, y, x + side - 1, y + side - 1), fill=FAILED)
        lines = _wrap([(word, FAINT) for word in cell.split()], font, side - 2 * GAP)
        _write(draw, lines[: (side - 2 * GAP) // (TEXT + 4)], x + GAP, y + GAP, font)
        return
    factor = _enlarged(cell) // max(cell.shape[:2])
    picture = Image.fromarray(cell)
    size = (picture.width * factor, picture.height * factor)
    sheet.paste(picture.resize(size, Image.Resampling.NEAREST), place)
