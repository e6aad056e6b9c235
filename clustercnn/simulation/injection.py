# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""ClusterInjector: artificial clusters in real images, with the truth, and what a finder recovers of them."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable, Table, vstack
from tqdm import tqdm

from clustercnn.images import MultiBandImage
from clustercnn.matching import match_positions
from clustercnn.parameters import as_quantity, positive_quantity
from clustercnn.simulation.cluster import SyntheticCluster
from clustercnn.simulation.render import band_psfs
from clustercnn.stellar.isochrones import IsochroneGrid

__all__ = ["ClusterInjector", "InjectionResult", "recovered_fraction"]

RATE = u.electron / u.s


@dataclass
class InjectionResult:
    """Images with injected clusters, and the table of what was injected."""

    images: MultiBandImage
    truth: QTable


class ClusterInjector:
    """
    Put artificial clusters into images.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage`
        Images that convert to electron/s; they are never changed.
    instrument : `~clustercnn.instruments.Instrument`
        Bands, pixel scale, zero points and exposures of the images.
    psf : dict of `~clustercnn.psf.PSF`, optional
        One per band; default: the built-in HST model.
    distance : `~astropy.units.Quantity`, optional
        Distance of clusters that are drawn from a table or a prior, for `inject` and `completeness`.

    Raises
    ------
    ValueError
        If the images and the instrument have different bands or pixel scales.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from clustercnn import ClusterInjector, SyntheticCluster
    >>> from clustercnn.images import MultiBandImage
    >>> from clustercnn.instruments import Instrument
    >>> m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    >>> images = MultiBandImage.from_arrays(m83.bands, np.zeros((3, 100, 100)), u.electron / u.s)
    >>> cluster = SyntheticCluster(mass=5000 * u.Msun, age=50 * u.Myr, half_light_radius=3 * u.pc, distance=4.5 * u.Mpc, rng=1)
    >>> result = ClusterInjector(images, instrument=m83).inject([cluster], [(40.3, 51.8)], rng=2)
    >>> result.truth["x_centroid", "y_centroid"]
    <QTable length=1>
    x_centroid y_centroid
     float64    float64
    ---------- ----------
          40.3       51.8
    """

    def __init__(self, images, *, instrument, psf=None, distance=None):
        if set(images.bands) != set(instrument.bands):
            raise ValueError(f"images must have the bands {instrument.bands} of the instrument, not {images.bands}")
        if images.pixel_scale is not None and abs(images.pixel_scale / instrument.pixel_scale - 1) > 0.02:
            raise ValueError(f"images have {images.pixel_scale:.4g}, but the instrument {instrument.pixel_scale:.4g}")
        self.images = images
        self.instrument = instrument
        self.psf = band_psfs(psf, instrument)
        self.distance = None if distance is None else positive_quantity(distance, u.Mpc, "distance")

    def inject(self, clusters, positions, rng=None, *, distance=None, progress=False):
        """
        Add clusters with their photon noise.

        Parameters
        ----------
        clusters : sequence of `~clustercnn.SyntheticCluster` or `~astropy.table.QTable`
            The clusters, or a table with age, a_v, mass and half_light_radius to draw them from.
        positions : array_like, `~astropy.coordinates.SkyCoord` or `~astropy.table.Table`
            Where: ``(n, 2)`` pixels ``(x, y)``, or sky coordinates.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.
        distance : `~astropy.units.Quantity`, optional
            Distance of clusters that come as a table. Default: that given to the injector.
        progress : bool
            Show a progress bar.

        Returns
        -------
        result : `InjectionResult`
            The new images (electron/s, uncertainties grown by the clusters' photon noise) and the truth: ``id``, ``x_centroid``,
            ``y_centroid``, ``sky_centroid`` (with a WCS), ``age``, ``a_v``, ``mass``, ``half_light_radius`` and a magnitude per band.
        """
        rng = np.random.default_rng(rng)
        from_table = isinstance(clusters, Table)
        distance = self.distance if distance is None else distance
        if from_table and distance is None:
            raise ValueError(
                "distance must be given when the clusters come as a table, here or to ClusterInjector, such as distance=4.5 * u.Mpc"
            )
        xy = self.images.pixel_positions(positions)
        if len(clusters) != len(xy):
            raise ValueError(f"positions must be as many as the clusters, {len(clusters)}, not {len(xy)}")
        bands = self.instrument.bands
        light = np.zeros((len(bands), *self.images.shape), dtype=np.float32)
        variance = np.zeros_like(light)
        exposure = np.array([self.instrument.exposure(band).value for band in bands])[:, None, None]
        rows = []
        for i, (x, y) in enumerate(tqdm(xy, unit="cluster", desc="injecting", disable=not progress)):
            cluster = _draw(clusters[i], distance, rng) if from_table else clusters[i]
            _add(cluster, x, y, light, variance, exposure, self.instrument, self.psf, rng)
            rows.append(self._true_values(cluster))
        return InjectionResult(self._as_images(light, variance), self._truth(rows, xy))

    def _as_images(self, light, variance):
        """The images with the light added; masks, metadata and WCS come along."""
        out = {}
        for band, added, added_variance in zip(self.instrument.bands, light, variance, strict=True):
            ccd = self.images[band]
            factor = self.images.conversion(band, RATE, self.instrument)
            sigma = None
            if ccd.uncertainty is not None:
                old = ccd.uncertainty.represent_as(StdDevUncertainty).array * factor
                sigma = StdDevUncertainty(np.sqrt(old**2 + added_variance))
            data = np.asarray(ccd.data) * np.float32(factor) + added
            out[band] = CCDData(data, unit=RATE, wcs=ccd.wcs, mask=ccd.mask, uncertainty=sigma, meta=ccd.meta)
        return MultiBandImage(out)

    def _true_values(self, cluster):
        magnitudes = [cluster.magnitude(self.instrument.passband(band)) for band in self.instrument.bands]
        return [cluster.age, cluster.a_v, cluster.mass, cluster.half_light_radius, *magnitudes]

    def _truth(self, rows, xy):
        truth = QTable({"id": np.arange(len(rows)), "x_centroid": xy[:, 0], "y_centroid": xy[:, 1]})
        if self.images.wcs is not None:
            truth["sky_centroid"] = self.images.wcs.pixel_to_world(xy[:, 0], xy[:, 1])
        names = ["age", "a_v", "mass", "half_light_radius", *self.instrument.bands]
        units = [u.Myr, u.mag, u.Msun, u.arcsec, *[u.mag] * len(self.instrument.bands)]
        for i, (name, unit) in enumerate(zip(names, units, strict=True)):
            truth[name] = u.Quantity([row[i] for row in rows], unit)
        return truth

    def completeness(self, prior, n, finder, *, distance=None, n_per_image=50, tolerance=2 * u.pix, rng=None, progress=True):
        """
        The artificial-cluster test: inject, find, match.

        Parameters
        ----------
        prior : `~clustercnn.parameters.ParameterSpace`
            Clusters are drawn from it.
        n : int
            How many clusters.
        finder : callable
            ``finder(images)`` gives a table with ``x_centroid`` and ``y_centroid``, or None if it finds nothing.
        distance : `~astropy.units.Quantity`, optional
            Distance of the clusters. Default: that given to the injector.
        n_per_image : int
            Clusters injected at once.
        tolerance : `~astropy.units.Quantity`
            Largest distance of a detection from the truth, pixels.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.
        progress : bool
            Show a progress bar.

        Returns
        -------
        truth : `~astropy.table.QTable`
            What was injected, with the column ``recovered`` (bool). The recovered fraction as a function of age, a_v, mass or
            half_light_radius is ``recovered_fraction(truth, "mass", prior["mass"].edges())``; see `recovered_fraction`.
        """
        if n < 1 or n_per_image < 1:
            raise ValueError(f"n and n_per_image must be at least 1, not {n} and {n_per_image}")
        rng = np.random.default_rng(rng)
        ny, nx = self.images.shape
        tables = []
        with tqdm(total=n, unit="cluster", desc="completeness", disable=not progress) as bar:
            while (done := sum(len(table) for table in tables)) < n:
                size = min(n_per_image, n - done)
                positions = rng.random((size, 2)) * [nx, ny] - 0.5
                result = self.inject(prior.sample(size, rng), positions, rng, distance=distance)
                found = finder(result.images)
                # None, as photutils says it
                pairs = match_positions(positions, np.empty((0, 2)) if found is None else found, tolerance)
                result.truth["recovered"] = np.isin(np.arange(size), pairs["first"])
                result.truth["id"] += done
                tables.append(result.truth)
                bar.update(size)
        return vstack(tables, metadata_conflicts="silent")


