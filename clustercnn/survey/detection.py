# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Candidates: compact to extended sources on a crowded galaxy disc, found with photutils.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from astropy.table import QTable
from scipy.ndimage import gaussian_filter, generic_filter, map_coordinates

from clustercnn.images import MultiBandImage

__all__ = ["PhotutilsFinder", "detection_image", "find_clusters"]

# what comes along of a segment: its label would depend on the tile
SEGMENT_COLUMNS = ["x_centroid", "y_centroid", "area", "semimajor_axis", "semiminor_axis", "orientation", "max_value"]
# A band counts in full where its filter sees as much as that of the band that sees most, and not at all where it sees less than this share of
# it: beside a hole of its own it sees one side, and light that falls away from the hole passes for a source. A step would make sources, too.
LEAST_SEEN = 0.9


def find_clusters(images, threshold=10.0, fwhm=(2.5, 5.0, 10.0), box_size=64):
    """
    Find candidate clusters of any size on a structured background.

    Each band is filtered at several widths with the difference of two Gaussians, which takes out the smooth light of the
    galaxy, and divided by the local scatter of the filtered image, which counts the crowding of the disc as noise.  The
    bands are then added in squares, as in chi-square detection (Szalay et al. 1999), with negative pixels left out.  Peaks
    of the widths are merged: the more significant one wins.

    Where some bands are masked or not finite the others are added. A band counts less around such a hole, out to about twice ``fwhm``,
    and not at all in its middle, unless it is as small as a pixel or two: then the filter sees enough around it.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage` or dict
        The images, or what `~clustercnn.images.MultiBandImage.read` takes. All bands are used; pixels that are masked or not finite in
        all bands, or not exposed (0 in all bands), are ignored.
    threshold : float
        Least significance: root of the summed squares of the bands' signal-to-noise ratios.
    fwhm : sequence of float
        Widths of the filters in pixels; the defaults suit half-light radii of 1 to 10 pixels.
    box_size : int
        Side in pixels of the cells in which the scatter is measured.

    Returns
    -------
    candidates : `~astropy.table.QTable`
        Columns ``x_centroid``, ``y_centroid`` (0-indexed pixels), ``significance``, ``fwhm`` (of the filter that answered
        best, pixels), most significant first.  With a zero-length table comes a warning.

    Notes
    -----
    In `make_catalog` a candidate is the same in every tiling for widths of up to 18 pixels and a ``box_size`` that divides 64.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from clustercnn.images import MultiBandImage
    >>> from clustercnn.survey import find_clusters
    >>> y, x = np.mgrid[:96, :96]
    >>> pixels = np.random.default_rng(1).normal(0, 1, (96, 96)) + 50 * np.exp(-((x - 40.3)**2 + (y - 60.7)**2) / 8)
    >>> table = find_clusters(MultiBandImage({"F438W": pixels * u.electron / u.s}))
    >>> print(len(table), table["x_centroid"][0].round(1), table["y_centroid"][0].round(1))
    1 40.3 60.7
    """
    from astropy.utils.exceptions import AstropyUserWarning

    fwhm = np.atleast_1d(fwhm)
    _check_filter(fwhm, box_size)
    if not threshold > 0:
        raise ValueError(f"threshold must be a positive significance, such as 5, not {threshold}")
    pixels = MultiBandImage.read(images).to_array(nan="mask")
    found = [_peaks(pixels, width, threshold, box_size) for width in fwhm]
    x, y, significance, width = np.concatenate(found, axis=1)
    order = _merged(x, y, significance, width)
    if not len(order):
        warnings.warn(f"no candidate above a significance of {threshold:g}", AstropyUserWarning)
    return QTable([x[order], y[order], significance[order], width[order]],
                  names=["x_centroid", "y_centroid", "significance", "fwhm"])


def detection_image(images, fwhm=2.5, box_size=64):
    """
    All bands in one image in which sources of a size stand out: the root of the chi-square sum.

    Each band is filtered with a difference of two Gaussians and divided by the local scatter of the filtered image; the bands are
    added in squares, negative pixels left out. It is what `find_clusters` seeks peaks in.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage` or dict
        The images, or what `~clustercnn.images.MultiBandImage.read` takes. At each pixel those bands are used that are known there, as in
        `find_clusters`.
    fwhm : float
        Width of the filter in pixels.
    box_size : int
        Side in pixels of the cells in which the scatter is measured.

    Returns
    -------
    significance : `~numpy.ndarray`
        Signal-to-noise ratio, shape (ny, nx); NaN where all bands are masked or not finite and, as the filter sees half there, at
        the edges of the image, ``fwhm`` wide.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from clustercnn.images import MultiBandImage
    >>> from clustercnn.survey import detection_image
    >>> pixels = np.random.default_rng(1).normal(0, 1, (96, 96))
    >>> pixels[50, 40] += 30
    >>> significance = detection_image(MultiBandImage({"F438W": pixels * u.electron / u.s}))
    >>> print(np.nanmedian(significance).round(), *np.unravel_index(np.nanargmax(significance), (96, 96)))
    0.0 50 40
    """
    _check_filter(fwhm, box_size)
    significance, mask = _significance(MultiBandImage.read(images).to_array(nan="mask"), fwhm, box_size)
    inside = np.zeros_like(mask)
    border = int(np.ceil(fwhm))
    inside[border:-border, border:-border] = True
    return np.where(inside & ~mask, significance, np.nan)


