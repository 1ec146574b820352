"""What the authors released for each kind of data; where their paper reads otherwise, or leaves it open, an option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...core.model import evaluation_option


@dataclass(frozen=True)
class GNMConfig:
    """The authors' released configuration for their MNIST sets, where the paper is silent, and the paper's variants."""

    draw_steps: int = 4  # L; 8 is "GNM-8"
    beta: float = 1.0  # final weight of the KL of z^g; 2 is "GNM-β-2"
    # which KLs beta multiplies is not stated (supplement, section 2.1); "all": those of z^s too, from the first step
    beta_on: Literal["global", "all"] = "global"
    global_prior: Literal["structdraw", "gaussian"] = "structdraw"  # "gaussian": GNM-Gaussian
    interaction: Literal["mlp", "cnn"] = "mlp"  # "cnn": GNM-NoMLP
    kernel: int = 1  # of the LSTMs; Table 7 prints 3, the parameter count of Table 3 proves 1
    width: int = 64  # D_e
    what: int = 20
    sigma: float = 0.2  # of the likelihood; not in the paper, config
    scale_mean: float = (
        -1.6
    )  # fixed prior of the pre-sigmoid scale: sigmoid(-1.6) = 0.168, 21.5 px of 128
    scale_std: float = 0.1
    ratio_std: float = 0.3
    presence_logit: float = 8.8  # logits are 8.8 tanh(.), so p(z_pres) in [1.5e-4, 0.99985]
    beta_until: float = 100_000  # beta: 0 -> beta (supplement 3: "the first 100k steps")
    temperature_from: float = 1_000  # tau: 1 -> 0.5
    temperature_until: float = 20_000
    rate_until: float = 4_000  # rho: 0.1 -> 0.001
    # How z_pres is drawn and scored in log_weights. "relaxed" is what the authors' code does: a relaxed draw, scored
    # with the Bernoulli formula, which is the density of nothing and no bound.
    presence: Literal["discrete", "relaxed"] = evaluation_option("discrete")
    # z^s and z^b of a sample: their mode given z^g, as the authors draw them, or a draw from p(z^s, z^b | z^g).
    samples: Literal["mode", "drawn"] = evaluation_option("mode", scores=False)


@dataclass(frozen=True)
class ArrowConfig(GNMConfig):
    """The authors' released configuration for the Arrow room; what a reading of the paper would change is an option."""

    width: int = 128
    what: int = 64
    scale_mean: float = -1.5  # sigmoid(-1.5) = 0.182, 23 px of 128
    background: int = 10  # dimensions of z^b
    # "paper": Algorithm 2 to the letter, where an object's colour is multiplied by neither its mask nor its presence,
    # and its part in M not by its presence, so that an absent object still hides the background
    rendering: Literal["code", "paper"] = "code"
    # In the first steps objects must explain the image. "image": M = mask_value everywhere, z_pres <= 0.99 (code).
    # "boxes": each object's own mask is mask_value all over its box (supplement, section 3). "off": neither, and the
    # weight of the background's fixed prior is 1 throughout.
    curriculum: Literal["image", "boxes", "off"] = "image"
    mask_value: float = 0.9
    mask_until: float = 499  # the code's steps 1 to 499, which are 0 to 498 here
    beta_background: float = 50.0  # beta_b: 50 -> 1
    beta_background_until: float = 50_000
    beta_where: float = 10.0  # weight of where's fixed prior: 10 -> 1; not in the paper
    beta_where_until: float = 500
