import math

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from piva_bench.session.noise import BatchNoise, noise, timestep, uniform

seeds = st.integers(-(2**63), 2**63)
ids = st.text(max_size=30)
steps = st.integers(0, 10**6)
purposes = st.sampled_from(["edit/t", "edit/noise", "adapter/psi/step0/noise", "", "a|b"])
keys = st.tuples(seeds, ids, steps, purposes)


@given(keys)
def test_the_same_key_gives_the_same_values(key):
    assert torch.equal(noise(*key, (3, 4)), noise(*key, (3, 4)))
    assert torch.equal(uniform(*key, (5,)), uniform(*key, (5,)))


@given(keys, keys)
def test_different_keys_give_different_values(first, second):
    assume(first != second)
    assert not torch.equal(noise(*first, (16,)), noise(*second, (16,)))


@given(seeds, st.text(alphabet="0123|:", max_size=6), st.integers(0, 200), st.integers(1, 5))
def test_a_key_is_not_its_concatenation(seed, name, step, cut):
    # "1" + "23" and "12" + "3" are different keys wherever the border lies.
    one = noise(seed, name + "x" * cut, step, "y", (16,))
    other = noise(seed, name, step, "x" * cut + "y", (16,))
    assert not torch.equal(one, other)


@given(keys, st.integers(0, 999), st.integers(0, 999))
def test_timesteps_lie_in_their_range(key, low, high):
    low, high = min(low, high), max(low, high)
    assert low <= timestep(*key[:3], range(low, high + 1), key[3]) <= high
    assert timestep(*key[:3], range(low, low + 1), key[3]) == low


@given(keys)
def test_shape_and_type(key):
    assert noise(*key, (2, 3, 1)).shape == (2, 3, 1)
    assert uniform(*key).shape == ()
    values = uniform(*key, (4,))
    assert values.dtype == noise(*key, (4,)).dtype == torch.float32
    assert ((values >= 0) & (values < 1)).all()


@given(st.lists(ids, min_size=1, max_size=6, unique=True), st.randoms(use_true_random=False), steps)
def test_a_sample_draws_the_same_in_any_batch(names, random, step):
    shuffled = random.sample(names, len(names))
    batch, other = BatchNoise(3, names, "cpu"), BatchNoise(3, shuffled, "cpu")
    for row, name in enumerate(names):
        elsewhere = shuffled.index(name)
        assert torch.equal(batch.noise(step, "n", (4,))[row], other.noise(step, "n", (4,))[elsewhere])
        assert torch.equal(batch.noise(step, "n", (2, 2))[row], noise(3, name, step, "n", (2, 2)))
        assert (
            batch.timesteps(step, range(1000), "t")[row] == other.timesteps(step, range(1000), "t")[elsewhere]
        )
        assert batch.uniform(step, "u")[row] == other.uniform(step, "u")[elsewhere]


def test_noise_is_standard_normal_and_independent():
    # Means over n values have a standard deviation of 1 / sqrt(n), second moments one of sqrt(2 / n).
    values = torch.stack(
        [noise(0, f"s{sample}", step, "p", (256,)) for sample in range(10) for step in range(40)]
    )
    count = values.numel()
    assert abs(values.mean()) < 4 / math.sqrt(count)
    assert abs(values.square().mean() - 1) < 4 * math.sqrt(2 / count)
    correlation = torch.corrcoef(values[:64]) - torch.eye(64)
    assert correlation.abs().max() < 6 / math.sqrt(256)


def test_timesteps_are_uniform_with_both_ends():
    counts = torch.zeros(10)
    for step in range(5000):
        counts[timestep(1, "s", step, range(50, 60), "t") - 50] += 1
    # Chi-squared with 9 degrees of freedom: above 33.7 with a chance of 1e-4.
    assert ((counts - 500).square() / 500).sum() < 33.7


def test_values_never_change():
    # They are part of every stored result: a change here asks for a new version of every method.
    expected = [0.10533644258975983, 0.00922645628452301, -0.33558744192123413]
    assert noise(7, "sample", 3, "edit/noise", (3,)).tolist() == expected
    assert timestep(7, "sample", 3, range(50, 949), "edit/t") == 828
