# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Heads: what the network says of a stamp. Posteriors over the parameters, the visibility, and whether it is a cluster."""

import itertools
import math
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.transforms import MonotonicRQSTransform

__all__ = ["ClassHead", "FlowHead", "GridHead", "VisibilityGrid", "VisibilityHead", "to_probit"]

# Coordinates closer to a bound than this fraction of the range count as lying there: a probit of 0 or 1 is infinite.
EDGE = 1e-6


def to_probit(unit):
    """
    Standard normal deviate of positions on the unit interval, which are first clamped to [1e-6, 1 - 1e-6].

    Examples
    --------
    >>> import torch
    >>> from clustercnn.network.heads import to_probit
    >>> to_probit(torch.tensor([0.0, 0.5, 1.0])).round(decimals=1)
    tensor([-4.8000,  0.0000,  4.8000])
    """
    return torch.special.ndtri(unit.clamp(EDGE, 1 - EDGE))


class PosteriorHead(nn.Module):
    """
    What the posterior heads share: the box of coordinates, and sampling as a map of standard normal numbers.

    A head implements ``log_prob(features, coordinates)``, ``transport(features, normals)`` and ``loss(features,
    coordinates)``.

    Parameters
    ----------
    bounds : array_like
        Lower and upper end of each coordinate, shape (d, 2).
    """

    def __init__(self, bounds):
        super().__init__()
        bounds = torch.as_tensor(bounds, dtype=torch.float32)
        self.register_buffer("lower", bounds[:, 0].clone(), persistent=False)
        self.register_buffer("width", bounds[:, 1] - bounds[:, 0], persistent=False)
        #: Found by `ClusterNet.calibrate`: above 1 the posteriors are wider than they were trained to be.
        self.temperature = 1.0

    def to_unit(self, coordinates):
        """Position of coordinates in the box, 0 at the lower bound and 1 at the upper."""
        return (coordinates - self.lower) / self.width

    def sample(self, features, n, generator=None):
        """
        Draw from the posterior.

        Parameters
        ----------
        features : `~torch.Tensor`
            Shape (m, features).
        n : int
            Draws per source.
        generator : `~torch.Generator`, optional
            Source of randomness.

        Returns
        -------
        coordinates : `~torch.Tensor`
            Shape (m, n, d), within the bounds.
        """
        shape = (len(features), n, len(self.lower))
        return self.transport(features, torch.randn(shape, generator=generator, device=features.device))


