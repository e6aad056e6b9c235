# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""How strange is a stamp to a network? What it looks like, against what the mocks look like."""

from dataclasses import dataclass

import numpy as np
import torch

from .doubt import Doubt
from .encoders import stretch

__all__ = ["OUT_OF_DOMAIN", "Domain", "kinds_of", "look"]

OUT_OF_DOMAIN = 0.01  # typicality from which down a stamp is flagged
# Views of a stamp, and how many principal components of each are compared.
VIEWS = {"features": 40, "texture": 150, "sharpness": 40}
PARTS = ("mean", "whitening", "quantiles")  # of what is kept of a view
KINDS = ("complete", "other PSF", "uncertain zero points", "incomplete")
FEWEST = 10  # mocks of a kind without which nothing is said of it
LEVELS = np.geomspace(1e-4, 1.0, 81)  # shares of mocks for which the distance is tabulated


def look(module, pixels, features, depth=None, zero_point_error=None, psf=None):
    """
    Three views of stamps, and what is told of them.

    * ``features``: what the heads see.
    * ``texture``: mean, standard deviation and maximum over the stamp of every channel of the first convolution, and of the same after
      normalisation, rectification and pooling. Deeper layers have learned to be blind to what is not asked for.
    * ``sharpness``: by how much the stretched pixels of each band exceed both neighbours along x, along y, or fall below both: the largest
      of the stamp, and the largest mean over a whole column or row.

    Parameters
    ----------
    module : `ClusterModule`
    pixels : `~torch.Tensor`
        Electron/s, shape (n, band, ny, nx).
    features : `~torch.Tensor`
        What ``module(pixels)`` gives, shape (n, features).
    depth, zero_point_error, psf : `~torch.Tensor`, optional
        As the module was told.

    Returns
    -------
    seen : dict of `~numpy.ndarray`
        The views, shape (n, length of the view) each, and what is told or presumed (see `ClusterModule.told`): ``depth`` and ``psf``, the mean
        of its powers, shape (n, band), and ``zero_point_error``, shape (n, 1).
    """
    scaled, known = module.scaled(pixels)
    stretched = stretch(scaled)
    with torch.backends.cudnn.flags(allow_tf32=False):  # small differences between channels count
        first = module.encoder.stem[0](stretched)
        pooled = module.encoder.stem[1:](first)
    views = {
        "features": features,
        "texture": torch.cat([_texture(first), _texture(pooled)], 1),
        "sharpness": torch.cat([_sharpness(stretched), _sharpness(stretched.transpose(-1, -2))], 1),
    }
    present = torch.ones_like(stretched[:, :, 0, 0]) if known is None else known.flatten(2).any(-1).float()
    depth, error, powers = module.told(present, depth, zero_point_error, psf)
    views |= {"depth": depth, "zero_point_error": error[:, None], "psf": powers.mean(-1)}
    return {name: view.cpu().double().numpy() for name, view in views.items()}


def kinds_of(seen, complete, own_psf):
    """
    With which mocks stamps are compared: with those of which the same is unknown or told.

    Parameters
    ----------
    seen : dict of `~numpy.ndarray`
        Of `look`.
    complete, own_psf : `~numpy.ndarray` of bool
        Whether all of their pixels are known, and whether their PSF is that of the training, shape (n,).

    Returns
    -------
    kinds : `~numpy.ndarray` of str
        ``"complete"``, ``"other PSF"``, ``"uncertain zero points"`` or ``"incomplete"``, shape (n,).

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.network import kinds_of
    >>> kinds_of({"zero_point_error": np.array([[0.0], [0.1]])}, np.array([True, True]), np.array([True, False])).tolist()
    ['complete', 'uncertain zero points']
    """
    told = seen["zero_point_error"][:, 0] > 0
    return np.select([~complete, told, ~own_psf], ["incomplete", "uncertain zero points", "other PSF"], "complete")


def _texture(channels):
    flat = channels.flatten(2)
    measures = torch.cat([flat.mean(-1), flat.std(-1), flat.amax(-1)], 1)
    return measures.abs().log1p().copysign(measures)


def _sharpness(planes):
    before, pixel, after = planes[..., :-2], planes[..., 1:-1], planes[..., 2:]
    above, below = pixel - torch.maximum(before, after), torch.minimum(before, after) - pixel
    return torch.cat([part for each in (above, below) for part in (each.amax((-1, -2)), each.mean(-2).amax(-1))], 1)


