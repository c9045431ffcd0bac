import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from piva_bench.errors import DataError
from piva_bench.scene.cameras import RIG
from piva_bench.scene.field import EMPTY, Grid, RadianceField, Rays, camera_rays
from piva_bench.scene.fit import FitParams, fit_field, growth, silhouette_hull
from piva_bench.scene.regularisers import (
    colour_variation,
    density_variation,
    half_transparency,
    outside,
    sparsity,
    total_variation,
)
from piva_bench.scene.views import PosedViews

UNIT = Grid(((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)), 8)


def uniform(density, colour=(0.2, 0.5, 0.8), step=0.25):
    """A box of one density (a voxel's optical thickness) and colour."""
    field = RadianceField(UNIT, step)
    with torch.no_grad():
        field.raw[0, 0] = np.log(np.expm1(density))
        field.raw[0, 1:] = torch.tensor(colour).logit().view(3, 1, 1, 1)
    return field


def ball(resolution=16, radius=0.7):
    """An opaque ball, red in front (-y) and blue behind, green growing with height."""
    field = RadianceField(Grid(UNIT.box, resolution))
    nodes = field.nodes()
    with torch.no_grad():
        field.raw[0, 0] = (radius - nodes.norm(dim=-1)) * 4 * resolution
        field.raw[0, 1], field.raw[0, 2], field.raw[0, 3] = (
            -4 * nodes[..., 1], 3 * nodes[..., 2], 4 * nodes[..., 1],
        )  # fmt: skip
    return field


@settings(max_examples=20, deadline=None)
@given(density=st.floats(0.01, 3), azimuth=st.integers(0, 119))
def test_a_uniform_box_follows_beer_and_lambert_from_any_side(density, azimuth):
    field = uniform(density)
    cameras = RIG.turntable(120, 9, elevation=30.0)[[azimuth]]
    rays = camera_rays(cameras)
    with torch.no_grad():
        shown = field.render_rays(rays)
    direction = rays.directions / rays.directions.norm(dim=1, keepdim=True)
    sides = torch.stack([(-1 - rays.origins) / direction, (1 - rays.origins) / direction])
    near, far = sides.amin(0).amax(1), sides.amax(0).amin(1)
    length = (far - near).clamp(min=0)
    expected = 1 - torch.exp(-density * length / UNIT.voxel)
    # A ray's last sample stands for a whole step, of which up to half may lie outside, or be missed.
    slack = density * field.step / 2 * torch.exp(-density * length / UNIT.voxel) * 1.2 + 1e-4
    assert ((shown.alpha[:, 0] - expected).abs() <= slack).all()
    assert torch.allclose(shown.colour, shown.alpha * torch.tensor([0.2, 0.5, 0.8]), atol=1e-5)
    middle = 40
    n, f, k = float(near[middle]), float(far[middle]), density / UNIT.voxel
    mean = n + 1 / k - (f - n) / np.expm1(k * (f - n))  # of an exponential cut off at the far side
    assert float(shown.depth[middle]) == pytest.approx(mean, abs=0.05)


def test_depth_is_along_the_optical_axis():
    """A wall facing the camera has one depth, whatever the ray's slant."""
    field = RadianceField(Grid(UNIT.box, 16))
    with torch.no_grad():
        field.raw[0, 0] = torch.where(field.nodes()[..., 1] > 0, 20.0, EMPTY)
    shown = field.render(RIG.turntable(1, 16, elevation=0.0))
    solid = shown.alpha > 0.99
    assert solid.sum() > 20
    assert torch.allclose(shown.depth[solid], torch.tensor(4.0), atol=0.1)  # a step is 0.094
    assert shown.depth[solid].std() < 0.02  # distances to the eye would differ by 0.2


def test_the_front_of_a_picture_is_the_front_of_the_field():
    views = ball().render_views(RIG.turntable(4, 17, elevation=0.0))
    front, right, back, _ = views.images.astype(int)
    assert front[8, 8, 0] > front[8, 8, 2] + 60
    assert back[8, 8, 2] > back[8, 8, 0] + 60
    assert right[8, 6, 0] > right[8, 10, 0] + 30  # from +x the front lies to the left
    assert front[6, 8, 1] > front[10, 8, 1] + 30
    assert views.depth[0, 8, 8] == pytest.approx(3.3, abs=0.08)
    assert views.depth[0, 0, 0] == 0


