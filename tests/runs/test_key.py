import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piva_bench.key import canonical_json, content_key
from piva_bench.runs.record import Setup, unit_key

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3))

SETUP = {
    "profile": "p", "dataset": "d", "dataset_revision": "r", "model": "m", "model_fingerprint": "f",
    "resolution": 8, "dtype": "float32",
}  # fmt: skip
UNIT = {
    "method": "x", "method_version": "1", "method_source": None, "params": {"a": 0.1}, "sample_id": "s", "seed": 0,
}  # fmt: skip


@given(st.dictionaries(st.text(), values, max_size=5))
def test_key_is_the_same_after_a_round_trip_and_in_any_order(identity):
    shuffled = dict(reversed(json.loads(canonical_json(identity)).items()))
    assert content_key(shuffled) == content_key(identity)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_has_no_key(value):
    with pytest.raises(ValueError, match="JSON"):
        content_key({"a": value})


@pytest.mark.parametrize("field", sorted(set(SETUP) - {"model"}))
def test_every_part_of_the_setup_changes_the_key(field):
    other = {**SETUP, field: 16 if field == "resolution" else "other"}
    assert unit_key(Setup(**SETUP), **UNIT) != unit_key(Setup(**other), **UNIT)


OTHER = {
    "method": "y", "method_version": "2", "method_source": "h", "params": {"a": 0.2}, "sample_id": "t", "seed": 1,
}  # fmt: skip


@pytest.mark.parametrize("field", sorted(OTHER))
def test_every_part_of_the_unit_changes_the_key(field):
    assert unit_key(Setup(**SETUP), **UNIT) != unit_key(Setup(**SETUP), **{**UNIT, field: OTHER[field]})


def test_where_the_model_lies_does_not_change_the_key():
    assert unit_key(Setup(**SETUP), **UNIT) == unit_key(Setup(**{**SETUP, "model": "elsewhere"}), **UNIT)


def test_keys_do_not_change_between_versions_by_accident():
    assert unit_key(Setup(**SETUP), **UNIT) == "efea22f904285b322895f5e104fef1e3"


def test_a_mask_condition_is_part_of_the_key_where_there_is_one():
    keys = {unit_key(Setup(**SETUP), **UNIT, mask=mask) for mask in (None, "none", "own", "end", "steps")}
    assert len(keys) == 5
    assert unit_key(Setup(**SETUP), **UNIT, mask=None) == unit_key(Setup(**SETUP), **UNIT)
