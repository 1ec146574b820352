"""What the GNM protocols share: the ledger of places where paper, code and we differ.

Jiang & Ahn, "Generative Neurosymbolic Machines", NeurIPS 2020, arXiv:2010.12152. "Supplement" is its
supplementary material; "code" is the authors' released repository, read for facts only.
"""

from ..core.protocol import Deviation, Effect

CITATION = "Jiang & Ahn 2020"

# How GNM is trained, and how much of it a small tier takes.
TRAINING = (
    Deviation(
        "optimisation of GNM",
        "not stated",
        "RMSprop at 1e-4 with torch's other defaults, no decay; batches of 32, the last incomplete one dropped; "
        "gradients clipped to a norm of 1",
        "as coded; at tier mini the same, for 9,000 updates; at tier demo 300 of 16 images",
        "released configuration",
    ),
    Deviation(
        "schedules of GNM",
        "beta of the global latent: 'the first 100k steps' (supplement, section 3); no others but that of the Arrow "
        "room's background",
        "beta 0 to 1 over 100,000 steps; temperature of the presence 1 until 1,000, then to 0.5 at 20,000; prior of a "
        "presence 0.1 to 0.001 over 4,000",
        "as coded; squeezed by 0.03 at tier mini, as for a run of 300,000 steps (beta is 1 from update 3,000 of 9,000) "
        "and by 0.003 at tier demo",
        "released configuration",
    ),
    Deviation(
        "precision of training",
        "not stated",
        "fp32",
        "fp32 on CPUs, bf16 autocast on CUDA, where nobody says otherwise (--precision), with latents, densities, KLs "
        "and the renderer's weights computed in fp32; networks, products of the renderer and the VAE's last sigmoid "
        "are not. Every row names its own, and no mean is of both. What bf16 changed over 2,000 steps is in "
        "benchmarks/PRECISION.md",
        "released code",
    ),
    Deviation(
        "how much is trained on and measured at tier mini",
        "60,000 training images; test sets of 6,000",
        "the same",
        "MNIST scenes: all 60,000; ArrowRoom-R: 6,000 rendered. Measured on a fixed part of the test split: "
        "likelihoods on 256 images, boxes and z^what on 1,000 (z^what learnt from 20,000 vectors), counts on 512; "
        "S-Acc on 250 samples, D-Steps with 6,000 samples and at most 2,000 updates of the classifier",
        "section 4; tier mini's own settings",
    ),
)

# What the network is, on the MNIST scenes.
GNM = (
    *TRAINING,
    Deviation(
        "kernel of the two ConvLSTMs",
        "3 (supplement, Table 7)",
        "1",
        "1: only this gives the published 2.9M parameters (kernel 3 gives 3,848,212)",
        "supplement, Tables 3 and 7",
        (Effect("gnm_readings", "GNM", "GNM (kernel 3)"),),
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
        "'Layer/CELU' in Tables 4 to 6, 'Layer/ReLU' in 8 and 9; 'a CELU activation function … and a layer "
        "normalization' in the text",
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
        "fixed prior of boxes, on the MNIST scenes",
        "'chosen to encourage the bounding boxes to be tighter and closer to each grid center', no numbers",
        "log-odds of the scale N(-1.6, 0.1^2), which is 21.5 of 128 pixels; log ratio N(0, 0.3^2); shift N(0, 1)",
        "as coded",
        "supplement, section 3",
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
        "as coded at tier paper; 9,000 updates at tier mini and 300 at tier demo",
        "released configuration",
    ),
)