def test_closed_nodes_are_empty_and_skipping_changes_nothing():
    full, skipping = ball(), ball()
    skipping.prune(threshold=1e-3, dilate=2)
    assert skipping.open.float().mean() < 0.8
    cameras = RIG.sphere(3, 12)
    before, after = full.render(cameras), skipping.render(cameras)
    assert torch.allclose(before.colour, after.colour, atol=2e-3)
    assert torch.allclose(before.alpha, after.alpha, atol=2e-3)
    skipping.set_open(torch.zeros_like(skipping.open))
    assert (skipping.render(cameras).alpha == 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), resolution=st.integers(5, 23), step=st.sampled_from([0.3, 0.75, 2.0]))
def test_runs_that_are_skipped_hold_no_open_sample(seed, resolution, step):
    """Against every sample of every ray, one by one."""
    rng = np.random.default_rng(seed)
    field = RadianceField(Grid(((-1.0, -0.7, -0.4), (1.0, 0.8, 0.9)), resolution), step)
    field.open.copy_(torch.from_numpy(rng.random(field.grid.shape) < 0.02))
    rays = camera_rays(RIG.random(1, 6, seed=seed))
    jitter = torch.from_numpy(rng.random(36)).float()
    near, far = field._spans(rays)
    expected = []
    for index in range(36):
        pace = step * field.grid.voxel / rays.directions[index].norm()
        for number in range(10_000):
            depth = near[index] + (number + jitter[index]) * pace
            if not depth < far[index]:
                break
            point = rays.origins[index] + rays.directions[index] * depth
            node = ((point - field.low) / field.grid.voxel).round().long().tolist()
            x, y, z = (min(max(i, 0), n - 1) for i, n in zip(node, field.grid.shape[::-1], strict=True))
            if field.open[z, y, x]:
                expected.append((index, number))
    ray, number, _, _ = field._samples(Rays(*rays), jitter)
    assert list(zip(ray.tolist(), number.tolist(), strict=True)) == expected


def test_a_field_taken_into_a_finer_grid_looks_the_same():
    coarse = ball(16)
    fine = RadianceField(Grid(UNIT.box, 32))
    fine.take(coarse)
    cameras = RIG.sphere(3, 24)
    before, after = coarse.render(cameras), fine.render(cameras)
    # Thickness is a voxel's: half the voxel, half of it.
    assert torch.allclose(
        F.softplus(fine.raw[0, 0, ::2, ::2, ::2]) * 2, F.softplus(coarse.raw[0, 0]), atol=1e-4
    )
    assert torch.allclose(fine.raw[0, 1:, ::2, ::2, ::2], coarse.raw[0, 1:], atol=1e-4)
    assert (before.alpha - after.alpha).abs().mean() < 0.01
    assert (before.colour - after.colour).abs().mean() < 0.01


def test_a_large_fit_grows_and_keeps_what_it_has_learnt():
    assert [growth(n) for n in (12, 64, 65, 128, 256)] == [[12], [64], [33, 65], [64, 128], [64, 128, 256]]
    truth = ball()
    views = truth.render_views(RIG.sphere(16, 24))
    losses = []
    params = FitParams(steps=60, rays=256, density_variation=1e-3)
    field = fit_field(views, Grid(UNIT.box, 66), params, on_step=lambda i, loss: losses.append(loss))
    assert field.grid.resolution == 66
    assert len(losses) == 60
    # The first loss on the fine grid is what the coarse one had come to, far from what fog would lose.
    assert losses[30] < 0.2 * losses[0]
    error = ((field.render_views(views.cameras).composite() / 255.0 - views.composite() / 255.0) ** 2).mean()
    assert -10 * np.log10(error) > 24


def test_chunks_change_neither_pictures_nor_gradients():
    field, cameras = ball(), RIG.sphere(2, 10)
    gradients = []
    for together in (1 << 22, 90 * 64):
        field.raw.grad = None
        shown = field.render(cameras, together=together)
        (shown.over((1, 1, 1)) ** 2).sum().backward()
        gradients.append((shown.colour.detach(), field.raw.grad.clone()))
    (one, first), (other, second) = gradients
    assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(first, second, atol=1e-4)


def test_gradients_equal_finite_differences():
    field = uniform(0.4).double()
    cameras = RIG.turntable(1, 5)
    rays = camera_rays(cameras)
    rays = type(rays)(*(part.double() for part in rays))
    weights = torch.arange(75, dtype=torch.float64).view(25, 3).sin()

    def loss():
        shown = field.render_rays(rays)
        return (shown.colour * weights).sum() + shown.alpha.sum() + shown.depth.sum()

    loss().backward()
    gradient, raw = field.raw.grad, field.raw.data
    for place in ((0, 0, 4, 4, 4), (0, 1, 5, 4, 3), (0, 3, 3, 2, 4), (0, 0, 8, 8, 8)):
        h = 1e-5
        raw[place] += h
        up = loss().item()
        raw[place] -= 2 * h
        down = loss().item()
        raw[place] += h
        assert gradient[place].item() == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-7)


