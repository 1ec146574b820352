"""VAE and ConvDRAW: sizes of every reading; PPCA: the closed form, and the estimators measured by it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from reprise.baselines.convdraw import ArrowConfig, ConvDRAW, ConvDRAWConfig
from reprise.baselines.ppca import PPCA, PPCAConfig
from reprise.baselines.vae import VAE, VAEConfig
from reprise.core.dataset import DatasetInfo
from reprise.nn.blocks import image_decoder
from reprise.nn.structdraw import StructDRAW

from .test_gnm import count

RGB = DatasetInfo("rgb", (3, 128, 128))


def test_decoders_have_the_size_of_the_supplements_tables() -> None:
    assert count(image_decoder(128, 3, 128)) == 244_491  # Table 9
    assert count(image_decoder(64, 1, 128)) == 170_617
    assert count(VAE(VAEConfig(latent=128), RGB).decoder) == 508_939  # Table 8
    assert count(VAE(VAEConfig(), RGB).decoder) == 377_867


def test_readings_of_the_vae_have_their_sizes() -> None:
    assert count(VAE(VAEConfig(), RGB)) == 1_420_587
    assert count(VAE(VAEConfig(latent=128), RGB)) == 1_813_931


def test_readings_of_convdraw_have_their_sizes(mnist4: DatasetInfo) -> None:
    assert count(ConvDRAW(ConvDRAWConfig(), mnist4)) == 1_670_105  # 1.670M
    assert count(ConvDRAW(ConvDRAWConfig(feed_canvas=True), mnist4)) == 1_817_561  # 1.817M
    assert count(ConvDRAW(ConvDRAWConfig(kernel=1), mnist4)) == 883_673  # 0.884M


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (ArrowConfig(), 5_053_355),
        (ArrowConfig(feed_canvas=True), 5_643_179),
        (ArrowConfig(kernel=1), 1_907_627),
        (ArrowConfig(kernel=1, z_decoder="mlp"), 4_764_715),  # 4.7M if truncated, as published
        (ArrowConfig(kernel=1, z_decoder="mlp", feed_canvas=True), 4_830_251),
    ],
)
def test_readings_of_convdraw_for_the_arrow_room_have_their_sizes(
    config: ArrowConfig, parameters: int
) -> None:
    assert count(ConvDRAW(config, RGB)) == parameters


def test_an_mlp_that_decodes_z_gives_the_mnist_readings_their_sizes(mnist4: DatasetInfo) -> None:
    for feed_canvas, parameters in ((False, 1_919_769), (True, 1_936_153)):  # 1.920M, 1.936M
        plain = ConvDRAW(ConvDRAWConfig(kernel=1, feed_canvas=feed_canvas), mnist4)
        flat = StructDRAW(
            64, interaction="cnn", kernel=1, feed_canvas=feed_canvas, flat_decoder=True
        )
        assert count(plain) - count(plain.draw) + count(flat) == parameters


@pytest.mark.parametrize("size", [128, 64])
def test_colour_chooses_the_wide_convdraw_and_its_images_have_three_channels(size: int) -> None:
    data = DatasetInfo("rgb", (3, size, size), "rgb", objects=4)
    config = ConvDRAW.recipe(data).config
    assert config == ArrowConfig()
    for z_decoder in ("cnn", "mlp"):
        model = ConvDRAW(dataclasses.replace(config, z_decoder=z_decoder, draw_steps=2), data)
        x = torch.rand(2, *data.shape)
        assert model.reconstruct(x).shape == model.sample(2).shape == x.shape
        assert model.log_weights(x, 2).shape == (2, 2)


def test_the_vae_is_the_same_on_every_dataset_but_for_its_channels() -> None:
    for channels, parameters in ((3, 1_420_587), (1, 1_419_929)):
        data = DatasetInfo("any", (channels, 128, 128))
        assert VAE.recipe(data).config == VAEConfig()
        assert count(VAE(VAEConfig(), data)) == parameters


def test_more_draw_steps_share_their_weights(mnist4: DatasetInfo) -> None:
    assert count(ConvDRAW(ConvDRAWConfig(draw_steps=8), mnist4)) == 1_670_105


@pytest.fixture(scope="module")
def ruler() -> tuple[PPCA, torch.Tensor]:
    torch.manual_seed(0)
    data = DatasetInfo("tiny", (1, 12, 12))
    model = PPCA(PPCAConfig(latent=4, widen=1.2), data)
    with torch.no_grad():
        return model, model.decode(model.prior(64)) + 0.3 * torch.randn(
            64, 1, 12, 12, dtype=torch.float64
        )


def test_the_rulers_closed_form_is_the_dense_gaussian(ruler: tuple[PPCA, torch.Tensor]) -> None:
    model, x = ruler
    covariance = model.weight @ model.weight.T + (2 * model.log_sigma).exp() * torch.eye(
        144, dtype=torch.float64
    )
    dense = torch.distributions.MultivariateNormal(model.mean, covariance).log_prob(x.flatten(1))
    assert torch.allclose(model.exact_log_marginal(x), dense)


def test_500_particles_come_within_a_twentieth_of_a_nat(ruler: tuple[PPCA, torch.Tensor]) -> None:
    model, x = ruler
    with torch.no_grad():
        error = model.log_marginal(x, 500) - model.exact_log_marginal(x)
    assert error.mean().abs() < 0.05


def test_with_the_exact_posterior_one_particle_is_enough(ruler: tuple[PPCA, torch.Tensor]) -> None:
    model, x = ruler
    exact = PPCA(PPCAConfig(latent=4, widen=1.0), DatasetInfo("tiny", (1, 12, 12)))
    exact.load_state_dict(model.state_dict())
    assert torch.allclose(exact.log_marginal(x, 1), model.exact_log_marginal(x))


def test_more_particles_tighten_the_bound(ruler: tuple[PPCA, torch.Tensor]) -> None:
    model, x = ruler
    with torch.no_grad():
        elbo, ten, hundred = (
            model.elbo(x, 100),
            model.log_marginal(x, 10),
            model.log_marginal(x, 100),
        )
    exact = model.exact_log_marginal(x).mean()
    assert elbo.mean() < ten.mean() < hundred.mean() < exact + 0.05


def test_training_the_ruler_finds_the_maximum_likelihood_noise() -> None:
    """Tipping & Bishop: σ² is the mean of the discarded eigenvalues."""
    torch.manual_seed(1)
    data = DatasetInfo("tiny", (1, 4, 4))
    x = (torch.randn(400, 2) @ torch.randn(2, 16) + 0.5 * torch.randn(400, 16)).view(400, 1, 4, 4)
    model = PPCA(PPCAConfig(latent=2), data)
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=200)

    def closure() -> float:
        optimiser.zero_grad()
        loss = model.loss(x, torch.tensor(0.0))[0]
        loss.backward()
        return loss.item()

    optimiser.step(closure)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.flatten(1).double().T, correction=0))
    assert math.exp(2 * model.log_sigma.item()) == pytest.approx(
        eigenvalues[:-2].mean().item(), rel=1e-3
    )