class FlowHead(PosteriorHead):
    """
    Posterior as a normalising flow: neural coupling splines (zuko) on the probit of the unit interval.

    The base normal is the flat prior, hard edges of the prior are respected, and sampling takes two passes per layer. The
    layers run through all ways of splitting the parameters in two halves, so that each pair is coupled directly.

    Parameters
    ----------
    features : int
        Length of the feature vector.
    bounds : array_like
        Lower and upper end of each coordinate, shape (d, 2), d at least 2.
    layers : int
        Number of coupling layers.
    bins : int
        Knots of each spline.
    hidden : tuple of int
        Widths of the conditioner of each layer.

    Notes
    -----
    Positions on the unit interval are clamped to [1e-6, 1 - 1e-6], so that a coordinate on the bound has a finite density.

    References
    ----------
    Durkan et al. 2019, Neural Spline Flows, https://arxiv.org/abs/1906.04032
    """

    def __init__(self, features, bounds, layers=6, bins=8, hidden=(128, 128)):
        super().__init__(bounds)
        d = len(self.lower)
        if d < 2:
            raise ValueError(f"the flow head needs at least 2 parameters to couple, not {d}")
        halves = list(itertools.combinations(range(d), d // 2))
        halves = [half for pair in zip(halves, reversed(halves), strict=True) for half in pair][: len(halves)]
        self.layers = nn.ModuleList()
        for given in itertools.islice(itertools.cycle(halves), layers):
            adjacency = torch.eye(d, dtype=torch.bool)
            for row in set(range(d)) - set(given):
                adjacency[row, list(given)] = True
            layer = MaskedAutoregressiveTransform(
                d,
                features,
                adjacency=adjacency,
                univariate=partial(MonotonicRQSTransform, slope=1e-3),
                shapes=[(bins,), (bins,), (bins - 1,)],
                hidden_features=hidden,
                activation=nn.SiLU,
            )
            with torch.no_grad():  # start close to the identity, that is, at the prior
                layer.hyper[-1].weight.mul_(0.1)
                layer.hyper[-1].bias.zero_()
            self.layers.append(layer)

    def log_prob(self, features, coordinates):
        """
        Natural logarithm of the posterior density per unit of coordinate volume.

        Parameters
        ----------
        features : `~torch.Tensor`
            Shape (m, features).
        coordinates : `~torch.Tensor`
            Shape (m, d).

        Returns
        -------
        log_density : `~torch.Tensor`
            Shape (m,). The flat prior of the paper has -ln(3.55 * 3 * 2 * 1) = -3.06.
        """
        z = start = to_probit(self.to_unit(coordinates))
        log_volume = 0.0
        for layer in self.layers:
            z, change = layer(features).call_and_ladj(z)
            log_volume = log_volume + change
        z = z / self.temperature
        log_volume = log_volume - len(self.width) * math.log(self.temperature)
        return log_volume + 0.5 * (start.square() - z.square()).sum(-1) - self.width.log().sum()

    def loss(self, features, coordinates):
        """Negative log density, shape (m,)."""
        return -self.log_prob(features, coordinates)

    def transport(self, features, normals):
        """Coordinates (m, n, d) that standard normal numbers (m, n, d) become under the flow."""
        features = features[:, None, :]
        nothing = torch.zeros_like(normals[:, :1])
        normals = self.temperature * normals
        for layer in reversed(self.layers):
            # As `layer(features).inv`, but the first half depends on the source alone: one conditioner for all of its draws.
            first = layer.meta(features, nothing).inv(normals)
            normals = layer.meta(features, first).inv(normals)
        return self.lower + self.width * torch.special.ndtr(normals)


class GridHead(PosteriorHead):
    """
    Posterior as the paper's softmax groups: all parameters but the last jointly on a grid, the last by itself.

    For the paper's space: age x A_V x mass in 20 x 10 x 14 = 2800 classes, and half-light radius in 14.
    Within a cell the density is flat.

    Parameters
    ----------
    features : int
        Length of the feature vector.
    bounds : array_like
        Lower and upper end of each coordinate, shape (d, 2), d at least 2.
    bins : tuple of int
        Number of cells along each coordinate.
    smoothing : float
        Standard deviation, in bins, of the Gaussian that spreads a training label over its neighbours. Without it the
        2800 classes are strangers to each other.
    """

    def __init__(self, features, bounds, bins, smoothing=0.75):
        super().__init__(bounds)
        self.bins = tuple(int(n) for n in bins)
        self.smoothing = smoothing
        self.joint = nn.Linear(features, math.prod(self.bins[:-1]))
        self.last = nn.Linear(features, self.bins[-1])
        log_cell = (self.width.log() - torch.tensor(self.bins).log()).sum()
        self.register_buffer("log_cell", log_cell, persistent=False)

    def logits(self, features):
        """Of all parameters but the last jointly, shape (m, cells), and of the last, (m, bins)."""
        return self.joint(features) / self.temperature, self.last(features) / self.temperature

    def activation(self, features):
        """Softmax cube of all parameters but the last, shape ``(m, *bins[:-1])``."""
        return self.logits(features)[0].softmax(-1).unflatten(-1, self.bins[:-1])

    def log_prob(self, features, coordinates):
        """Natural logarithm of the density per unit of coordinate volume, shape (m,); see `FlowHead.log_prob`."""
        unit = self.to_unit(coordinates)
        joint = torch.zeros(len(unit), dtype=torch.long, device=unit.device)
        for axis, n in enumerate(self.bins):
            cell = (unit[:, axis] * n).long().clamp(0, n - 1)
            if axis < len(self.bins) - 1:
                joint = joint * n + cell
        joint_logits, last_logits = self.logits(features)
        pick = joint_logits.log_softmax(-1).gather(-1, joint[:, None])
        pick = pick + last_logits.log_softmax(-1).gather(-1, cell[:, None])
        return pick[:, 0] - self.log_cell

    def loss(self, features, coordinates):
        """Cross-entropy against smoothed labels, per unit of coordinate volume as `log_prob`, shape (m,)."""
        unit = self.to_unit(coordinates)
        labels = []
        for axis, n in enumerate(self.bins):
            centers = torch.arange(n, device=unit.device) + 0.5
            labels.append((-0.5 * ((centers - unit[:, axis, None] * n) / self.smoothing).square()).softmax(-1))
        joint = labels[0]
        for label in labels[1:-1]:
            joint = (joint[:, :, None] * label[:, None, :]).flatten(1)
        likelihood = (joint * self.joint(features).log_softmax(-1)).sum(-1)
        likelihood = likelihood + (labels[-1] * self.last(features).log_softmax(-1)).sum(-1)
        return self.log_cell - likelihood

    def transport(self, features, normals):
        """Coordinates (m, n, d): cells by the inverse cumulative distribution, uniform within."""
        uniform = torch.special.ndtr(normals.double())
        joint_logits, last_logits = self.logits(features)
        first, part = _choose(joint_logits, uniform[..., 0].contiguous())
        last, last_part = _choose(last_logits, uniform[..., -1].contiguous())
        cells = [*torch.unravel_index(first, self.bins[:-1]), last]
        parts = [part, *uniform[..., 1:-1].unbind(-1), last_part]
        unit = torch.stack([(cell + part) / n for cell, part, n in zip(cells, parts, self.bins, strict=True)], -1)
        return self.lower + self.width * unit.float()


def _choose(logits, uniform):
    """Class (m, n) at each quantile of the softmax of logits (m, classes), and how far the quantile is into it (0..1)."""
    weight = logits.double().softmax(-1)
    above = weight.cumsum(-1)
    above = above / above[:, -1:]
    chosen = torch.searchsorted(above, uniform).clamp(max=weight.shape[-1] - 1)
    top = above.gather(-1, chosen)
    part = 1 - (top - uniform) / weight.gather(-1, chosen).clamp(min=1e-300)
    return chosen, part.clamp(0, 1)


class VisibilityHead(nn.Module):
    """
    Distribution of ln(visibility), the signal-to-noise ratio of the cluster, given the stamp and the parameters.

    Given the parameters too: a draw of it belongs to its posterior draw, and both are one joint distribution.

    Parameters
    ----------
    features : int
        Length of the feature vector.
    parameters : int
        Number of parameters d.
    components : int
        Normal components of the mixture.
    """

    def __init__(self, features, parameters, components=4, hidden=64):
        super().__init__()
        self.from_features = nn.Linear(features, hidden)
        self.from_unit = nn.Linear(parameters, hidden, bias=False)
        self.out = nn.Linear(hidden, 3 * components)
        with torch.no_grad():  # from S/N of 1.6 to 90
            self.out.bias[components : 2 * components] = torch.linspace(0.5, 4.5, components)
            self.out.bias[2 * components :] = 0.0

    def mixture(self, features, unit):
        """Log weights, means and standard deviations, each (..., components), at unit coordinates (..., d)."""
        hidden = F.silu(self.from_features(features) + self.from_unit(2 * unit - 1))
        weight, mean, spread = self.out(hidden).chunk(3, -1)
        return weight.log_softmax(-1), mean, F.softplus(spread) + 1e-3

    def log_prob(self, features, unit, visibility):
        """Natural logarithm of the density of ln(visibility), shape (m,)."""
        log_weight, mean, spread = self.mixture(features, unit)
        deviate = (visibility.clamp(min=1e-3).log()[..., None] - mean) / spread
        return torch.logsumexp(log_weight - 0.5 * deviate.square() - spread.log() - 0.5 * math.log(2 * math.pi), -1)

    def transport(self, features, unit, normals):
        """Visibility (m, n) of draws at unit coordinates (m, n, d) from standard normal numbers (m, n, 2)."""
        log_weight, mean, spread = self.mixture(features[:, None, :], unit)
        above = log_weight.exp().cumsum(-1)
        chosen = (above < torch.special.ndtr(normals[..., :1])).sum(-1, keepdim=True).clamp(max=mean.shape[-1] - 1)
        return (mean.gather(-1, chosen) + spread.gather(-1, chosen) * normals[..., 1:])[..., 0].exp()


class VisibilityGrid(nn.Module):
    """
    Distribution of the visibility as the paper's softmax group: 20 classes, here equal steps of its logarithm from 0.3 to 3000.

    Within a class the density of ln(visibility) is flat; it does not depend on the parameters.

    Parameters
    ----------
    features : int
        Length of the feature vector.
    bins : int
        Number of classes.
    """

    lowest, highest = math.log(0.3), math.log(3000.0)

    def __init__(self, features, bins=20):
        super().__init__()
        self.bins = bins
        self.out = nn.Linear(features, bins)

    @property
    def step(self):
        """Width of a class in ln(visibility)."""
        return (self.highest - self.lowest) / self.bins

    def log_prob(self, features, unit, visibility):
        """Natural logarithm of the density of ln(visibility), shape (m,); beyond the classes that of the last one."""
        cell = ((visibility.clamp(min=1e-3).log() - self.lowest) / self.step).long().clamp(0, self.bins - 1)
        return self.out(features).log_softmax(-1).gather(-1, cell[:, None])[:, 0] - math.log(self.step)

    def transport(self, features, unit, normals):
        """Visibility (m, n) of draws from standard normal numbers (m, n, 2), of which the first is used."""
        cell, part = _choose(self.out(features), torch.special.ndtr(normals[..., 0].double()).contiguous())
        return (self.lowest + self.step * (cell + part)).exp().float()


class ClassHead(nn.Module):
    """
    Log odds that a cluster is at the centre of the stamp, at equal prior odds.

    Trained at whatever mix the stream has; the head counts the labels it is shown, and takes their odds off its answer.

    Parameters
    ----------
    features : int
        Length of the feature vector.
    hidden : int or None
        Units of a hidden layer, and one unit of output; None for the paper's softmax group of two units.
    """

    def __init__(self, features, hidden=64):
        super().__init__()
        if hidden is None:
            self.layers = nn.Linear(features, 2)
        else:
            self.layers = nn.Sequential(nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))
        #: Found by `ClusterNet.calibrate`: above 1 the class is less certain than it was trained to be.
        self.temperature = 1.0

    def count(self, is_cluster):
        """Add labels (n,) to the negatives and positives seen."""
        positives = (is_cluster > 0.5).sum()
        self.counts += torch.stack((len(is_cluster) - positives, positives))

    def _log_odds(self, features):
        """At the training mix; of two units the softmax is the logistic function of their difference."""
        out = self.layers(features)
        return out[:, -1] - out[:, 0] if out.shape[1] == 2 else out[:, 0]

    def loss(self, features, is_cluster):
        """Sum of the binary cross-entropies at the training mix."""
        return F.binary_cross_entropy_with_logits(self._log_odds(features), is_cluster, reduction="sum")

    def forward(self, features):
        """Log odds, shape (n,)."""
        negatives, positives = (self.counts + 1).log()
        return (self._log_odds(features) - (positives - negatives)) / self.temperature
