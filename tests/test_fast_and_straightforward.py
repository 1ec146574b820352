"""The fast code computes what the straightforward code computes: loss and every gradient, from the same noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reprise.baselines.convdraw import ConvDRAW
from reprise.baselines.vae import VAE
from reprise.core.dataset import DatasetInfo
from reprise.core.model import GenerativeModel
from reprise.models.gnm import GNM
from reprise.training.engine import choose, computing

from .straightforward import StraightforwardGNM, log_weights, plainly

MODELS: list[tuple[type[GenerativeModel[Any]], dict[str, Any]]] = [
    (GNM, {}),
    (GNM, {"interaction": "cnn"}),
    (GNM, {"global_prior": "gaussian"}),
    (VAE, {}),
    (ConvDRAW, {}),
]


def pair(
    cls: type[GenerativeModel[Any]], options: dict[str, Any], data: DatasetInfo
) -> tuple[GenerativeModel[Any], GenerativeModel[Any]]:
    """One set of parameters, somewhat trained (none is zero), in the fast code and in the straightforward one."""
    config = cls.recipe(data).config
    model = cls(type(config)(**{**vars(config), **options}), data)
    for module in model.modules():
        if isinstance(module, nn.ReLU):  # at its kink a rounding error turns a gradient off
            module.__class__ = nn.CELU  # type: ignore[assignment]
            module.alpha = 1.0  # type: ignore[assignment]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    plain = plainly(model)
    if isinstance(plain, GNM):
        plain.__class__ = StraightforwardGNM
    assert isinstance(plain, GenerativeModel)
    return model, plain


def loss_and_gradients(model: GenerativeModel[Any], x: Tensor, step: float) -> dict[str, Tensor]:
    torch.manual_seed(3)
    loss, _ = model.loss(x, torch.tensor(step))
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    found = {name: g for name, g in zip(names, gradients, strict=True) if g is not None}
    return {"loss": loss.detach(), **found}


@pytest.mark.parametrize(
    ("cls", "options", "channels"), [*((*each, 1) for each in MODELS), (GNM, {}, 3)]
)
@pytest.mark.parametrize("size", [64, 128])
def test_in_fp32_they_agree_on_the_loss_and_every_gradient(
    cls: type[GenerativeModel[Any]], options: dict[str, Any], channels: int, size: int
) -> None:
    model, plain = pair(cls, options, DatasetInfo("scenes", (channels, size, size), objects=10))
    x = torch.rand(3, channels, size, size)
    engine = choose("cpu", "fp32", 1)
    theirs = loss_and_gradients(plain, x, 5_000.0)
    with computing(engine):
        ours = loss_and_gradients(
            engine.place(model), x.to(memory_format=torch.channels_last), 5_000.0
        )
    assert ours.keys() == theirs.keys()
    # In colour a box's gradient is a small sum of large ones: against fp64 each of the two is off by 1e-4 to 2e-4.
    allowed = 1e-4 if channels == 1 else 3e-4
    # Layer by layer: a single bias may be the small sum of large gradients, and mostly rounding.
    layers = {name.rpartition(".")[0] for name in theirs if name != "loss"}
    for layer in sorted(layers):
        names = [name for name in theirs if name.rpartition(".")[0] == layer and name != "loss"]
        expected = torch.cat([theirs[name].flatten() for name in names])
        error = torch.cat([ours[name].flatten() for name in names]) - expected
        assert float(error.norm() / expected.norm()) < allowed, (layer, float(expected.norm()))
    assert float((ours["loss"] / theirs["loss"] - 1).abs()) < 1e-4


@pytest.mark.parametrize(("cls", "options"), MODELS)
def test_particles_in_one_batch_and_one_by_one_estimate_the_same(
    cls: type[GenerativeModel[Any]], options: dict[str, Any], half_size: DatasetInfo
) -> None:
    """Their noise differs in order, so that only the distributions of the log weights can be compared."""
    model, plain = pair(cls, options, half_size)
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        ours, theirs = model.log_weights(x, 200), log_weights(plain, x, 200)
    assert ours.shape == theirs.shape == (200, 2)
    spread = (ours.var(0) / 200 + theirs.var(0) / 200).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * spread).all()
