"""The options that ``run`` and ``sweep`` share: one list of them, added to both commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any, get_type_hints

import typer

from piva_bench.cli import options, values

if TYPE_CHECKING:
    from piva_bench.runs.request import RunRequest
    from piva_bench.runs.shard import Shard


@dataclass
class RunOptions:
    """As typed by the user."""

    dataset: options.Dataset = "pie"
    profile: options.ProfileName = "embedded"
    limit: options.Limit = None
    sample: options.SampleIds = None
    seed: options.Seed = None
    snapshots: options.Snapshots = None
    mask_blend: options.MaskBlend = None
    no_reference: options.NoReference = False
    shard: options.Shard = None
    device: options.Device = "auto"
    dtype: options.Precision = options.Dtype.float32
    workers: options.Workers = "auto"
    batch_size: options.BatchSize = "auto"
    executor: options.ExecutorName = options.Executor.local
    ray_address: options.RayAddress = None
    timeout: options.Timeout = None
    max_hours: options.MaxHours = None
    compile: options.Compile = False
    channels_last: options.ChannelsLast = False
    overwrite: options.Overwrite = False
    keep_fields: options.KeepFields = False
    dry_run: options.DryRun = False
    fail_above: options.FailAbove = 0.0
    output_dir: options.OutputDir = None
    model: options.Model = None
    data_root: options.DataRoot = None
    evaluators: options.Evaluators = None
    config: options.Config = None

    def request(self, methods: list[str], params: Mapping[str, Any]) -> RunRequest:
        """What is asked for.

        Raises:
            UserError: an option that cannot be read.
        """
        local = self.executor is options.Executor.local
        if local and self.workers != "1" and self.device in ("auto", "cpu") and not self.dry_run:
            from piva_bench.runs.processes import warm_up

            warm_up()
        from piva_bench.runs.request import RunRequest

        folder, address = values.place_of(self.output_dir)
        return RunRequest(
            methods=tuple(methods),
            dataset=self.dataset,
            profile=self.profile,
            params=dict(params),
            samples=tuple(values.split(self.sample or [])),
            limit=self.limit,
            seeds=tuple(values.parse_seeds(self.seed or ["0"])),
            snapshots=tuple(values.parse_numbers("--snapshots", self.snapshots or "")),
            model=self.model,
            data_root=self.data_root,
            output_dir=folder,
            address=address,
            overwrite=self.overwrite,
            device=self.device,
            dtype=self.dtype.value,
            workers=values.parse_count("--workers", self.workers),
            batch_size=values.parse_count("--batch-size", self.batch_size),
            executor=self.executor.value,
            ray_address=self.ray_address,
            timeout=values.positive("--timeout", self.timeout),
            max_hours=values.positive("--max-hours", self.max_hours),
            compile=self.compile,
            channels_last=self.channels_last,
            keep_fields=self.keep_fields,
            shard=_shard(self.shard),
            references=not self.no_reference,
            mask_blend=self.mask_blend.value if self.mask_blend else None,
        )


def _shard(given: str | None) -> Shard | None:
    """The share that was asked for, else the one a scheduler gives this process, which is said."""
    import os

    from piva_bench.runs.shard import parse_shard, shard_of

    if given is not None:
        shard = parse_shard(given)
        return shard if shard.count > 1 else None
    found = shard_of(os.environ)
    if found is None:
        return None
    shard, source = found
    typer.echo(f"shard {shard}, as {source} say; --shard 0/1 makes all of the run here", err=True)
    return shard


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the shared options to a command; it gets them as ``common``."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "common"]
    hints = get_type_hints(RunOptions, include_extras=True)
    shared = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.default is MISSING else one.default,
            annotation=hints[one.name],
        )
        for one in fields(RunOptions)
    ]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]

    @wraps(command)
    def wrapper(**given: Any) -> None:
        common = RunOptions(**{one.name: given.pop(one.name) for one in fields(RunOptions)})
        command(**given, common=common)

    vars(wrapper).pop("__wrapped__")
    parameters = [*own, *shared]
    vars(wrapper)["__signature__"] = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper
