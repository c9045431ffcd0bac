"""Writing the gallery's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jinja2
import pandas as pd

from piva_bench.data.sample import Sample
from piva_bench.report.curves import to_png
from piva_bench.report.gallery.data import find_films, gallery_data, to_script
from piva_bench.report.gallery.pictures import (
    MOST_THUMBNAILS,
    SMALL,
    place,
    remove_others,
    write_edits,
    write_sample_pictures,
)
from piva_bench.report.html import front_page
from piva_bench.report.strength import Headline
from piva_bench.runs.inside import Warn, ignore, make_way, remove_file, write_own
from piva_bench.runs.store import Store

ASSETS = Path(__file__).parent / "assets"
FOLDERS = ("edits", "thumbs", "films", "samples")
SCRIPTS = ("model.js", "grid.js", "slider.js", "sample.js", "main.js")
"""Plain scripts, in this order: a page that is opened from disk may load no modules."""


def write_gallery(
    folder: Path,
    results: pd.DataFrame,
    samples: Mapping[str, Sample],
    output_dir: Path,
    warn: Warn = ignore,
    front: Headline | None = None,
) -> Path:
    """Write the gallery of a run; returns the page to open.

    Args:
        folder: where it goes; the whole of it can be moved or sent.
        results: from `load_results`.
        samples: the dataset's samples by id.
        output_dir: the run's directory, for its pictures.
        warn: told about pictures that are torn and left out.
        front: the figure and table that the page begins with.

    Raises:
        DataError: the frame mixes set-ups.
        OSError: the files cannot be written.
    """
    resolution = int(results["resolution"].iloc[0])
    ids = sorted(results["sample_id"].unique())
    folder.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        make_way(folder, f"{name}/any", warn)
    pictures = write_sample_pictures(folder, samples, ids, resolution)
    done = results[results["status"] == "ok"]
    keys = list(done["key"])
    columns = zip(keys, done["image_sha"], done["sample_id"], strict=True)
    edits = [(key, sha, samples.get(sample)) for key, sha, sample in columns]
    thumbnails = resolution > SMALL and len(keys) <= MOST_THUMBNAILS
    write_edits(folder, Store(output_dir), edits, thumbnails, warn)
    films = find_films(output_dir, results["key"])
    for path in films.values():
        place(path, folder / "films" / path.name, path.read_bytes())
    remove_others(folder / "edits", (f"{key}.png" for key in keys))
    remove_others(folder / "thumbs", (f"{key}.jpg" for key in keys if thumbnails))
    remove_others(folder / "films", (path.name for path in films.values()))
    files = {name for of_sample in pictures.values() for name in of_sample.values()}
    remove_others(folder / "samples", (name.removeprefix("samples/") for name in files))
    data = gallery_data(
        results,
        samples,
        pictures,
        {key: f"films/{path.name}" for key, path in films.items()},
        thumbnails=thumbnails,
    )
    write_own(folder / "data.js", to_script(data).encode())
    for name in ("gallery.css", *SCRIPTS):
        write_own(folder / name, (ASSETS / name).read_bytes())
    template = (ASSETS / "index.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template).render(
        title=data["title"], scripts=SCRIPTS, front=front_page(front, "strength.png") if front else ""
    )
    if front:
        write_own(folder / "strength.png", to_png(front.figure()))
    else:
        remove_file(folder / "strength.png", warn)
    write_own(folder / "index.html", page.encode())
    return folder / "index.html"
