"""What the GNM protocols share: the ledger of places where paper, code and we differ.

Jiang & Ahn, "Generative Neurosymbolic Machines", NeurIPS 2020, arXiv:2010.12152. "Supplement" is its
supplementary material; "code" is the authors' released repository, read for facts only.
"""

from ..core.protocol import Deviation

CITATION = "Jiang & Ahn 2020"

# What the network is, on the MNIST scenes.
GNM = (
    Deviation(
        "kernel of the two ConvLSTMs",
        "3 (supplement, Table 7)",
        "1",
        "1: only this gives the published 2.9M parameters (kernel 3 gives 3,848,212)",
        "supplement, Tables 3 and 7",
    ),
    Deviation(
        "last layer of the image encoder",
        "no normalisation, no activation (supplement, Table 4)",
        "CELU, then GroupNorm, as on every other layer",
        "as coded",
        "supplement, Table 4",
    ),
    Deviation(
        "order inside a layer",
        "'Layer/CELU' in Tables 4-9, 'a CELU and a layer normalization' in the text",
        "activation first, then GroupNorm with one group",
        "as coded",
        "supplement, section 4.1",
    ),
    Deviation(
        "initial states of the ConvLSTMs",
        "zero (supplement, Algorithm 1)",
        "learned, starting at zero",
        "learned",
        "supplement, Algorithm 1",
    ),
    Deviation(
        "input of the decoder ConvLSTM",
        "the decoded z^g alone (Algorithm 1); with the feature map drawn so far (the text of 4.1)",
        "both",
        "both",
        "supplement, section 4.1 and Algorithm 1",
    ),
    Deviation(
        "widths on the MNIST scenes",
        "one table for all datasets (supplement, Tables 4-7)",
        "width 64, z^what of 20 dimensions, another glimpse decoder",
        "as coded: it gives the published 2.9M parameters",
        "supplement, Tables 3-7",
    ),
    Deviation(
        "rendering of the MNIST scenes",
        "responsibilities, masks and a background, as for the Arrow room (Algorithm 2)",
        "the sum of the pasted glimpses: no mask, no depth, no background",
        "as coded; z^depth is still sampled and still pays its KL",
        "supplement, Algorithm 2",
    ),
    Deviation(
        "auxiliary losses",
        "presence, where and what (supplement, eq. 4)",
        "also depth; where, depth and what multiplied by the sampled presence",
        "as coded",
        "supplement, section 3",
    ),
    Deviation(
        "standard deviation of the likelihood",
        "not stated",
        "0.2",
        "0.2: the published log-likelihoods are out of reach of any value above about 0.20",
        "Table 1; D(-ln sigma - ln(2 pi)/2) bounds log p(x | z)",
    ),
    Deviation(
        "length of training",
        "not stated",
        "600 epochs of 1,875 steps",
        "as coded at tier paper; shorter tiers squeeze every schedule by the same factor",
        "released configuration",
    ),
)

# What "beta 2" means, in the rows of that name.
BETA = (
    Deviation(
        "which KL terms the beta of GNM-β-2 multiplies",
        "'GNM and ConvDRAW with different β', no more",
        "a weight for the KL of z^g alone",
        "the KL of z^g, rising from 0 to 2 over 100,000 steps",
        "supplement, section 2.1",
    ),
)

# The comparisons, whose code was not released.
CONVDRAW = (
    Deviation(
        "architecture of ConvDRAW",
        "kernel 3, no wiring given for z; 1.5M parameters on MNIST",
        "not released",
        "kernel 3, Algorithm 1's wiring, a convolution decoding z: 1.67M; no reading gives 1.5M and 4.7M at once",
        "supplement, section 4.2, Tables 3, 7 and 9",
    ),
)
VAE = (
    Deviation(
        "width of the VAE's latent",
        "a head of 128 channels and a decoder that takes 128",
        "not released",
        "64 dimensions (the head gives mean and deviation); 1.42M parameters",
        "supplement, section 4.2, Tables 3 and 8",
    ),
)
BASELINE_TRAINING = (
    Deviation(
        "how the baselines are trained",
        "not stated",
        "not released",
        "as GNM: RMSprop 1e-4, batch 32, gradient norm 1, the same number of steps, sigma 0.2, KL warm-up 100,000",
        "supplement, section 4.2 says nothing",
    ),
)

