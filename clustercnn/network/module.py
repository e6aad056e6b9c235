# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""ClusterModule: scaling, encoder, photometry and heads as one torch module."""

import torch
from torch import nn

from clustercnn.psf_powers import NODES

from .encoders import CompactResNet, PhotometryBranch, ResNet50, renormalize, stretch
from .heads import ClassHead, FlowHead, GridHead, VisibilityGrid, VisibilityHead

__all__ = ["ENCODERS", "HEADS", "SCALINGS", "TOLD", "ClusterModule"]

ENCODERS = {"compact": CompactResNet, "resnet50": ResNet50}
HEADS = ("flow", "grid")
SCALINGS = ("fixed", "renormalized")
TOLD = ("depth", "zero_point_error", "psf")  # what a module with conditions may be told of a batch, in the order of its arguments
UNKNOWN = -2.0  # what the encoder sees where a pixel is unknown: lower than any noise
SAME_PSF = 0.03  # natural logarithm of the powers up to which a PSF is that of the contract
OWN_PSF = 5.0  # what the heads see of that one, 0 of others; with 1 the weights of a last lesson would grow too slowly


class ClusterModule(nn.Module):
    """
    The torch module: scaling, encoder, photometry branch and heads.

    Parameters
    ----------
    bands, shape : int, tuple of int
        Number of bands and shape of the stamps (ny, nx).
    space : `~clustercnn.parameters.ParameterSpace`
        The box of parameters.
    encoder, head, photometry, scaling, conditions
        As for `ClusterNet`.
    features : int
        Length of what the heads see, without the one number that conditions add. The paper's network, ``resnet50`` and ``grid`` alone,
        has no layer in between: its heads see the 1024 features of the encoder.
    """

    def __init__(self, bands, shape, space, encoder, head, photometry, scaling, conditions=False, features=128):
        super().__init__()
        self.scaling = scaling
        self.conditions = conditions
        #: Whether the encoder works in bfloat16; None: on a GPU.
        self.half_precision = None
        self.register_buffer("scales", torch.ones(bands), persistent=False)
        self.encoder = ENCODERS[encoder](bands).to(memory_format=torch.channels_last)
        self.photometry = PhotometryBranch(bands, shape) if photometry else None
        width = self.encoder.features + (self.photometry.features if photometry else 0) + (((2 + len(NODES)) * bands + 1) if conditions else 0)
        if encoder == "resnet50" and width == self.encoder.features:
            features, self.merge = width, nn.Identity()
        else:
            self.merge = nn.Sequential(
                nn.Linear(width, features), nn.SiLU(), nn.Linear(features, features), nn.LayerNorm(features)
            )
        features += int(conditions)
        bounds = space.bounds
        if head == "flow":
            self.posterior, self.visibility = FlowHead(features, bounds), VisibilityHead(features, len(bounds))
            self.cluster = ClassHead(features)
        else:
            self.posterior, self.visibility = GridHead(features, bounds, space.bins), VisibilityGrid(features)
            self.cluster = ClassHead(features, hidden=None)

    def forward(self, pixels, depth=None, zero_point_error=None, psf=None):
        """
        What the heads see of stamps.

        Parameters
        ----------
        pixels : `~torch.Tensor`
            Electron/s, shape (n, band, ny, nx); NaN where unknown, if the module takes conditions.
        depth : `~torch.Tensor`, optional
            Decimal logarithm of the exposure over that of the contract, shape (n, band). Default 0. A renormalized network does not
            look at it.
        zero_point_error : `~torch.Tensor`, optional
            Standard deviation of the zero points, mag, shape (n,). Default 0.
        psf : `~torch.Tensor`, optional
            How much sharper or wider the PSFs are than those of the contract, shape (n, band, 3); see `~clustercnn.psf_powers`. Default 0.

        Returns
        -------
        features : `~torch.Tensor`
            Shape (n, features), with conditions (n, features + 1): the last one tells whether the PSF is that of the contract, which
            is known in every detail; of another one the powers tell most, not all, so that its posteriors are a little wider.
        """
        pixels, known = self.scaled(pixels)
        stretched = stretch(pixels)
        if self.conditions:
            stretched = torch.where(known, stretched, UNKNOWN)
        stretched = stretched.contiguous(memory_format=torch.channels_last)
        half = pixels.is_cuda if self.half_precision is None else self.half_precision
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=half):
            seen = [self.encoder(stretched).float()]
        present = known.flatten(2).any(-1).float() if self.conditions else None
        if self.photometry is not None:
            seen.append(self.photometry(pixels, present))
        if self.conditions:
            depth, error, powers = self.told(present, depth, zero_point_error, psf)
            seen += [present, depth, 5 * error[:, None], powers.flatten(1)]  # all of order unity
        features = self.merge(torch.cat(seen, -1))
        return torch.cat([features, OWN_PSF * has_own_psf(powers)[:, None]], -1) if self.conditions else features

    def told(self, present, depth=None, zero_point_error=None, psf=None):
        """
        What it takes into account of what it is told, all of it: nothing of bands that are not there, and no depth if renormalized.

        Parameters
        ----------
        present : `~torch.Tensor`
            1 for bands that are there, 0 for others, shape (n, band).
        depth, zero_point_error, psf : `~torch.Tensor`, optional
            As for `forward`.
        """
        if depth is None or self.scaling == "renormalized":  # the exposure and the noise together would tell the calibration
            depth = torch.zeros_like(present)
        error = torch.zeros_like(present[:, 0]) if zero_point_error is None else zero_point_error
        powers = present.new_zeros(*present.shape, len(NODES)) if psf is None else psf * present[..., None]
        return depth * present, error, powers

    def scaled(self, pixels):
        """Pixels of about the noise of one, with medians where unknown; and which are known, None for a module without conditions."""
        pixels = renormalize(pixels) if self.scaling == "renormalized" else pixels / self.scales[:, None, None]
        if not self.conditions:
            return pixels, None
        known = torch.isfinite(pixels)
        return _filled(pixels, known), known

    def losses(self, batch, exact=False):
        """
        Losses of a batch and their weights.

        Parameters
        ----------
        batch : dict of `~torch.Tensor`
            As of `~clustercnn.simulation.MockStream`, with ``zero_point_error`` where there is one.
        exact : bool
            Whether the nll is that of the posterior, without the label smoothing of the grid head.

        Returns
        -------
        losses : dict of tuple
            ``nll``, ``class`` and ``visibility``: the sum of the loss, and the number of stamps that it is of: for the class all
            of them, else the positives.
        """
        features = self(batch["pixels"], *(batch.get(name) for name in TOLD))
        positive = batch["is_cluster"] > 0.5
        n = int(positive.sum())
        losses = {"class": (self.cluster.loss(features, batch["is_cluster"]), len(features))}
        if n == 0:
            # The first stamp at weight 0, so that all parts of the network have a gradient, be it 0.
            positive[0] = True
        coordinates = batch["parameters"][positive].nan_to_num(float(self.posterior.lower[0]))
        features, visibility = features[positive], batch["visibility"][positive].nan_to_num(1.0)
        unit = self.posterior.to_unit(coordinates)
        density = self.posterior.log_prob(features, coordinates) if exact else -self.posterior.loss(features, coordinates)
        weight = min(n, 1)
        losses["nll"] = -weight * density.sum(), n
        losses["visibility"] = -weight * self.visibility.log_prob(features, unit, visibility).sum(), n
        return losses

    def say(self, features, normals):
        """
        What the heads say of stamps.

        Parameters
        ----------
        features : `~torch.Tensor`
            Of the stamps, as `forward` gives them, shape (n, features).
        normals : `~torch.Tensor`
            Standard normal numbers, shape (n, draws, d + 2).

        Returns
        -------
        coordinates, visibility, p_cluster : `~torch.Tensor`
            Shapes (n, draws, d), (n, draws) and (n,).
        """
        coordinates = self.posterior.transport(features, normals[..., :-2])
        visibility = self.visibility.transport(features, self.posterior.to_unit(coordinates), normals[..., -2:])
        return coordinates, visibility, self.cluster(features).sigmoid()


def has_own_psf(powers):
    """Which stamps are seen through the PSF of the contract, from powers of shape (n, band, 3)."""
    return powers.abs().flatten(1).amax(1) <= SAME_PSF


def _filled(pixels, known):
    """Pixels with the median of their stamp and band where unknown, 0 where all are."""
    bad = torch.nonzero(~known.flatten(2).all(-1), as_tuple=True)
    if len(bad[0]):
        part = pixels[bad]
        median = part.flatten(1).nanmedian(-1).values.nan_to_num(0.0)
        pixels = pixels.clone()
        pixels[bad] = torch.where(known[bad], part, median[:, None, None])
    return pixels