def recovered_fraction(truth, name, edges):
    """
    Recovered fraction in bins of one column of the truth.

    Parameters
    ----------
    truth : `~astropy.table.QTable`
        From `ClusterInjector.completeness`.
    name : str
        Column, such as ``"mass"``.
    edges : `~astropy.units.Quantity`
        Edges of the bins, ascending.

    Returns
    -------
    table : `~astropy.table.QTable`
        ``lower``, ``upper``, ``n``, ``fraction`` and its binomial standard ``error``; NaN in empty bins.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from clustercnn.simulation import recovered_fraction
    >>> truth = QTable({"mass": [2e3, 4e3, 2e4] * u.Msun, "recovered": [True, False, True]})
    >>> recovered_fraction(truth, "mass", [1e3, 1e4, 1e5] * u.Msun)["fraction"].tolist()
    [0.5, 1.0]
    """
    edges = as_quantity(edges, truth[name].unit, "edges")
    index = np.digitize(truth[name].value, edges.value) - 1
    number = np.array([(index == i).sum() for i in range(len(edges) - 1)])
    found = np.array([truth["recovered"][index == i].sum() for i in range(len(edges) - 1)])
    fraction = np.where(number > 0, found / np.maximum(number, 1), np.nan)
    error = np.sqrt(fraction * (1 - fraction) / np.maximum(number, 1))
    return QTable({"lower": edges[:-1], "upper": edges[1:], "n": number, "fraction": fraction, "error": error})