# What the images are.
SCENES = (
    Deviation(
        "how digits are cut and where they lie",
        "'random position in the top-left quadrant'",
        "not released; only images are",
        "tight crop, centred in 20 x 20 pixels, offsets uniform in 0..44, at least 24 pixels apart within a quadrant: "
        "inferred from the authors' published samples",
        "section 4, Goals and Datasets",
    ),
    Deviation(
        "number of test images",
        "not stated",
        "6,000, of which the last incomplete batch of 128 is dropped: 5,888",
        "all 6,000",
        "released data loader",
    ),
)
MNIST410 = (
    Deviation(
        "mixture of MNIST-4 and MNIST-10",
        "'by combining datasets MNIST-4 and MNIST-10'",
        "not released",
        "half of each, 60,000 training images",
        "supplement, section 2.1",
    ),
)

# How a model's samples are drawn.
SAMPLING = (
    Deviation(
        "how GNM's samples are drawn",
        "the mode of z^s below a sampled z^g",
        "the same",
        "the same; the baselines' latents are all sampled, and the image is the decoder's mean, clamped to [0, 1]",
        "supplement, section 4.1, Rendering",
    ),
)

# How the three numbers are measured.
LOG_LIKELIHOOD = (
    Deviation(
        "presence in the log-likelihood",
        "Bernoulli (section 3.1)",
        "drawn from a relaxed Bernoulli, then scored with the Bernoulli mass: no bound on log p(x)",
        "GNM draws and scores Bernoulli presences; the row 'GNM (as coded)' does as the code does",
        "section 3.1; released training code",
    ),
    Deviation(
        "samples per image in the log-likelihood",
        "100",
        "30 in the training log",
        "100",
        "section 4, Evaluation Metrics",
    ),
)
STRUCTURE_ACCURACY = (
    Deviation(
        "who judges the scene structure",
        "the authors, by eye, on 250 images per model",
        "unknown",
        "an automatic judge, validated on held-out real and altered scenes and on the authors' own 250 samples",
        "section 4, Evaluation Metrics",
    ),
)
DISCRIMINATOR_STEPS = (
    Deviation(
        "the classifier of D-Steps",
        "'training steps required for the binary classifier to reach 90%': network, optimiser, rate, batch, "
        "number of samples and the images it is scored on are not stated",
        "not released",
        "GNM's image encoder and two linear layers, Adam 1e-4, 32 + 32 images, 90% on held-out images, checked "
        "every 40 steps (gray) or 100 (colour): ranks can be compared with the paper, values cannot",
        "section 4, Evaluation Metrics",
    ),
)
PARAMETERS = (
    Deviation(
        "which models' sizes can be met",
        "GNM 2.9M, ConvDRAW 1.5M, VAE 1.5M on the MNIST scenes",
        "GNM's gives 2,930,708; the baselines were not released",
        "GNM to the unit; ConvDRAW and the VAE as their entries above say",
        "supplement, Table 3",
    ),
)
RESAMPLING = (
    Deviation(
        "what is drawn anew in each column",
        "'different z^s sampling while fixing z^g'",
        "unknown",
        "every part of z^s from p(z^s | z^g), presence as a hard Bernoulli draw; no pixel noise",
        "supplement, Figures 5 and 6",
    ),
)

# SPACE, the comparison of the supplement's Table 2. "code": SPACE's own released repository, read for facts only.
SPACE = (
    Deviation(
        "how SPACE was set up for MNIST-4 and MNIST-10",
        "not stated",
        "settings for Atari and for three-dimensional rooms only",
        "a 4 x 4 grid, no background module but N(x; 0, 0.2²), no boundary loss, z^what of 20 dimensions, GNM's fixed "
        "priors (scale -1.6 ± 0.1, presence 0.1 to 0.001 in 4,000 steps), temperature 2.5 to 0.5 in 20,000 steps, "
        "RMSprop 1e-4, batch 32, 160,000 steps: not the published setting, which is unknown",
        "supplement, Table 2",
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
        "1e-5 added, then divided by the sum: a density, at most 2 nats per image lower",
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