def test_the_hull_holds_the_ball_and_little_more():
    field = ball()
    views = field.render_views(RIG.sphere(24, 32))
    hull = silhouette_hull(field, views)
    radius = field.nodes().norm(dim=-1)
    assert hull[radius < 0.65].all()
    assert not hull[radius > 1.15].any()


def test_a_fit_reproduces_views_it_has_not_seen(tmp_path):
    truth = ball()
    views = truth.render_views(RIG.sphere(16, 24))
    losses = []
    params = FitParams(steps=120, rays=256, density_variation=1e-3)
    field = fit_field(views, Grid(UNIT.box, 16), params, on_step=lambda i, loss: losses.append(loss))
    assert losses[-1] < 0.1 * losses[0]
    unseen = RIG.random(4, 24, seed=5)
    shown, expected = field.render_views(unseen), truth.render_views(unseen)
    error = ((shown.composite() / 255.0 - expected.composite() / 255.0) ** 2).mean()
    assert -10 * np.log10(error) > 27
    both = (shown.depth > 0) & (expected.depth > 0)
    assert np.abs(shown.depth - expected.depth)[both].mean() < 0.1
    # The same seed gives the same field, and the file gives it back but for fp16.
    again = fit_field(views, Grid(UNIT.box, 16), params)
    assert torch.equal(again.raw, field.raw)
    field.save(tmp_path / "a" / "field.safetensors")
    loaded = RadianceField.load(tmp_path / "a" / "field.safetensors")
    assert loaded.grid == field.grid
    assert torch.equal(loaded.open, field.open)
    assert np.abs(loaded.render_views(unseen).images.astype(int) - shown.images).max() <= 2


def test_opaque_pictures_need_a_known_background():
    truth = ball()
    cameras = RIG.sphere(12, 16)
    clear = truth.render_views(cameras)
    grey = (0.3, 0.3, 0.3)
    opaque = np.concatenate([clear.composite(grey), np.full((12, 16, 16, 1), 255, np.uint8)], axis=-1)
    views = PosedViews(opaque, cameras)
    with pytest.raises(DataError, match="background"):
        fit_field(views, UNIT)
    field = fit_field(views, Grid(UNIT.box, 12), FitParams(steps=60, rays=256), background=grey)
    error = (field.render_views(cameras).composite(grey) / 255.0 - clear.composite(grey) / 255.0) ** 2
    assert -10 * np.log10(error.mean()) > 22


def test_silhouettes_that_miss_the_box_are_one_line():
    views = PosedViews(np.zeros((2, 8, 8, 4), np.uint8), RIG.turntable(2, 8))
    with pytest.raises(DataError, match="share no point"):
        fit_field(views, UNIT)


@pytest.mark.parametrize("content", [b"", b"no tensors", None])
def test_what_is_no_field_is_one_line(tmp_path, content):
    path = tmp_path / "field.safetensors"
    if content is None:
        from safetensors.torch import save_file

        save_file({"raw": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match="radiance field") as error:
        RadianceField.load(path)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="cannot read"):
        RadianceField.load(tmp_path / "none")


def test_a_grid_round_a_flat_box_is_flat_too():
    grid = Grid.around(np.array([[-1.0, -0.5, 0.0], [1.0, 0.5, 0.25]]), 32, margin=0.0)
    assert grid.voxel == pytest.approx(2 / 32)
    assert grid.shape == (5, 17, 33)
    field = RadianceField(grid)
    assert field.nodes()[-1, -1, -1].tolist() == pytest.approx([1, 0.5, 0.25])
    assert field.inside(np.array([[-1.0, -0.5, 0.0], [0.0, 0.5, 0.25]])).float().mean() == pytest.approx(
        17 / 33
    )


def test_regularisers_are_zero_without_their_fault_and_positive_with_it():
    values = torch.arange(4.0).view(4, 1, 1).expand(4, 3, 2)
    assert total_variation(values) == 1
    even, empty = uniform(5.0), uniform(1e-9)
    assert colour_variation(even) < 1e-10
    assert density_variation(even) < 1e-10
    assert sparsity(empty) < 1e-10 < sparsity(even)
    assert half_transparency(torch.tensor([0.0, 1.0])) < 1e-3
    assert half_transparency(torch.tensor([0.5])) == pytest.approx(np.log(2))
    rough = ball()
    assert min(colour_variation(rough), density_variation(rough)) > 1e-4
    allowed = rough.nodes().norm(dim=-1) < 0.8
    assert outside(rough, allowed) < 1e-3 < outside(rough, ~allowed)