@dataclass
class _View:
    """The normal distribution of a view of the mocks, and the quantiles of the squared distances from its mean."""

    mean: np.ndarray  # (length,)
    whitening: np.ndarray  # (length, components)
    quantiles: np.ndarray  # at 1 - LEVELS

    @classmethod
    def fit(cls, values, components):
        """Also the share of mocks that are at least as far out as each."""
        n = len(values)
        mean, spread = values.mean(0), values.std(0, ddof=1)
        spread = np.where(spread > 0, spread, 1.0)
        _, singular, axes = np.linalg.svd((values - mean) / spread, full_matrices=False)
        # no more components than mocks can tell
        components = max(1, min(components, n // 10, int((singular > 1e-3 * singular[0]).sum())))
        view = cls(mean, axes[:components].T / (spread[:, None] * singular[:components] / np.sqrt(n - 1)), None)
        squared = left_out(view.squared(values), n)
        view.quantiles = np.quantile(squared, 1 - LEVELS)
        return view, view.share(squared)

    def squared(self, values):
        """Squared Mahalanobis distances."""
        return (((values - self.mean) @ self.whitening) ** 2).sum(1)

    def share(self, squared):
        """Share of mocks beyond squared distances."""
        return np.interp(squared, self.quantiles[::-1], LEVELS[::-1])


def left_out(squared, n):
    """
    Squared Mahalanobis distances from mean and covariance of the other members of a sample of n, from those of all.

    References
    ----------
    Penny 1996, Applied Statistics 45, 73, https://doi.org/10.2307/2986224

    Examples
    --------
    >>> from clustercnn.network.domain import left_out
    >>> left_out(0.0, 100), bool(left_out(50.0, 100) > 50.0)
    (0.0, True)
    """
    return squared * (n - 2) * n**2 / (n - 1) ** 3 / (1 - n * squared / (n - 1) ** 2)


class Domain:
    """
    Where the mocks lie in the views of `look`, as a normal distribution in each, and how much `Doubt` there is of what is told of them.

    A stamp is as strange as it is to the view to which it is strangest. Complete stamps, those through another PSF than that of the training
    which is told, those whose zero points are told to be uncertain, and those of which pixels or bands are unknown are compared with their like.

    Parameters
    ----------
    views : dict
        For each of the kinds ``"complete"`` and (where there are) ``"other PSF"``, ``"uncertain zero points"`` and ``"incomplete"`` a dict of
        views.
    tails : dict
        For each kind the quantiles of the smallest share among the views.
    doubt : `~clustercnn.network.Doubt`, optional
        Looks for wrong zero points and PSFs. Default: nobody does.

    References
    ----------
    Lee et al. 2018, https://arxiv.org/abs/1807.03888 (Mahalanobis distances at several depths of a network)
    """

    def __init__(self, views, tails, doubt=None):
        self.views, self.tails, self.doubt = views, tails, doubt

    @classmethod
    def fit(cls, samples, doubt=None):
        """
        The domain of mocks.

        Parameters
        ----------
        samples : dict
            For each kind what `look` gives of its mocks; of a kind of less than 10 nothing is said.
        doubt : `~clustercnn.network.Doubt`, optional
            Fitted to other mocks.
        """
        domain = cls({}, {}, doubt)
        for kind, seen in samples.items():
            if len(seen["features"]) < FEWEST:
                continue
            fitted = {name: _View.fit(values, VIEWS.get(name, 1)) for name, values in domain._all_views(seen).items()}
            domain.views[kind] = {name: view for name, (view, _) in fitted.items()}
            domain.tails[kind] = np.quantile(np.min([shares for _, shares in fitted.values()], axis=0), LEVELS)
        return domain

    def _all_views(self, seen):
        return {name: seen[name] for name in VIEWS} | ({} if self.doubt is None else {"doubt": self.doubt.view(seen)})

    def typicality(self, seen, kinds):
        """
        Share of mocks that are at least as strange.

        Parameters
        ----------
        seen : dict of `~numpy.ndarray`
            Of `look`.
        kinds : `~numpy.ndarray` of str
            Of `kinds_of`, shape (n,).

        Returns
        -------
        share : `~numpy.ndarray`
            Shape (n,), at least 0.0001 and what so many mocks can tell; NaN for those of a kind that no mock was of.
        """
        share, values = np.full(len(kinds), np.nan), self._all_views(seen)
        for kind, views in self.views.items():
            rows = kinds == kind
            if rows.any():
                with np.errstate(over="ignore", invalid="ignore"):
                    each = [view.share(view.squared(values[name][rows])) for name, view in views.items()]
                share[rows] = np.interp(np.min(np.nan_to_num(each), axis=0), self.tails[kind], LEVELS)
        return share

    def tensors(self):
        """All of it as a dict of tensors."""
        arrays = {f"{kind}.tail": tail for kind, tail in self.tails.items()}
        for kind, views in self.views.items():
            for name, view in views.items():
                arrays |= {f"{kind}.{name}.{part}": getattr(view, part) for part in PARTS}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}
        return tensors | ({} if self.doubt is None else {f"doubt.{name}": weight for name, weight in self.doubt.state_dict().items()})

    @classmethod
    def from_tensors(cls, tensors):
        """From the dict of `tensors`."""
        weights = {name.removeprefix("doubt."): tensor for name, tensor in tensors.items() if name.startswith("doubt.")}
        arrays = {name: tensor.double().numpy() for name, tensor in tensors.items() if not name.startswith("doubt.")}
        kinds, names = [kind for kind in KINDS if f"{kind}.tail" in arrays], [*VIEWS, *(["doubt"] if weights else [])]
        views = {kind: {name: _View(*(arrays[f"{kind}.{name}.{part}"] for part in PARTS)) for name in names} for kind in kinds}
        return cls(views, {kind: arrays[f"{kind}.tail"] for kind in kinds}, Doubt.from_weights(weights) if weights else None)
