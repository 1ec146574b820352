"""The ledger of what GNM is compared with: where the paper, the baselines' own code and we differ.

Jiang & Ahn 2020 (see _gnm.py) released no code of their comparisons.
"""

from ..core.protocol import Deviation, Effect

CONVDRAW = (
    Deviation(
        "architecture of ConvDRAW",
        "kernel 3, no wiring given for z; 4.7M parameters for the Arrow room, 1.5M on MNIST",
        "not released",
        "kernel 3, Algorithm 1's wiring, a convolution decoding z: 5,053,355 and 1,670,105; no reading gives 4.7M and "
        "1.5M at once (kernel 1 and an MLP decoding z: 4,764,715 and 1,919,769)",
        "supplement, section 4.2, Tables 3, 7 and 9",
        (Effect("gnm_readings", "ConvDRAW", "ConvDRAW (4.8M)"),),
    ),
)

VAE = (
    Deviation(
        "width of the VAE's latent",
        "a head of 128 channels and a decoder that takes 128",
        "not released",
        "64 dimensions (the head gives mean and deviation), the encoder 128 wide on every dataset: 1.42M parameters; "
        "128 dimensions (1.81M) are the option latent",
        "supplement, section 4.2, Tables 3 and 8",
        (Effect("gnm_readings", "VAE", "VAE (128 dimensions)"),),
    ),
)

BASELINE_TRAINING = (
    Deviation(
        "how the baselines are trained",
        "not stated",
        "not released",
        "as GNM: RMSprop 1e-4, batch 32, gradient norm 1, the same number of steps, sigma 0.2, KL warm-up 100,000; at "
        "tier demo ConvDRAW takes 120 steps and its warm-up is squeezed to them",
        "supplement, section 4.2 says nothing",
    ),
)

GENESIS = (
    Deviation(
        "size of GENESIS",
        "13.9M parameters on every dataset (supplement, Table 3)",
        "GENESIS's own code: 13,397,732 in colour, 13,393,890 in gray",
        "13.4M, the official widths: no width is stated that would give 13.9M",
        "supplement, Table 3; released code of GENESIS",
    ),
    Deviation(
        "learning rate of GENESIS",
        "'starts with a higher value and reset to a lower one in a few thousand steps': neither rates nor step",
        "GENESIS's own: Adam at a constant 1e-4; GNM's authors' version was not released",
        "GENESIS's own, batch 32, no clipping of gradients. On MNIST-4 a start at 1e-3 ended in sigmoids saturated at "
        "black (logits of -90 and less), where all gradients end; on 32 pixels with GECO so did one at 3e-4. A "
        "rate that falls is the options training.lr, lr_until and lr_after",
        "supplement, section 4.2",
    ),
    Deviation(
        "objective of GENESIS",
        "the evidence lower bound with beta 15 on the Arrow room and 10 on MNIST, instead of GECO",
        "GENESIS's own: GECO with goal 0.5655 per pixel and channel",
        "as the supplement, beta constant from the first step; GECO is the option objective='geco', its goal the "
        "squared error that 0.5655 means at that code's sigma of 0.7: at 0.2 a black image would meet 0.5655",
        "supplement, section 4.2",
        (Effect("gnm_readings", "GENESIS", "GENESIS (GECO)"),),
    ),
    Deviation(
        "layers of GENESIS's broadcast decoder",
        "3",
        "4 in GENESIS's own code",
        "3; 4 is the option decoder_layers",
        "supplement, section 4.2",
        (Effect("gnm_readings", "GENESIS", "GENESIS (4 layers)"),),
    ),
    Deviation(
        "number of components of GENESIS",
        "not stated",
        "not released",
        "the most objects of an image and one for the background: 5 on the Arrow room and MNIST-4, 11 with MNIST-10",
        "supplement, section 4.2 says nothing",
    ),
    Deviation(
        "standard deviation of GENESIS's components",
        "not stated",
        "0.7 in GENESIS's own code, which bounds log p(x) below every published value",
        "0.2 for all components, as the other models",
        "Table 1; D(-ln sigma - ln(2 pi)/2) bounds log p(x | z)",
    ),
    Deviation(
        "length of GENESIS's training",
        "not stated",
        "500,000 updates in GENESIS's own code",
        "1,125,000, as all models of a dataset; since a step costs many times one of GNM, 2,500 of 8 images at tier "
        "mini, and 20 of 8 at tier demo",
        "supplement, section 4.2 says nothing",
    ),
    Deviation(
        "the mixture in GENESIS's likelihood",
        "log of a sum over components",
        "log(sum(exp(.))), which can underflow",
        "logsumexp, with the masks in logs from stick breaking on; batch normalisation by running statistics",
        "released code of GENESIS",
    ),
    Deviation(
        "batch normalisation in GENESIS's mask decoder",
        "not stated",
        "the last mask is decoded, then replaced by what the others leave",
        "K - 1 masks are decoded; in training their statistics are taken together over all K - 1",
        "released code of GENESIS",
    ),
)