@dataclass(frozen=True)
class PhotutilsFinder:
    """
    A finder of photutils as a finder of clusters: it looks at the `detection_image`.

    `make_catalog` makes one of any finder of photutils that it is given.

    Parameters
    ----------
    finder : `~photutils.detection.DAOStarFinder`, `~photutils.segmentation.SourceFinder` or alike
        A star finder, or image segmentation with deblending. Thresholds are signal-to-noise ratios.
    bands : sequence of str, optional
        The bands to look at, such as ``("F438W",)``. Default: all, as a chi-square sum.
    fwhm : float
        Width of the filter of the detection image, pixels.
    threshold : float
        Least signal-to-noise ratio of a segment's pixels; star finders have thresholds of their own.

    Notes
    -----
    Segments that reach further than 192 pixels, the margin of a tile, may differ from tiling to tiling.

    Examples
    --------
    >>> from photutils.segmentation import SourceFinder
    >>> from clustercnn.survey import PhotutilsFinder
    >>> finder = PhotutilsFinder(SourceFinder(n_pixels=5, progress_bar=False), bands=("F438W", "F814W"), threshold=4)
    """

    finder: object
    bands: tuple = None
    fwhm: float = 2.5
    threshold: float = 5.0

    def __call__(self, images):
        """Candidates as the finder's table, or None, as photutils has it, where there are none."""
        from photutils.segmentation import SourceCatalog, SourceFinder

        images = MultiBandImage.read(images)
        if self.bands is not None:
            bands = (self.bands,) if isinstance(self.bands, str) else self.bands
            images = MultiBandImage({band: images[band] for band in bands})
        significance = detection_image(images, self.fwhm)
        mask = np.isnan(significance)
        significance[mask] = 0
        if not isinstance(self.finder, SourceFinder):
            return self.finder(significance, mask=mask)
        segments = self.finder(significance, self.threshold, mask=mask)
        return None if segments is None else SourceCatalog(significance, segments, mask=mask).to_table(columns=SEGMENT_COLUMNS)


def as_finder(finder):
    """The finder that a user means: `find_clusters` for None, a `PhotutilsFinder` for a finder of photutils, or what was given."""
    from photutils.detection import StarFinderBase
    from photutils.segmentation import SourceFinder

    if finder is None:
        return find_clusters
    if isinstance(finder, (StarFinderBase, SourceFinder)):
        return PhotutilsFinder(finder)
    if not callable(finder):
        raise TypeError(f"finder must be a function of images, or a finder of photutils such as DAOStarFinder(...), not {finder!r}")
    return finder


def _check_filter(fwhm, box_size):
    """Refuse widths and cells with which nothing would be found, or numpy would complain."""
    fwhm = np.asarray(fwhm)
    if fwhm.ndim > 1 or not fwhm.size or not np.all((fwhm > 0) & (fwhm < np.inf)):
        raise ValueError(f"fwhm must be positive numbers of pixels, such as (2.5, 5.0, 10.0), not {fwhm.tolist()}")
    if box_size < 1:
        raise ValueError(f"box_size must be at least one pixel, such as 64, not {box_size}")


def _peaks(pixels, width, threshold, box_size):
    """Significant peaks at one filter width of (band, ny, nx), NaN where bad: array (4, n) of x, y, significance, width."""
    from photutils.detection import find_peaks
    from photutils.utils.exceptions import NoDetectionsWarning

    significance, mask = _significance(pixels, width, box_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)  # ours comes when no width finds anything
        # at the edge half of the filter sees nothing, and a gradient would pass for a source
        peaks = find_peaks(significance, threshold, box_size=5, mask=mask, border_width=int(np.ceil(width)))
    if peaks is None:
        return np.empty((4, 0))
    peak_x, peak_y = np.array(peaks["x_peak"]), np.array(peaks["y_peak"])
    x, y = _refined(significance, peak_x, peak_y)
    return np.stack([x, y, significance[peak_y, peak_x], np.full(len(x), width)])