# What "beta 2" means, in the rows of that name.
BETA = (
    Deviation(
        "which KL terms the beta of GNM-β-2 multiplies",
        "'GNM and ConvDRAW with different β', no more",
        "a weight for the KL of z^g alone",
        "the KL of z^g, rising from 0 to 2 over 100,000 steps; as the other reading ('all KLs') those of z^s given z^g "
        "as well, by 2 from the first step",
        "supplement, section 2.1",
        (Effect("gnm_readings", "GNM-β-2", "GNM-β-2 (all KLs)"),),
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
        "which digits of MNIST-10 share a position, and how often quadrants are swapped",
        "'Digits in Q1 and Q3 are placed randomly and at the same within-quadrant position'; 'the quadrants are "
        "diagonally swapped at random'",
        "not released; only images are",
        "8 stands where 0 does in its quadrant and 9 where 1 does: seen in five of the published images; each of the "
        "two diagonals is swapped in half of the scenes, independently",
        "section 4, Goals and Datasets",
    ),
    Deviation(
        "which digits the scenes are made of",
        "not stated",
        "not released; only images are",
        "scenes for training and for validation are made of disjoint training digits of MNIST, test scenes of its test "
        "digits; digits that were seen in training would be easier",
        "section 4, Goals and Datasets",
    ),
    Deviation(
        "number of test images",
        "not stated",
        "6,000, of which the last incomplete batch of 128 is dropped: 5,888",
        "all 6,000 at tier paper",
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
        "the same (samples='drawn' draws z^s, too); the baselines' latents are all sampled, and the image is the "
        "decoder's mean, clamped to [0, 1]",
        "supplement, section 4.1, Rendering",
        (Effect("gnm_readings", "GNM", "GNM (z^s drawn)"),),
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
        (Effect("gnm_table1", "GNM", "GNM (as coded)"),),
    ),
    Deviation(
        "samples per image in the log-likelihood",
        "100",
        "30 in the training log",
        "100",
        "section 4, Evaluation Metrics",
        (Effect("gnm_readings", "LL", "LL of 30", "metric"),),
    ),
)
STRUCTURE_ACCURACY = (
    Deviation(
        "who judges the scene structure",
        "the authors, by eye, on 250 images per model",
        "unknown",
        "an automatic judge, on as many samples, fixed before it saw those of any model here. Validated on held-out "
        "real and altered scenes of each set (reports/judge.md, reports/arrow_judge.md); on the authors' own where "
        "they are at hand: 250 samples of MNIST-4, looked at while the judge was written; 10 inputs of the Arrow room",
        "section 4, Evaluation Metrics",
    ),
    Deviation(
        "what a drawn digit can be read as",
        "'when we cannot recognize the digit class … we also labeled those images as failure'",
        "unknown",
        "in favour of the rule, as a person who checks one reads: every class of at least 0.003 among the ten digits, "
        "and at least 0.05 times as likely as that it is no digit. Limits under which real scenes pass; digits that "
        "are nearly right are given more by them than by a reader who takes each for what it most likely is "
        "(plausible=0.5, against_none=1), and who refuses more real scenes",
        "section 4, Evaluation Metrics",
        (Effect("gnm_readings", "S-Acc", "S-Acc (likeliest digits)", "metric"),),
    ),
)
# What the authors called a success: structure alone, whatever the quality (section 4); the rules are those of data/.
_MNIST_4 = (
    "Exactly four digits, one in each quarter of the image, at mirrored places about the two centre lines. Clockwise "
    "from the top left they count up by one: c, c + 1, c + 2, c + 3."
)
_MNIST_10 = (
    "Exactly ten digits, every one from 0 to 9 once, a group in each quarter of the image: 0, 1 and 8, 9 in the upper "
    "left and the lower right, either way round; 2, 3, 4 and 5, 6, 7 in the upper right and the lower left, either way "
    "round. Within its quarter, 8 stands where 0 does in its own, and 9 where 1 does."
)
BY_HAND = {
    "S-Acc": {
        "ARROW": "Exactly four objects of one material, and the one nearest to the camera (the lowest) is an arrow. Of "
        "the other three, two have the same shape and one another; the arrow points at that one.",
        "MNIST-10": _MNIST_10,
        "MNIST-4": _MNIST_4,
        "MNIST-4-10": f"One of two rules, completely. Either: {_MNIST_4} Or: {_MNIST_10}",
    }
}
DISCRIMINATOR_STEPS = (
    Deviation(
        "the classifier of D-Steps",
        "'training steps required for the binary classifier to reach 90%': network, optimiser, rate, batch, "
        "number of samples and the images it is scored on are not stated",
        "not released",
        "GNM's image encoder and two linear layers, Adam 1e-4, 32 + 32 images, 90% on held-out images, checked "
        "every 40 steps (gray) or 100 (colour), 50,000 steps at most, the mean of five classifiers (one, and 2,000 "
        "steps, at tier mini): ranks can be compared with the paper where the numbers are not the least there is, "
        "values cannot. The rate was not set by a published number: that asks for a VAE trained to the end",
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

TRAVERSALS = (
    Deviation(
        "what is moved in a traversal",
        "one object's place alone, and a whole scene by its z^g, as a survey describes the part of section 4.1 that "
        "is not at hand",
        "no code for it",
        "the object that is surest in its image, by its z^where at the posterior's mode; z^g on the straight line "
        "between posterior draws for two images, with z^s and z^b at the mode of their priors",
        "section 4.1",
    ),
)

# What the network is, for the Arrow room, beside what GNM says of both.
GNM_ARROW = (
    Deviation(
        "kernel of the two ConvLSTMs, by the size of the Arrow room's network",
        "3 (supplement, Table 7)",
        "1",
        "1: it gives 8,636,446 parameters, the published 8.6M; kernel 3 gives 12,306,462",
        "supplement, Tables 3 and 7",
    ),
    Deviation(
        "channels of the background decoder",
        "4 (supplement, Table 6)",
        "3",
        "3: a fourth has no use, for the background has no mask",
        "supplement, Table 6",
    ),
    Deviation(
        "head of q(z^s | f^x) and p(z^s | f)",
        "one stack of convolutions, 128, 128, 70, kernels not stated (supplement, Table 7): 70 = 64 + 4 + 1 + 1 "
        "counts latents",
        "four separate convolutions behind a shared trunk; 139 channels, of means and deviations",
        "as coded",
        "supplement, Table 7",
    ),
    Deviation(
        "what masks and presence multiply when an image is rendered",
        "the responsibilities alone; M is the sum of the pasted masks, of absent objects too (Algorithm 2)",
        "mask times presence multiplies the colours, the responsibilities and M",
        "as coded; rendering=paper is Algorithm 2 to the letter",
        "supplement, Algorithm 2",
        (Effect("gnm_readings", "GNM", "GNM (Algorithm 2)"),),
    ),
    Deviation(
        "how M is kept below 1",
        "min(sum of masks, 1)",
        "clamped to [1e-15, 1 - 1e-15], with the gradient of the sum itself",
        "as coded; rendering=paper takes the minimum, with its gradient",
        "supplement, Algorithm 2",
        (Effect("gnm_readings", "GNM", "GNM (Algorithm 2)"),),
    ),
    Deviation(
        "mask curriculum",
        "in the early iterations each object's own mask is 0.9 all over its box",
        "for 499 steps M is 0.9 all over the image, whatever the boxes, and presences are at most 0.99",
        "as coded; curriculum=boxes fills the boxes, curriculum=off has none and a background weight of 1 throughout",
        "supplement, section 3",
        (
            Effect("gnm_curriculum", "GNM", "GNM (curriculum in boxes)"),
            Effect("gnm_curriculum", "GNM", "GNM (no curriculum)"),
        ),
    ),
    Deviation(
        "mask curriculum and the weight of where's prior, at the shorter tiers",
        "not applicable",
        "not applicable",
        "499 and 500 updates at tier mini, 100 at tier demo: not squeezed like the schedules, or boxes would have 15 "
        "updates to find objects",
        "released configuration",
    ),
    Deviation(
        "auxiliary losses, for the Arrow room",
        "presence, where and what (eq. 4), and the background with a weight from 50 to 1 over 50,000 steps (eq. 5)",
        "also depth; where, depth and what multiplied by the sampled presence; where with a weight from 10 to 1 "
        "over 500 steps",
        "as coded",
        "supplement, section 3",
    ),
    Deviation(
        "fixed prior of boxes, in the Arrow room",
        "'chosen to encourage the bounding boxes to be tighter and closer to each grid center', no numbers",
        "log-odds of the scale N(-1.5, 0.1^2), which is 23 of 128 pixels; log ratio N(0, 0.3^2); shift N(0, 1)",
        "as coded",
        "supplement, section 3",
    ),
)

# The ablations that the paper announces; their architecture and results are not in the parts we have.
ABLATIONS = (
    Deviation(
        "global latent of GNM-Gaussian",
        "'the same as VAE': a 2-layer CNN of 128, 128 channels, kernels 3 and 4, on the image encoding (supplement, "
        "section 4.2); no word on what leads from z^g to the scene",
        "not released",
        "one vector of 128 dimensions, p = N(0, I); an MLP of 512, 512 in the CNN's place, and of 512, 512 (MNIST "
        "scenes) or 512, 1024 (Arrow room) down: 2.1M and 6.8M parameters",
        "section 3.3",
    ),
    Deviation(
        "background prior of GNM-NoMLP",
        "not stated",
        "not released",
        "z^g is a map there: the MLP takes its mean over places, 128 numbers as in GNM",
        "ours",
    ),
    Deviation(
        "GNM-NoMLP and ConvDRAW-MLP",
        "ablations are announced (goal iii), none is described in the copy at hand: names and networks are ours",
        "not released",
        "each takes the other's: GNM with ConvDRAW's two-layer CNN and a spatial z^g, ConvDRAW with GNM's MLP, which "
        "lets all cells interact",
        "section 4; supplement, sections 4.1 and 4.2",
    ),
)

AVERAGE_PRECISION = (
    Deviation(
        "interpolation of the average precision",
        "'average precision', no more",
        "not released; that of SPACE, by the same group, takes precision at 11 recalls, the last of them 1",
        "the same 11 points, whose ceiling is 10/11 = 0.909 unless every object is found: the published values are "
        "0.905 and 0.906. COCO's 101 points stand in gnm_representation",
        "supplement, section 2.2 and Table 2; SPACE's released evaluation",
    ),
    Deviation(
        "which predictions count",
        "not stated",
        "not released; SPACE's: presence above 0.5, which is also the confidence, and sampled boxes",
        "presence above 0.5, which is also the confidence, and boxes at the posterior mean; equal confidences are "
        "taken together, so that the order of the images has no part in it",
        "supplement, section 2.2; SPACE's released evaluation",
    ),
    Deviation(
        "the true boxes",
        "'the ground-truth boxes'",
        "not released",
        "the tight box of a digit's pixels above 0, which fits the published 0.45-0.49 at the stricter thresholds: "
        "inferred boxes leave about 2 pixels around a digit, and 24 x 24 over 20 x 20 is an IoU of 0.69",
        "supplement, section 2.2",
    ),
)

WHAT_CLASSIFICATION = (
    Deviation(
        "the classifier of z^what",
        "'a two-layer MLP' and 'the digit label of the nearest object'; width, training, training data, sample or "
        "mean, and how near the nearest must be are not stated",
        "not released",
        "posterior means of up to 200,000 training objects (tier mini: 20,000), standardised; 256 hidden units, ReLU, "
        "Adam 1e-3, 20 epochs of which the best on validation objects is kept; objects over 10 pixels from any true "
        "one are left out",
        "supplement, section 2.2",
    ),
)

UNKNOWN_NUMBERS = (
    Deviation(
        "the published numbers",
        "section 4 announces a study of the hyperparameters and ablations; the copy at hand ends before them",
        "not released",
        "no published value is laid beside these cells, except those that Table 1 and the supplement's Table 1 print",
        "section 4",
    ),
)

# What the images of the Arrow room are: in every item with an ArrowRoom-R column.
ARROW_ROOM = (
    Deviation(
        "which images",
        "the Arrow room",
        "an archive behind short links, without checksums",
        "ArrowRoom-R, rendered here by the paper's rule: its numbers are not the Arrow room's; "
        "source='archive' reads the published files where a user has them",
        "section 4, Goals and Datasets; released repository, README",
    ),
    Deviation(
        "where objects stand, and how large they are",
        "not stated, but that the arrow is nearest to the camera",
        "the generator was not released",
        "uniform in four zones that give the positions and sizes measured on the published samples and inputs; nothing "
        "touches, and at most half of an object's box is hidden or outside",
        "reports/arrow_room.md",
    ),
    Deviation(
        "where the arrow points",
        "at the object of the odd shape",
        "the generator was not released",
        "at its centre, with an error uniform within 3 degrees",
        "section 4, Goals and Datasets",
    ),
    Deviation(
        "which two shapes and where the odd one stands",
        "two of the three share a shape",
        "the generator was not released",
        "the ordered pair of different shapes, the odd one's place, each colour, the material: uniform and independent",
        "section 4, Goals and Datasets",
    ),
    Deviation(
        "renderer",
        "'a 3D space similar to CLEVR'",
        "the generator was not released; CLEVR's uses Blender's Cycles",
        "Mitsuba 3 with CLEVR's camera (no jitter), ground, colours and lamps; the sun's strength fitted to the "
        "published inputs; rubber without its velvet layer, metal without anisotropy and caustics, few reflections",
        "Johnson et al. 2017, released generator; reports/arrow_room.md",
    ),
)
