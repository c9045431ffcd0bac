"""``piva-bench models``: which published models are on this machine, and fetching them."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    help="Published models and evaluators: where they are, and fetching them.", no_args_is_help=True
)


@app.command("list")
def list_models() -> None:
    """List what the paper profile and its protocols need, and where each lies on this machine."""
    from piva_bench.diffusion import aliases
    from piva_bench.errors import ModelError
    from piva_bench.fetch import fetchable
    from piva_bench.metrics import evaluators

    for name, origin in fetchable().items():
        try:
            alias = aliases.PUBLISHED.get(name)
            place = str(aliases.locate(alias) if alias else evaluators.locate(name))
        except ModelError:
            place = "not on this machine"
        typer.echo(f"{name:17} {place}\n{'':17} from {origin}")


@app.command()
def fetch(
    names: Annotated[
        list[str], typer.Argument(help="Names from `piva-bench models list`, for instance sd-1.5.")
    ],
) -> None:
    """Download models into the caches where they are looked for. Nothing else in this program downloads them."""
    from piva_bench.fetch import fetch as fetch_one

    for name in names:
        typer.echo(f"{name}: {fetch_one(name)}")