def _significance(pixels, width, box_size):
    """Root of the chi-square sum of (band, ny, nx) filtered at a width, finite everywhere, and the mask of pixels bad in all bands."""
    sigma = width / 2.3548
    good = ~np.isnan(pixels)
    squares = np.zeros(pixels.shape[1:], dtype=np.float32)
    for plane, known, weight in zip(pixels, good, _weights(good, 2 * sigma)):
        filtered = _smooth(plane, sigma) - _smooth(plane, 2 * sigma)
        scatter = _scatter(np.where(known & (weight > 0), filtered, np.nan), box_size)
        squares += weight * np.clip(filtered / scatter, 0, None) ** 2
    return np.sqrt(squares), ~good.any(axis=0)


def _weights(good, sigma):
    """By how much each band counts, shape (band, ny, nx): all of them beside holes that all have, where no band knows more."""
    if (good == good[0]).all():
        return np.broadcast_to(np.float32(1), good.shape)
    seen = np.stack([gaussian_filter(plane.astype(np.float32), sigma) for plane in good])
    seen /= np.maximum(seen.max(axis=0), np.finfo(np.float32).tiny)
    return np.clip((seen - LEAST_SEEN) / (1 - LEAST_SEEN), 0, 1)


def _smooth(plane, sigma):
    """A Gaussian mean of the pixels that are not NaN: no pixel far away has a say, as it would in a fill value."""
    good = ~np.isnan(plane)
    if good.all():
        return gaussian_filter(plane, sigma)
    weight = gaussian_filter(good.astype(np.float32), sigma)
    return gaussian_filter(np.where(good, plane, 0), sigma) / np.maximum(weight, np.finfo(np.float32).tiny)


def _scatter(image, box_size):
    """Robust standard deviation around each pixel, interpolated linearly between cells: far pixels have no say."""
    from astropy.stats import SigmaClip, mad_std

    box = np.minimum(box_size, image.shape)
    padded = np.pad(image, [(0, -n % side) for n, side in zip(image.shape, box)], constant_values=np.nan)
    rows, columns = np.array(padded.shape) // box
    cells = padded.reshape(rows, box[0], columns, box[1]).swapaxes(1, 2).reshape(rows, columns, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cells without a good pixel
        cells = SigmaClip(3, maxiters=3)(cells, axis=-1, masked=False)
        scatter = mad_std(cells, axis=-1, ignore_nan=True)
        scatter[np.isfinite(cells).mean(axis=-1) <= 0.1] = np.nan
        # also lends a cell that is nearly all bad the scatter of its neighbours
        scatter = generic_filter(scatter, np.nanmedian, size=3, mode="constant", cval=np.nan)
    known = np.isfinite(scatter)
    row, column = ((np.arange(n) + 0.5) / side - 0.5 for n, side in zip(image.shape, box))
    place = np.meshgrid(row, column, indexing="ij")
    scatter, weight = (map_coordinates(values, place, order=1, mode="nearest")
                       for values in (np.where(known, scatter, 0), known.astype(float)))
    # where nothing is known nothing is significant
    return np.where(weight > 0, np.maximum(scatter, np.finfo(np.float32).tiny) / np.maximum(weight, 1e-9), np.inf)


def _refined(image, x, y):
    """Sub-pixel peaks by a parabola through the neighbours on each axis; at most half a pixel away."""
    padded = np.pad(image, 1, mode="edge").astype(float)
    x1, y1 = x + 1, y + 1
    center = padded[y1, x1]

    def offset(before, after):
        curvature = before + after - 2 * center
        return np.clip(np.divide(before - after, 2 * curvature, out=np.zeros_like(center), where=curvature < 0), -0.5, 0.5)

    return x + offset(padded[y1, x1 - 1], padded[y1, x1 + 1]), y + offset(padded[y1 - 1, x1], padded[y1 + 1, x1])


def _merged(x, y, significance, width):
    """Indices of the peaks that stay, most significant first: one within half a filter width of a better one goes."""
    from scipy.spatial import cKDTree

    order = np.argsort(-significance, kind="stable")
    if not len(order):
        return order
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.arange(len(order))
    positions = np.stack([x, y], axis=1)
    near = cKDTree(positions).query_ball_point(positions, width / 2)
    keep = np.ones(len(order), dtype=bool)
    for i in order:
        keep[i] = not any(keep[j] and rank[j] < rank[i] for j in near[i])
    return order[keep[order]]
