import pytest
import torch
from torch._dynamo.testing import CompileCounter

from piva_bench.diffusion.condition import Condition
from piva_bench.diffusion.load import load_denoiser
from tests.peft_reference import copy_weights, flat, parameters, peft_unet

RANK = 3


def predict(denoiser, inputs, *effects):
    noisy, t, embeds = inputs
    return denoiser.predict_noise(noisy, t, Condition(embeds), effects)


@pytest.fixture
def inputs(denoiser):
    torch.manual_seed(0)
    return torch.randn(5, 4, 8, 8), torch.tensor([5, 100, 400, 700, 999]), torch.randn(5, 77, 24)


def random_weights(lora, rows):
    """Adapters that do something: B is not zero."""
    weights = lora.initial(torch.rand(rows, lora.a_numel(RANK)))
    return weights + 0.05 * torch.randn_like(weights)


@pytest.mark.parametrize("layers", ["attention", "all"])
def test_new_adapters_change_nothing(denoiser, inputs, layers):
    weights = denoiser.lora(layers).initial(torch.rand(5, denoiser.lora(layers).a_numel(RANK)))
    with torch.no_grad():
        expected = predict(denoiser, inputs)
        assert torch.equal(predict(denoiser, inputs, denoiser.lora(layers).rows(weights)), expected)


@pytest.mark.parametrize("layers", ["attention", "all"])
def test_initial_weights_have_pefts_distribution(denoiser, tiny_sd, layers):
    lora = denoiser.lora(layers)
    ours = lora.rows(lora.initial(torch.rand(200, lora.a_numel(RANK)))).factors
    theirs = parameters(peft_unet(tiny_sd, lora, RANK, ["one"]), lora, "one")
    for (a, b), (peft_a, peft_b) in zip(ours, theirs, strict=True):
        assert a.shape[1:] == peft_a.flatten(1).shape
        assert b.shape[1:] == peft_b.flatten(1).shape
        assert b.count_nonzero() == peft_b.count_nonzero() == 0
        bound = 1 / peft_a[0].numel() ** 0.5
        assert peft_a.abs().max() <= bound
        assert 0.98 * bound < a.abs().max() <= bound
        assert abs(a.mean()) < 0.05 * bound


@pytest.mark.parametrize("start", [0, 2, 4])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("layers", ["attention", "all"])
def test_each_row_equals_pefts_adapter_alone(denoiser, tiny_sd, inputs, start, grad, layers):
    noisy, t, embeds = inputs
    count = 5 - start
    weights = random_weights(denoiser.lora(layers), count)
    model = peft_unet(tiny_sd, denoiser.lora(layers), RANK, ["one"])
    with torch.set_grad_enabled(grad):
        ours = denoiser.predict_noise(
            noisy, t, Condition(embeds), [denoiser.lora(layers).rows(weights, start)]
        ).detach()
    with torch.no_grad():
        base = denoiser.predict_noise(noisy, t, Condition(embeds))
        for row in range(5):
            if row < start:
                torch.testing.assert_close(ours[row], base[row], atol=1e-5, rtol=1e-5)
                continue
            copy_weights(model, denoiser.lora(layers), "one", weights[row - start])
            only = slice(row, row + 1)
            expected = model(noisy[only], t[only], encoder_hidden_states=embeds[only]).sample
            torch.testing.assert_close(ours[only], expected, atol=1e-5, rtol=1e-5)
            assert (ours[only] - base[only]).abs().max() > 1e-3


@pytest.mark.parametrize("layers", ["attention", "all"])
def test_gradients_equal_pefts(denoiser, tiny_sd, inputs, layers):
    noisy, t, embeds = inputs
    target = torch.randn_like(noisy)
    weights = random_weights(denoiser.lora(layers), 5).requires_grad_()
    prediction = denoiser.predict_noise(noisy, t, Condition(embeds), [denoiser.lora(layers).rows(weights)])
    (prediction - target).square().mean(dim=(1, 2, 3)).sum().backward()
    model = peft_unet(tiny_sd, denoiser.lora(layers), RANK, ["one"])
    for row in range(5):
        copy_weights(model, denoiser.lora(layers), "one", weights[row].detach())
        model.zero_grad()
        only = slice(row, row + 1)
        expected = model(noisy[only], t[only], encoder_hidden_states=embeds[only]).sample
        (expected - target[only]).square().mean().backward()
        gradient = flat([(a.grad, b.grad) for a, b in parameters(model, denoiser.lora(layers), "one")])
        torch.testing.assert_close(weights.grad[row], gradient, atol=1e-6, rtol=1e-4)


def test_a_row_of_nan_stays_in_its_row(denoiser, inputs):
    weights = random_weights(denoiser.lora(), 5)
    with torch.no_grad():
        clean = predict(denoiser, inputs, denoiser.lora().rows(weights))
        weights[1] = torch.nan
        broken = predict(denoiser, inputs, denoiser.lora().rows(weights))
    assert broken[1].isnan().all()
    others = [0, 2, 3, 4]
    assert torch.equal(broken[others], clean[others])


def test_adapters_are_off_again_after_an_error(denoiser, inputs):
    noisy, t, embeds = inputs
    rows = denoiser.lora().rows(random_weights(denoiser.lora(), 5))
    with torch.no_grad():
        expected = denoiser.predict_noise(noisy, t, Condition(embeds))
        with pytest.raises(RuntimeError):
            denoiser.predict_noise(noisy, t, Condition(embeds[:, :, :5]), [rows])
        assert torch.equal(denoiser.predict_noise(noisy, t, Condition(embeds)), expected)


def test_compiled_blocks_are_one_code_with_adapters_as_without_and_predict_the_same(tiny_sd, inputs):
    plain, compiled = (load_denoiser(tiny_sd) for _ in range(2))
    torch.compiler.reset()
    counter = CompileCounter()  # traces as any backend does, and makes no code
    compiled.unet.compile_repeated_blocks(backend=counter)
    weights = random_weights(plain.lora(), 3)

    def gradient(denoiser):
        own = weights.clone().requires_grad_()
        prediction = predict(denoiser, inputs, denoiser.lora().rows(own, 2))
        return torch.autograd.grad(prediction.square().sum(), own)[0]

    compilations = []
    for adapted in (False, True):
        before = counter.frame_count
        with torch.inference_mode():
            ours, expected = (
                predict(one, inputs, *([one.lora().rows(weights, 2)] if adapted else ()))
                for one in (compiled, plain)
            )
            torch.testing.assert_close(ours, expected)
        compilations.append(counter.frame_count - before)
    torch.testing.assert_close(gradient(compiled), gradient(plain))
    blocks = sum(type(module).__name__ == "BasicTransformerBlock" for module in compiled.unet.modules())
    # Two widths; a compilation for each block would pass the compiler's limit on a model with 16.
    assert 0 < compilations[1] <= compilations[0] < blocks
