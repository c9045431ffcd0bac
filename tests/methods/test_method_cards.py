"""What every method that ships must say about itself."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import ValidationError

from methods.dds import DDS
from methods.piva import Piva
from piva_bench.method import EditMethod, MethodCard
from piva_bench.params import LatentParams
from piva_bench.registry import METHODS as REGISTRY

ROOT = Path(__file__).parents[2]
NAMES = REGISTRY.names()
METHODS = [import_module(f"methods.{name}") for name in NAMES]
METHODS = [
    value
    for module in METHODS
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, EditMethod) and value.__module__ == module.__name__
]


def test_each_module_is_the_method_of_its_name():
    assert {"dds", "piva", "identity"} <= set(NAMES)
    for method in METHODS:
        assert REGISTRY.load(method.card.name) is method


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_card_and_documented_bounded_defaults(method):
    assert isinstance(method.card, MethodCard)
    assert method.card.name == method.__module__.removeprefix("methods.")
    assert not method.card.uses_mask
    method.Params()
    schema = method.Params.model_json_schema()["properties"] if method.Params.model_fields else {}
    for name, field in schema.items():
        assert field["description"], name
        assert field["source"] in {"paper", "official code", "seed", "assumed"}, name
        if field["type"] in {"integer", "number"}:
            assert "maximum" in field, name
            assert "minimum" in field or "exclusiveMinimum" in field, name


def test_defaults_are_the_official_recipe():
    params, latents = DDS.Params(), DDS.kinds["pictures"]()
    assert params.model_dump() | latents.model_dump() == {
        "steps": 200,
        "learning_rate": 0.1,
        "loss_scale": 2000 / 4096,
        "guidance_scale": 7.5,
        "t_min": 50,
        "t_max": 948,
        "weighting": "uniform",
        "optimizer": "sgd",
    }
    # Piva shares it, so that the regulariser is the only difference.
    assert Piva.Params().without_preservation() == params


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"guidance_scale": float("inf")},
        {"t_min": 500, "t_max": 400},
        {"t_max": 1000},
        {"no_such_parameter": 1},
        {"preservation_weight": -1},
        {"combination": "mix", "preservation_weight": 1.5},
        {"psi_mode": "pretrained"},
        {"prompt_dropout": 2},
        {"lora_rank": 0},
    ],
)
def test_bad_parameters_are_refused(values):
    with pytest.raises(ValidationError):
        Piva.Params(**values)


@pytest.mark.parametrize(
    "values", [{"learning_rate": 0}, {"learning_rate": float("nan")}, {"optimizer": "lbfgs"}, {"steps": 3}]
)
def test_bad_parameters_of_latents_are_refused(values):
    with pytest.raises(ValidationError):
        LatentParams(**values)


def test_listing_methods_loads_nothing_heavy():
    code = (
        "import sys\n"
        + "".join(f"import methods.{name}\n" for name in NAMES)
        + "print(sorted({'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
