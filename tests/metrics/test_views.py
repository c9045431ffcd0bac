import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piva_bench.errors import DataError
from piva_bench.metrics.protocol import Undefined, ViewsPair
from piva_bench.metrics.views import (
    clip_similarity,
    depth_change,
    direction_consistency,
    directional_similarity,
    haze,
    silhouette_iou,
)
from piva_bench.metrics.views_consistency import multi_view_consistency
from piva_bench.metrics.views_table import score_views, side_prompts
from piva_bench.scene.cameras import RIG
from piva_bench.scene.field import camera_rays
from piva_bench.scene.views import PosedViews

seeds = st.integers(0, 10_000)


def embeddings(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@given(seeds)
@settings(max_examples=25)
def test_similarities_equal_a_loop_over_views_and_ignore_length(seed):
    """Of two backdrops, view by view, the one before which it does worse."""
    rng = np.random.default_rng(seed)
    shapes = [(2, 5, 8), (2, 5, 8), (8,), (8,)]
    source, edit, one, other = (embeddings(seed + i, *s) for i, s in enumerate(shapes))

    def cos(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    def n(a):
        return a / np.linalg.norm(a)

    def worst(of):
        return np.mean([min(of(b, v) for b in range(2)) for v in range(5)])

    assert clip_similarity(edit, one) == pytest.approx(worst(lambda b, v: cos(edit[b, v], one)))

    def change(b, v):
        return n(edit[b, v % 5]) - n(source[b, v % 5])

    directional = worst(lambda b, v: cos(change(b, v), n(other) - n(one)))
    assert directional_similarity(source, edit, one, other) == pytest.approx(directional)
    pairs = [min(cos(change(b, v), change(b, v + 1)) for b in range(2)) for v in range(5)]
    assert direction_consistency(source, edit) == pytest.approx(np.mean(pairs))
    assert direction_consistency(source, edit, closed=False) == pytest.approx(np.mean(pairs[:4]))
    lengths = rng.uniform(0.1, 9, (2, 5, 1))
    assert directional_similarity(source * lengths, edit * 3, one, 7 * other) == pytest.approx(directional)


def test_views_that_do_not_change_have_no_direction():
    views, text = embeddings(0, 1, 4, 8), embeddings(1, 8)
    assert directional_similarity(views, 2 * views, text, embeddings(2, 8)) == Undefined(
        "no view was changed"
    )
    assert isinstance(direction_consistency(views, views), Undefined)
    assert isinstance(directional_similarity(views, embeddings(3, 1, 4, 8), text, 2 * text), Undefined)
    half = views.copy()
    half[:, :2] = embeddings(3, 2, 8)
    only = directional_similarity(views[:, :2], half[:, :2], text, embeddings(2, 8))
    assert directional_similarity(views, half, text, embeddings(2, 8)) == pytest.approx(only)


def test_one_change_for_all_views_is_perfectly_consistent_and_alternating_ones_are_not():
    source = np.tile([1.0, 0, 0, 0], (1, 6, 1))
    edit = np.tile([1.0, 1, 0, 0], (1, 6, 1))
    assert direction_consistency(source, edit) == pytest.approx(1)
    wanted = directional_similarity(source, edit, np.array([1.0, 0, 0, 0]), np.array([1.0, 1, 0, 0]))
    assert wanted == pytest.approx(1)
    edit[:, ::2, 1:3] = [0, 1]
    expected = (np.sqrt(0.5) - 1) ** 2 / (2 - np.sqrt(2))  # of (c-1, c, 0) and (c-1, 0, c), c = 1/sqrt 2
    assert direction_consistency(source, edit) == pytest.approx(expected)


def test_shape_changes_have_closed_forms():
    first, second = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    first[:, :2], second[:, 1:3] = True, True
    assert silhouette_iou(first, second) == pytest.approx(1 / 3)
    assert silhouette_iou(first, first) == 1
    assert isinstance(silhouette_iou(first & ~first, first & ~first), Undefined)
    z = np.where(first, 3.0, 0)
    assert depth_change(z, np.where(second, 3.5, 0), 2.5) == pytest.approx(0.2)
    assert isinstance(depth_change(z, np.zeros_like(z), 1.0), Undefined)


def test_haze_is_the_mean_opacity_where_nothing_should_be():
    rng = np.random.default_rng(0)
    edit = rng.random((2, 12, 12))
    source, truth = np.zeros((2, 2, 12, 12))
    source[0, 3:6, 4] = 0.1  # the faintest edge counts as something
    truth[1, 0, 0] = 1
    there = {(v, y, x) for v, y, x in zip(*np.nonzero(source + truth), strict=True)}
    empty = [
        edit[v, y, x]
        for v in range(2)
        for y in range(12)
        for x in range(12)
        if not any(w == v and abs(a - y) <= 1 and abs(b - x) <= 1 for w, a, b in there)
    ]
    assert haze(edit, source, truth) == pytest.approx(np.mean(empty))
    assert haze(source, source, truth) == haze(truth, source, truth) == 0
    assert isinstance(haze(edit, np.ones((2, 12, 12))), Undefined)


def test_fog_in_the_air_is_a_score_and_a_grown_part_of_the_truth_is_none():
    source = ball_views(4, 24)
    wide = np.zeros_like(source.images)
    wide[:, 2:22, 2:22] = [200, 0, 0, 255]
    truth = PosedViews(wide, source.cameras, source.depth)
    foggy = source.images.copy()
    foggy[foggy[..., 3] == 0] = [90, 90, 90, 51]
    fog = PosedViews(foggy, source.cameras, source.depth)
    assert score(source, fog, reference=source)["haze"] == pytest.approx(0.2)
    assert score(source, truth, reference=truth)["haze"] == 0
    assert score(source, truth, reference=source)["haze"] > 0.3
    assert score(source, fog)["haze"] == Undefined("the sample has no counterfactual views")


def ball_views(count=12, size=48, paint=None, elevation=0.0):
    """A matte ball of radius 1, exact: colour from the point in space, or from each view's number."""
    cameras = RIG.turntable(count, size, elevation=elevation)
    rays = camera_rays(cameras)
    o, d = (part.double().numpy() for part in rays)
    a, b, c = (d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 1
    root = b * b - a * c
    z = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, 0)
    points = o + d * z[:, None]
    colour = (
        127 + 100 * np.sin(2 * points)
        if paint is None
        else np.repeat(paint, size * size)[:, None] * np.ones(3)
    )
    images = np.concatenate([np.rint(colour), np.where(root > 0, 255, 0)[:, None]], axis=1)
    shape = (count, size, size)
    return PosedViews(
        images.astype(np.uint8).reshape(*shape, 4), cameras, z.astype(np.float32).reshape(shape)
    )


def test_a_painted_ball_is_consistent_and_one_painted_anew_for_each_view_is_not():
    assert multi_view_consistency(ball_views()) < 0.005
    flicker = np.arange(12) % 2 * 51
    assert multi_view_consistency(ball_views(paint=flicker)) == pytest.approx(0.2, abs=1e-6)
    ramp = np.arange(12) * 10  # eleven steps of 10 and one of 110 where the path closes
    open_path = multi_view_consistency(ball_views(paint=ramp), closed=False)
    assert open_path == pytest.approx(10 / 255, abs=1e-6)
    assert multi_view_consistency(ball_views(paint=ramp)) == pytest.approx(
        (11 * 10 + 110) / 12 / 255, rel=0.01
    )


def test_what_is_hidden_is_not_compared():
    """Opposite views of a ball share no point."""
    views = ball_views(2)
    assert isinstance(multi_view_consistency(views), Undefined)
    with pytest.raises(DataError, match="needs depth"):
        multi_view_consistency(views.without_depth())


class ColourEncoder:
    """Embeds a picture by its mean colour and a text by the colours it names."""

    def encode_images(self, images):
        return np.stack([[*(picture.mean((0, 1)) / 255), 0.1] for picture in images])

    def encode_texts(self, texts):
        return np.array(
            [[("red" in t) + 0.1, ("green" in t) + 0.1, ("blue" in t) + 0.1, "front" in t] for t in texts]
        )


def score(
    source, edit, source_prompt="a red ball", target_prompt="a blue ball", *, reference=None, **distances
):
    places = np.full((2, *source.images.shape[:3], 3), 255, np.uint8)
    places[1] = 0
    pair = ViewsPair(source, edit, reference, places[0], places, side_prompts(source_prompt, target_prompt))
    return score_views(pair, {"": ColourEncoder()}, distances)


def test_scores_of_an_edit_its_identity_and_its_counterfactual():
    source = ball_views(8, 24)
    bluer = source.images.copy()
    bluer[..., 2] = 255
    edit = PosedViews(bluer, source.cameras, source.depth)
    compared = []

    def distance(first, second):
        compared.append((first, second))
        return np.abs(first.astype(int) - second).mean((1, 2, 3)).tolist()

    scores = score(source, edit, reference=edit, grey=distance)
    assert scores["clip_directional"] > 0.3
    assert scores["clip_similarity"] > scores["clip_similarity_source"]
    assert scores["reference_psnr"] > 58 > 30 > scores["source_psnr"]
    assert scores["reference_ssim"] == pytest.approx(1)
    assert scores["reference_grey"] == 0 < scores["source_grey"]
    for of, place in zip(compared, ((1, 1, 1), (0, 0, 0)), strict=False):
        every_sixth = source.composite(place)[[0, 6]], edit.composite(place)[[0, 6]]
        np.testing.assert_array_equal(of, every_sixth)
    assert scores["source_silhouette_iou"] == 1
    assert scores["source_depth_change"] == 0
    assert scores["view_inconsistency"] < 0.02
    same = score(source, source)
    assert same["clip_directional"] == Undefined("no view was changed")
    assert set(same) | {"source_grey", "reference_grey"} == set(scores)
    unknown = {name for name in same if name.startswith("reference")} | {"haze"}
    assert {same[name] for name in unknown} == {Undefined("the sample has no counterfactual views")}
    flat = score(source.without_depth(), edit)
    assert flat["source_depth_change"] == Undefined("the views have no depth")
    assert all(isinstance(v, Undefined) or np.isfinite(v) for s in (scores, same, flat) for v in s.values())


def test_a_part_painted_like_one_backdrop_is_seen_before_the_other():
    """A hat that should be gone is painted white: before white it is the truth itself, before black it is not."""
    truth = ball_views(4, 24)
    painted = truth.images.copy()
    painted[:, :3] = 255
    edit = PosedViews(painted, truth.cameras, truth.depth)
    alone = np.full((1, 4, 24, 24, 3), 255, np.uint8)
    both = np.concatenate([alone, 0 * alone])
    prompts = side_prompts("a ball with a hat", "a ball")

    def against(places):
        return score_views(
            ViewsPair(truth, edit, truth, places[0], places, prompts), {"": ColourEncoder()}, {}
        )

    assert against(alone)["reference_psnr"] > 58
    assert against(both)["reference_psnr"] < 12
    assert against(both)["reference_psnr"] == against(both[1:])["reference_psnr"]
    assert against(both)["haze"] > 0.1


def test_depth_change_of_a_ball_pushed_back_is_its_way_over_its_size():
    source = ball_views(4, 24)
    depth = np.where(source.depth > 0, source.depth + 0.5, 0).astype(np.float32)
    scores = score(source, PosedViews(source.images, source.cameras, depth), "red", "blue")
    assert scores["source_depth_change"] == pytest.approx(0.25, rel=0.05)  # a half over a diameter of 2


def test_views_from_other_cameras_are_refused():
    source = ball_views(4, 24)
    with pytest.raises(DataError, match="same cameras"):
        score(source, ball_views(4, 24, elevation=10.0))
    with pytest.raises(DataError, match="same cameras"):
        score(source, source[:3])
