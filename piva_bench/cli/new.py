"""``piva-bench new``: a file to start a plug-in from."""

from __future__ import annotations

import keyword
import re
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from piva_bench.errors import UserError
from piva_bench.registry import METHODS

app = typer.Typer(help="Write a file to start a plug-in from.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def method(
    name: Annotated[str, typer.Argument(help="Its name, for example my_method.")],
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path(),
) -> None:
    """Write NAME.py, a distillation rule that works, and test_NAME.py, which checks it."""
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"'{name}' is no name for a method: begin with a letter and use small letters, digits and _, as in "
            "my_method."
        )
    if name in METHODS.names():
        raise UserError(f"There is a method {name} already: choose another name.")
    words = {"NAME": name, "CLASS": "".join(word.capitalize() for word in name.split("_"))}
    templates = resources.files("piva_bench") / "cli" / "templates"
    for template, target in (("method.py.txt", f"{name}.py"), ("test_method.py.txt", f"test_{name}.py")):
        path = folder / target
        if path.exists():
            raise UserError(f"{path} is there already: choose another name or --folder.")
        text = (templates / template).read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(f"%{word}%", value)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error
        typer.echo(f"wrote {path}")
    typer.echo(f"try it:    piva-bench run --method {folder / name}.py:{words['CLASS']} --limit 4")
    typer.echo(f"check it:  piva-bench check method {folder / name}.py:{words['CLASS']}")
