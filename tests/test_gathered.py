"""A layer whose weight's gradient is gathered: the numbers of nn.Linear, whatever a pass asks for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reprise.models.dood import DooD
from reprise.nn import gathered
from reprise.nn.gathered import Gathered, gathering
from reprise.training.engine import Precision, choose, computing

from .test_attend import double
from .test_drawing import SMALL, ink_of, undropped, variant

__all__ = ["double"]  # a fixture


def pair(inputs: int = 40, outputs: int = 6) -> tuple[Gathered, nn.Linear]:
    """The same parameters in both."""
    ours, plain = Gathered(inputs, outputs), nn.Linear(inputs, outputs)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def chained(layer: nn.Module, x: Tensor, counts: tuple[int, ...]) -> Tensor:
    """Calls that depend on each other, with so many rows each."""
    total = torch.zeros((), dtype=x.dtype)
    with gathering():
        for count in counts:
            y: Tensor = layer(x[:count])
            total = total + y.tanh().square().sum()
            x = torch.cat([x[:count] + y.sum(1, keepdim=True) / 10, x[count:]])
    return total


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("counts", [(3,), (3, 0, 3, 2), (64, 1, 70), (40, 30, 5), (100, 100)])
def test_gradients_are_those_of_a_linear_layer(
    counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of calls with fewer rows than a product is made of, as many, and more."""
    monkeypatch.setattr(gathered, "ENOUGH", 64)
    ours, plain = pair()
    x = torch.randn(100, 40, requires_grad=True)
    for _ in range(2):
        found = []
        for layer in (ours, plain):
            loss = chained(layer, x, counts)
            found.append([loss, *torch.autograd.grad(loss, [x, layer.weight, layer.bias])])
        for mine, its in zip(*found, strict=True):
            torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("kind", ["foreach", "fused"])
@pytest.mark.parametrize("lower", [False, True])
def test_every_pass_uses_the_weight_as_it_is_then(kind: str, lower: bool) -> None:
    """Whatever the optimiser: torch's fused ones change weights without counting their versions."""
    ours, plain = pair()
    x = torch.randn(5, 40)
    for layer in (ours, plain):
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, **{kind: True})  # type: ignore[arg-type]
        for _ in range(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=lower):
                one, two = chained(layer, x, (5, 2)), chained(layer, 2 * x, (3,))
            one.backward()
            two.backward()
            optimizer.step()
            with torch.autocast("cpu", torch.bfloat16, enabled=lower):
                inside = chained(layer, x, (5, 2)).detach()
                with torch.no_grad():
                    torch.testing.assert_close(inside, chained(layer, x, (5, 2)))
    if not lower:
        torch.testing.assert_close(ours.weight, plain.weight)
        torch.testing.assert_close(ours.bias, plain.bias)


@pytest.mark.parametrize("name", ["DooD", "Difference-AIR"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_after_updates_a_model_is_what_it_was_trained_as(name: str, precision: Precision) -> None:
    """With gradients, as it trains, and without, as it is measured: one loss."""
    engine, x, step = choose("cpu", precision, 1), ink_of(8), torch.tensor(0.0)
    recipe = DooD.recipe(SMALL).training
    with computing(engine):
        model = engine.place(undropped(variant(name)))
        optimizer = engine.optimizer(model, recipe)
        for _ in range(3):
            engine.update(model, optimizer, x, step, None)
        found = []
        for enabled in (True, False):
            torch.manual_seed(1)
            with torch.set_grad_enabled(enabled), engine.autocast(), gathering():
                found.append(float(model.loss(x, step)[1]["elbo"].detach()))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_the_gradient_of_a_larger_pass_is_made_of_few_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred calls with two rows: of 64 rows, four products."""
    monkeypatch.setattr(gathered, "ENOUGH", 64)
    ours, _ = pair()
    products: list[int] = []
    multiply = gathered._Rows._multiply

    def counted(rows: gathered._Rows) -> None:
        products.append(rows.waiting)
        multiply(rows)

    monkeypatch.setattr(gathered._Rows, "_multiply", counted)
    chained(ours, torch.randn(2, 40), (2,) * 100).backward()
    assert products == [64, 64, 64, 8]


@pytest.mark.parametrize("first", ["forward alone", "of the input alone", "twice", "interrupted"])
def test_nothing_of_one_pass_gets_into_another(first: str) -> None:
    ours, plain = pair()
    x = torch.randn(5, 40, requires_grad=True)
    loss = chained(ours, x, (5, 3))
    if first == "of the input alone":
        torch.autograd.grad(loss, [x])
    elif first == "twice":
        other = chained(ours, 3 * x, (4,))
        loss.backward()
        other.backward()
    elif first == "interrupted":
        x.register_hook(lambda g: 1 / 0)  # after the calls have handed in their rows
        with pytest.raises(ZeroDivisionError):
            loss.backward()
        x = x.detach()
    ours.zero_grad()
    for layer in (ours, plain):
        chained(layer, x.detach(), (2, 4)).backward()
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)


def test_in_bf16_it_is_as_near_to_fp32_as_the_layer_of_torch() -> None:
    ours, plain = pair(2_000, 32)
    x = torch.randn(8, 2_000)
    exact = torch.autograd.grad(chained(plain, x, (8,) * 30), [plain.weight])[0]
    errors = {}
    for name, layer in (("ours", ours), ("torch's", plain)):
        with torch.autocast("cpu", torch.bfloat16):
            loss = chained(layer, x, (8,) * 30)
        found = torch.autograd.grad(loss, [layer.weight])[0]
        assert found.dtype == torch.float32
        errors[name] = float((found - exact).norm() / exact.norm())
    assert errors["ours"] < 1.1 * errors["torch's"] + 1e-3, errors


def test_without_gradients_and_frozen_it_is_a_linear_layer() -> None:
    ours, plain = pair()
    x = torch.randn(5, 40, requires_grad=True)
    with torch.no_grad(), gathering():
        assert torch.equal(ours(x), plain(x))
    with torch.inference_mode(), gathering():
        assert torch.equal(ours(x), plain(x))
    ours.requires_grad_(False)
    with gathering():
        found = torch.autograd.grad(ours(x).sum(), [x])[0]
    torch.testing.assert_close(found, plain.weight.sum(0).expand(5, -1))


def test_outside_a_pass_it_is_a_linear_layer() -> None:
    """Differentiable as often as one likes."""
    ours, plain = pair()
    x = torch.randn(3, 40, requires_grad=True)
    assert torch.equal(ours(x), plain(x))
    for layer in (ours, plain):
        (g,) = torch.autograd.grad(layer(x).square().sum(), [x], create_graph=True)
        g.square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)