SPACE = (
    Deviation(
        "length of SPACE's training",
        "not stated",
        "160,000 updates in SPACE's released settings for rooms",
        "160,000; at tier mini 9,000, with the schedules of its priors squeezed by 0.03; at tier demo 80, since a step "
        "in colour costs three of GNM",
        "released code",
    ),
    Deviation(
        "how SPACE was set up for MNIST-4 and MNIST-10",
        "not stated",
        "settings for Atari and for three-dimensional rooms only",
        "a 4 x 4 grid, no background module but N(x; 0, 0.2²), no boundary loss, z^what of 20 dimensions, GNM's fixed "
        "priors (scale -1.6 ± 0.1, presence 0.1 to 0.001 in 4,000 steps), temperature 2.5, RMSprop 1e-4, batch 32, "
        "160,000 steps: not the published setting, which is unknown",
        "supplement, Table 2",
    ),
    Deviation(
        "KL of cells without an object, in SPACE",
        "p(z^where), p(z^depth) and p(z^what) to the power of z^pres: such a cell has none of them",
        "every cell pays for all of its latents, present or not",
        "as coded in colour; on MNIST times the relaxed z^pres, since without a background module and with the KL of "
        "every cell nearly all cells stayed present in a trial",
        "Lin et al. 2020, section 2, whose text was not at hand: to be checked; released code",
    ),
    Deviation(
        "parameters of SPACE's foreground",
        "not stated",
        "2,358,191, of which 1,024 are the constant frame of the boundary loss, frozen",
        "2,357,167: the frame is a buffer",
        "released code",
    ),
    Deviation(
        "weights of SPACE's mixture likelihood",
        "alpha, 1 - alpha and the masks: they sum to 1",
        "1e-5 added to each inside the logarithm, so that p(x | z) integrates to more than 1",
        "1e-5 added, then divided by the sum: a density, at most 3.5 nats per image lower in colour and 0.4 in grey",
        "Lin et al. 2020, section 2; released code",
    ),
    Deviation(
        "SPACE's mean image",
        "not stated",
        "not known",
        "the mean of p(x | z): alpha x_fg + (1 - alpha) x_bg",
        "Lin et al. 2020, section 2",
    ),
    Deviation(
        "where SPACE's prior of the first mask comes from",
        "an autoregressive prior",
        "an LSTM over the posterior's draws, with learned initial states",
        "the first prior is read off the learned initial state; only this gives the 2,950,484 parameters without a "
        "learned first input",
        "released code",
    ),
    Deviation(
        "presence in SPACE's log-likelihood",
        "Bernoulli",
        "none is computed",
        "drawn and scored as Bernoulli, against the fixed priors at the end of their schedules; the relaxed reading is "
        "an option",
        "as for GNM",
    ),
    Deviation(
        "how SPACE's samples are drawn",
        "not stated: SPACE has no learned prior over layouts",
        "none are drawn",
        "every latent from its fixed prior at the end of the schedules",
        "Lin et al. 2020, section 2",
    ),
)
