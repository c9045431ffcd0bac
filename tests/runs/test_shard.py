import pytest
from hypothesis import given
from hypothesis import strategies as st

from piva_bench.errors import UserError
from piva_bench.runs.shard import Shard, parse_shard, shard_of


@given(st.lists(st.integers(), unique=True), st.integers(1, 9))
def test_shares_are_the_whole_and_of_even_size(samples, count):
    shares = [Shard(index, count).of(samples) for index in range(count)]
    assert sorted(one for share in shares for one in share) == sorted(samples)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "1", "4/4", "1/0", "-1/4", "a/b", "1/2/3", " 0/2", "0x1/2"])
def test_what_is_no_share_is_one_line(text):
    with pytest.raises(UserError, match=r"write i/N with i from 0 to N-1"):
        parse_shard(text)
    assert parse_shard("3/4") == Shard(3, 4)


ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "5"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "4"}, Shard(1, 4)),
        (ARRAY, Shard(2, 4)),
        ({**ARRAY, "SLURM_ARRAY_TASK_ID": "11", "SLURM_ARRAY_TASK_STEP": "2"}, Shard(3, 4)),
        # An array of single tasks: each has one task, which is no share.
        ({**ARRAY, "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "RANK": "0", "WORLD_SIZE": "1"}, Shard(2, 4)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "3", "RANK": "0", "WORLD_SIZE": "2"}, Shard(2, 3)),
        ({"RANK": "0", "WORLD_SIZE": "2"}, Shard(0, 2)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "5"}, None),
        ({"RANK": "x", "WORLD_SIZE": "2"}, None),
    ],
)
def test_what_schedulers_say(environment, expected):
    found = shard_of(environment)
    assert (found[0] if found else None) == expected


def test_an_array_with_gaps_is_refused_not_guessed():
    with pytest.raises(UserError, match="give --shard i/N"):
        shard_of({**ARRAY, "SLURM_ARRAY_TASK_ID": "12"})
