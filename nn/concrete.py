"""Concrete (Gumbel-softmax) relaxations of discrete variables (Maddison et al., Jang et al., ICLR 2017).

Both in a space without boundaries: a binary variable as its logit y, a categorical one as log-weights v whose
exponentials sum to one. There the densities are finite: those of torch's LogitRelaxedBernoulli and
ExpRelaxedCategorical.

Draws and densities are computed in fp32 (or fp64) whatever the precision of the network: noise in bf16 has 256 values,
too few for the tail that decides between slots.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .distributions import uniform


def binary(logit: Tensor, temperature: Tensor | float) -> Tensor:
    """A reparametrised draw y, of which sigmoid(y) is the relaxed variable in (0, 1)."""
    logit = _wide(logit)
    u = uniform(logit).clamp(1e-7, 1 - 1e-7)
    return (logit + u.log() - (-u).log1p()) / temperature


def binary_log_prob(y: Tensor, logit: Tensor, temperature: Tensor | float) -> Tensor:
    """Log-density of y, elementwise: log T - T y + l - 2 softplus(l - T y)."""
    y, logit = _wide(y), _wide(logit)
    temperature = _like(y, temperature)
    inner = logit - temperature * y
    return temperature.log() + inner - 2 * F.softplus(inner)


def categorical(logits: Tensor, temperature: Tensor | float) -> Tensor:
    """A reparametrised draw v of logits (..., M): log-weights (..., M), of which exp(v) lies on the simplex."""
    logits = _wide(logits)
    u = uniform(logits).clamp(1e-20, 1 - 1e-7)
    return ((logits - (-u.log()).log()) / temperature).log_softmax(-1)


def categorical_log_prob(v: Tensor, log_probs: Tensor, temperature: Tensor | float) -> Tensor:
    """Log-density of v (..., M) on the simplex: (...,). log_probs need not be normalised."""
    v, log_probs = _wide(v), _wide(log_probs)
    temperature = _like(v, temperature)
    m = v.shape[-1]
    inner = log_probs - temperature * v
    constant = math.lgamma(m) + (m - 1) * temperature.log()
    return constant + inner.sum(-1) - m * inner.logsumexp(-1)


def _like(x: Tensor, number: Tensor | float) -> Tensor:
    """The number as x is, made on its device: one that is sent there makes the host wait."""
    return number.to(x.dtype) if isinstance(number, Tensor) else x.new_full((), number)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
