# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Are the zero points and the PSF of a stamp those that a network is told?"""

import numpy as np
import torch
from torch import nn

__all__ = ["PSF_SCATTER", "Doubt", "mistold", "shifts"]

PSF_SCATTER = 1.0  # of mocks through PSFs of which something wrong is told; see MockStream
COMMON_SHIFT, OWN_SHIFT = 1.5, 1.0  # mag, largest errors of zero points in the lessons: of all bands together, and of each by itself
COMMON_POWER, OWN_POWER = 1.5, 0.3  # the same of the logarithmic powers that tell the PSF
OTHER_PSF = 0.05  # mean powers of a band from which telling nothing of its PSF is a mistake
HIDDEN, DROPOUT = (256, 128), 0.3
FARTHEST = 6.0  # standard deviations of an input
CONSTANT = 1e-6  # standard deviation up to which nothing has been learned of an input, so that it must not count
EPOCHS, STEP, LEARNING_RATE = 30, 256, 3e-3
SEED = 20_251
READ = ("texture", "sharpness", "depth", "zero_point_error", "psf")


def shifts(n, bands, generator):
    """Errors of zero points, mag, shape (n, bands)."""
    common, own = (2 * torch.rand(n, k, generator=generator) - 1 for k in (1, bands))
    return COMMON_SHIFT * common + OWN_SHIFT * own


def mistold(seen, rng):
    """What `look` gives of stamps, with something wrong in place of their PSFs; of half of those through another PSF, nothing at all."""
    psf = seen["psf"]
    wrong = psf + COMMON_POWER * rng.uniform(-1, 1, (len(psf), 1)) + OWN_POWER * rng.uniform(-1, 1, psf.shape)
    nothing = (np.abs(psf).max(1, keepdims=True) > OTHER_PSF) & (rng.random((len(psf), 1)) < 0.5)
    return seen | {"psf": np.where(nothing, 0.0, wrong)}


class Doubt(nn.Module):
    """
    A small network that tells stamps of which the truth is told from stamps with wrong zero points or PSFs.

    The noise, the light and the colours around a source go together with its brightness, stars go together with the PSF. It reads the texture
    and the sharpness of a stamp (`~clustercnn.network.look`) and what is told of depth, zero points and PSF.

    Parameters
    ----------
    inputs : int
        How many numbers that is.
    hidden : tuple of int
        Widths of the two hidden layers.

    References
    ----------
    Hendrycks et al. 2019, https://arxiv.org/abs/1812.04606 (outlier exposure)
    """

    def __init__(self, inputs, hidden=HIDDEN):
        super().__init__()
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        first, second = hidden
        self.layers = nn.Sequential(
            nn.Linear(inputs, first), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 1)
        )

    def forward(self, inputs):
        """Log odds that something is wrong, shape (n,)."""
        return self.layers(((inputs - self.centre) / self.spread).nan_to_num().clamp(-FARTHEST, FARTHEST))[:, 0]

    @classmethod
    def fit(cls, right, wrong):
        """
        Teach one.

        Parameters
        ----------
        right, wrong : list of dict
            Of `~clustercnn.network.look`, of stamps of which the truth is told, and of others.

        Returns
        -------
        doubt : `Doubt`
        """
        inputs = torch.cat([_inputs(seen) for seen in (*right, *wrong)])
        is_wrong = torch.ones(len(inputs))
        is_wrong[: sum(len(seen["psf"]) for seen in right)] = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(SEED)
            doubt, spread = cls(inputs.shape[1]), inputs.std(0)
            doubt.centre, doubt.spread = inputs.mean(0), torch.where(spread > CONSTANT, spread, 1e30)
            optimizer = torch.optim.AdamW(doubt.parameters(), weight_decay=0.01)
            steps = EPOCHS * -(-len(inputs) // STEP)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
            for _ in range(EPOCHS):
                for rows in torch.randperm(len(inputs)).split(STEP):
                    optimizer.zero_grad()
                    nn.functional.binary_cross_entropy_with_logits(doubt(inputs[rows]), is_wrong[rows]).backward()
                    optimizer.step()
                    schedule.step()
        return doubt.eval()

    @classmethod
    def from_weights(cls, weights):
        """From its ``state_dict``."""
        with torch.random.fork_rng(devices=[]):  # for the first weights, which are not kept
            doubt = cls(len(weights["centre"]), (len(weights["layers.0.bias"]), len(weights["layers.3.bias"])))
        doubt.load_state_dict(weights)
        return doubt.eval()

    def view(self, seen):
        """The doubt of stamps of which `~clustercnn.network.look` gave ``seen``, from 0 up, shape (n, 1)."""
        with torch.inference_mode():
            return nn.functional.softplus(self(_inputs(seen)).double()).numpy()[:, None]


def _inputs(seen):
    return torch.from_numpy(np.concatenate([seen[name] for name in READ], 1)).float()