def _draw(row, distance, rng):
    # Spaces reach half a step beyond the ages of the shipped grid, where the isochrone at its end is the nearest.
    youngest, oldest = 10 ** IsochroneGrid.default().log_ages[[0, -1]] * u.yr
    age = np.clip(as_quantity(row["age"], u.yr, "age"), youngest, oldest)
    return SyntheticCluster(row["mass"], age, row["half_light_radius"], row["a_v"], distance=distance, rng=rng)


def _add(cluster, x, y, light, variance, exposure, instrument, psf, rng):
    """Render one cluster in a box around it, draw its photons and add them where the box overlaps the image."""
    scale = instrument.pixel_scale.to_value(u.arcsec / u.pix)
    psf_radius = max(max(psf[band].data.shape) / psf[band].oversampling for band in instrument.bands) / 2
    reach = np.abs(cluster._offset).max(initial=0.0) / scale + psf_radius + 1
    x0, y0 = int(np.floor(x - reach)), int(np.floor(y - reach))
    size = int(np.ceil(2 * reach)) + 1
    ny, nx = light.shape[1:]
    left, right, bottom, top = max(x0, 0), min(x0 + size, nx), max(y0, 0), min(y0 + size, ny)
    if left >= right or bottom >= top:
        return
    rate = cluster.rates(instrument, (size, size), psf, (x - x0, y - y0))
    rate = np.maximum(rate[:, bottom - y0 : top - y0, left - x0 : right - x0].astype(float), 0.0)
    light[:, bottom:top, left:right] += rng.poisson(rate * exposure) / exposure
    variance[:, bottom:top, left:right] += rate / exposure
