# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""ClusterInjector: artificial clusters in real images, in memory or on disk, with the truth."""

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty
from astropy.table import QTable, Row, Table
from astropy.utils.exceptions import AstropyUserWarning
from astropy.utils.masked import Masked
from tqdm import tqdm

from clustercnn import __version__
from clustercnn.files import whole_file
from clustercnn.images import MultiBandImage
from clustercnn.instruments import check_instrument
from clustercnn.parameters import ParameterSpace, positive_quantity
from clustercnn.positions import check_ids
from clustercnn.simulation.cluster import SyntheticCluster
from clustercnn.simulation.completeness import artificial_cluster_test
from clustercnn.simulation.mosaic_background import check_pixel_scale
from clustercnn.simulation.render import band_psfs
from clustercnn.simulation.scenes import PARAMETERS
from clustercnn.stamps import warn_of_headers
from clustercnn.stellar.extinction import get_law

__all__ = ["ClusterInjector", "InjectionResult"]

RATE = u.electron / u.s
POWERS = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}  # of the pixels' unit
COMPRESSED = ".gz", ".bz2", ".xz", ".zip", ".Z", ".lzma"  # suffixes that make astropy write what cannot be mapped
FURTHER_COLUMNS = (
    "distance", "metallicity", "imf", "profile", "gamma", "ellipticity", "position_angle", "extinction_law", "r_v", "extinction",
    "foreground_a_v", "foreground_law", "a_v_spread", "binary_fraction", "mass_ratio",
)  # of a cluster, where a table has them
UNREAD_COLUMNS = ("isochrones", "bands", "rng")  # what else makes a cluster, and is nothing for a table
PASSING_COLUMNS = ("sky_centroid", "saturated")  # of a truth, which say nothing of the next image


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
    images : `~clustercnn.images.MultiBandImage` or dict
        Images in any unit that converts to electron/s, or band -> FITS path, NDData and the like; they are never changed.
    instrument : `~clustercnn.instruments.Instrument`
        Bands, pixel scale, zero points and exposures of the images.
    psf : dict, optional
        Band -> `~clustercnn.psf.PSF`, or `~photutils.psf.GriddedPSFModel` on the pixels of the images, which is taken where each
        cluster lies; default: the built-in HST model.
    distance : `~astropy.units.Quantity`, optional
        Distance of clusters that are drawn from a table or a prior, for `inject` and `completeness`.
    extinction_law : str or dust_extinction model
        Curve of the dust before clusters that are drawn, see `~clustercnn.stellar.get_law`; a table's column of that name comes first.

    Raises
    ------
    ValueError
        If the images and the instrument have different bands or pixel scales, or there is no such law.

    Warns
    -----
    `~astropy.utils.exceptions.AstropyUserWarning`
        If the headers of the images state other exposures or zero points than the instrument, where that is the preset of M83.

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

    def __init__(self, images, *, instrument, psf=None, distance=None, extinction_law="F99"):
        images = MultiBandImage.read(images)
        check_instrument(instrument)
        if set(images.bands) != set(instrument.bands):
            raise ValueError(f"images must have the bands {instrument.bands} of the instrument, not {images.bands}")
        check_pixel_scale(images, instrument)
        warn_of_headers(images, instrument)
        self.images = images
        self.instrument = instrument
        self.psf = band_psfs(psf, instrument) if psf is None else psf
        band_psfs(self.psf, instrument, tuple(n / 2 for n in images.shape[::-1]))  # what is no PSF shows here
        self.distance = None if distance is None else positive_quantity(distance, u.Mpc, "distance")
        get_law(extinction_law)  # an error if there is none of that name
        self.extinction_law = extinction_law

    def inject(self, clusters, positions, rng=None, *, distance=None, saturation=None, out=None, overwrite=False, progress=False):
        """
        Add clusters with their photon noise; everything else in the images stays as it was.

        Parameters
        ----------
        clusters : sequence of `~clustercnn.SyntheticCluster`, `~astropy.table.QTable` or `~clustercnn.parameters.ParameterSpace`
            The clusters; or a table to draw them from, with age, a_v, mass, half_light_radius and, where wanted, other parameters of
            `~clustercnn.SyntheticCluster` that are numbers or names; or a prior, of which one is drawn for each position. What else
            the table has comes along.
        positions : array_like, `~astropy.coordinates.SkyCoord` or `~astropy.table.Table`
            Where: ``(n, 2)`` pixels ``(x, y)``, or sky coordinates. Of clusters over the edge the part inside is added.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.
        distance : `~astropy.units.Quantity`, optional
            Distance of clusters that come as a table or a prior. Default: the table's column of that name, else that given to the injector.
        saturation : `~astropy.units.Quantity` or dict, optional
            Where a pixel saturates: electrons in one exposure, or electron/s; one for all bands, or band -> limit. Pixels that a
            cluster lifts above it (with the sky of the instrument) are masked.
        out : str or `~pathlib.Path`, optional
            Write the images to this FITS file, which `~clustercnn.images.MultiBandImage.read` reads, and return them from there,
            memory-mapped. Memory is then needed for a band at a time, while it is copied. Default: return them in memory.
        overwrite : bool
            Whether ``out`` may replace another file.
        progress : bool
            Show a progress bar.

        Returns
        -------
        result : `InjectionResult`
            The new images, in the unit of the old ones and with uncertainties of the same kind, grown by the clusters' photon noise;
            and the truth: ``id``, ``x_centroid``, ``y_centroid``, ``sky_centroid`` (with a WCS), ``age``, ``a_v``, ``mass``,
            ``half_light_radius``, a magnitude per band, the other columns of a table of clusters, ``extinction_law`` where the injector has
            another than F99, and ``saturated`` (with a limit). The
            ``id`` is the table's, else counted from 1. ``meta`` tells the version, the distance, if it is one, and the seed (of a
            generator, what it was made with).

        Raises
        ------
        ValueError
            If there are not as many positions as clusters, a distance or a column of the table is missing, masked or cannot be read, its
            ``id`` is no whole number from 1 on or comes twice, an age has no isochrone, the unit of the images needs what the
            instrument does not have, whole numbers are to be written to a file, or the file would be compressed.
        TypeError
            If the uncertainties are of a kind that cannot be turned into a variance, or ``clusters`` are none of the above.
        OSError
            If ``out`` exists.

        Notes
        -----
        A cluster is rendered in a box that holds all its stars and the whole PSF around them, so no light is lost but what the PSF
        itself leaves out. The photon noise is that of the cluster alone: that of what lies below it is in the pixels already. A warning
        tells of clusters whose box lies off the image.
        """
        rng = np.random.default_rng(rng)
        xy = self.images.pixel_positions(positions)
        if isinstance(clusters, ParameterSpace):
            clusters = clusters.sample(len(xy), rng)
        from_table = isinstance(clusters, Table)
        if from_table:
            clusters = _cluster_table(clusters)
            distance = self._distance(clusters, distance)
        else:
            clusters = _cluster_list(clusters)
        if len(clusters) != len(xy):
            raise ValueError(f"positions must be as many as the clusters, {len(clusters)}, not {len(xy)}")
        limits = None if saturation is None else self._rate_limits(saturation)
        rows, distances, (off, saturated) = [], set(), np.zeros((2, len(xy)), dtype=bool)
        with self._opened(out, overwrite, limits is not None) as planes, warnings.catch_warnings():
            if from_table:
                # Of a population some ages are bound to lie where isochrones interpolate roughly.
                warnings.filterwarnings("ignore", message="between log age .* phase")
            for i, (x, y) in enumerate(tqdm(xy, unit="cluster", desc="injecting", disable=not progress)):
                cluster = self._draw(clusters[i], distance, rng) if from_table else clusters[i]
                risen = self._add(cluster, x, y, planes, limits, rng)
                off[i], saturated[i] = risen is None, bool(risen)
                rows.append(self._true_values(cluster))
                distances.add(cluster.distance.value)
        if off.any():
            first = np.flatnonzero(off)[0]
            warnings.warn(
                f"{off.sum()} of {len(xy)} clusters leave no light on the image of {self.images.shape[1]} x {self.images.shape[0]} pixels: "
                f"they lie too far from it, such as number {first} at {tuple(np.round(xy[first], 1).tolist())}",
                AstropyUserWarning,
            )
        truth = self._truth(rows, xy)
        if from_table:
            for name in clusters.colnames:
                if name == "id" or name not in (*truth.colnames, *PASSING_COLUMNS):
                    truth[name] = clusters[name]
            if self.extinction_law != "F99" and "extinction_law" not in truth.colnames:
                law = self.extinction_law if isinstance(self.extinction_law, str) else repr(self.extinction_law)
                truth["extinction_law"] = np.full(len(truth), law)
        truth.meta["creator"] = f"clustercnn {__version__}"
        if len(distances) == 1:
            truth.meta["distance"] = f"{distances.pop()} Mpc"
        if (seed := getattr(rng.bit_generator.seed_seq, "entropy", None)) is not None:
            truth.meta["seed"] = str(seed)
        if limits is not None:
            truth["saturated"] = saturated
        images = MultiBandImage({band: plane.ccd for band, plane in planes.items()}) if out is None else MultiBandImage.read(out)
        return InjectionResult(images, truth)

    def _distance(self, clusters, distance):
        """That of all clusters of a table, or None if each has its own."""
        if "distance" in clusters.colnames:
            if distance is not None:
                raise ValueError("distance must be given once, but clusters have a column distance too: leave one out")
            return None
        distance = self.distance if distance is None else distance
        if distance is None:
            raise ValueError(
                "distance must be given when the clusters come as a table, here or to ClusterInjector, such as distance=4.5 * u.Mpc"
            )
        return distance

    def _draw(self, row, distance, rng):
        """The cluster of a row of a table."""
        further = {"distance": distance, "extinction_law": self.extinction_law}
        further |= {name: _plain_number(row[name]) for name in FURTHER_COLUMNS if name in row.colnames}
        return SyntheticCluster(row["mass"], row["age"], row["half_light_radius"], row["a_v"], rng=rng, **further)

    @contextmanager
    def _opened(self, out, overwrite, with_mask):
        """A writable copy of the images, band -> `_Plane`; on disk, it takes its name when the block ends without an error."""
        images = {band: _prepared(self.images[band], with_mask) for band in self.images.bands}
        factors = {band: self.images.conversion(band, RATE, self.instrument) for band in self.images.bands}
        if out is None:
            yield {band: _Plane.in_memory(ccd, factors[band]) for band, ccd in images.items()}
            return
        if Path(out).exists() and not overwrite:
            raise OSError(f"{out} exists; pass overwrite=True to replace it")
        if Path(out).suffix in COMPRESSED:
            raise ValueError(f"out must be a plain FITS file, such as clusters.fits, not {Path(out).name!r}: clusters are written into it in place")
        for band, ccd in images.items():
            if np.dtype(ccd.data.dtype).kind != "f":
                raise ValueError(f"images must hold floats to be written with clusters, but {band} holds {ccd.data.dtype}: convert them")
        with whole_file(out) as partial:
            MultiBandImage(images).write(partial)
            yield {
                band: _Plane.on_disk(ccd, factors[band], partial, i) for i, (band, ccd) in enumerate(images.items(), start=1)
            }

    def _rate_limits(self, saturation):
        """Electron/s in each band at which a pixel saturates, sky included."""
        bands = self.instrument.bands
        limits = saturation if isinstance(saturation, dict) else dict.fromkeys(bands, saturation)
        if missing := [band for band in bands if band not in limits]:
            raise ValueError(f"saturation must have an entry for each band of the instrument, but has none for {missing}")
        rates = {}
        for band in bands:
            limit = limits[band]
            if isinstance(limit, u.Quantity) and limit.unit.is_equivalent(u.electron):
                limit = limit / (self.instrument.exposure(band) / self.instrument.n_exposures(band))
            rates[band] = positive_quantity(limit, RATE, "saturation").value
        return rates

    def _add(self, cluster, x, y, planes, limits, rng):
        """Render a cluster in a box, add its photons where that overlaps the image; is a pixel saturated? None if there is no overlap."""
        instrument, psf = self.instrument, band_psfs(self.psf, self.instrument, (x, y))
        scale = instrument.pixel_scale.to_value(u.arcsec / u.pix)
        psf_radius = max(max(psf[band].data.shape) / psf[band].oversampling for band in instrument.bands) / 2
        reach = np.abs(cluster._offset).max(initial=0.0) / scale + psf_radius + 1
        x0, y0 = int(np.floor(x - reach)), int(np.floor(y - reach))
        size = int(np.ceil(2 * reach)) + 1
        ny, nx = self.images.shape
        left, right, bottom, top = max(x0, 0), min(x0 + size, nx), max(y0, 0), min(y0 + size, ny)
        if left >= right or bottom >= top:
            return None
        # Renderers are kept, so let sizes be few; where a PSF depends on the position each place has its own.
        wide = -(-size // 32) * 32 if all(psf[band] is self.psf[band] for band in psf) else size
        rate = cluster.rates(instrument, (wide, wide), psf, (x - x0, y - y0))
        rate = np.maximum(rate[:, bottom - y0 : top - y0, left - x0 : right - x0].astype(float), 0.0)
        exposure = np.array([instrument.exposure(band).value for band in instrument.bands])[:, None, None]
        added, variance = rng.poisson(rate * exposure) / exposure, rate / exposure
        section, saturated = (slice(bottom, top), slice(left, right)), False
        for i, band in enumerate(instrument.bands):
            limit = None if limits is None else limits[band] - instrument.sky(band).value
            saturated |= planes[band].add(section, added[i], variance[i], limit)
        return saturated

    def _true_values(self, cluster):
        magnitudes = [cluster.magnitude(self.instrument.passband(band)) for band in self.instrument.bands]
        return [cluster.age, cluster.a_v, cluster.mass, cluster.half_light_radius, *magnitudes]

    def _truth(self, rows, xy):
        truth = QTable({"id": np.arange(1, len(rows) + 1), "x_centroid": xy[:, 0], "y_centroid": xy[:, 1]})
        if self.images.wcs is not None:
            truth["sky_centroid"] = self.images.wcs.pixel_to_world(xy[:, 0], xy[:, 1])
        names = ["age", "a_v", "mass", "half_light_radius", *self.instrument.bands]
        units = [u.Myr, u.mag, u.Msun, u.arcsec, *[u.mag] * len(self.instrument.bands)]
        for i, (name, unit) in enumerate(zip(names, units, strict=True)):
            truth[name] = u.Quantity([row[i] for row in rows], unit)
        return truth

    def completeness(
        self, prior, n, finder, *, distance=None, n_per_image=50, tolerance=2 * u.pix, rng=None, checkpoint=None, progress=True
    ):
        """
        The artificial-cluster test: inject, find, match.

        Parameters
        ----------
        prior : `~clustercnn.parameters.ParameterSpace`
            Clusters are drawn from it, and put anywhere but on pixels that are masked, not finite, or 0 in all bands.
        n : int
            How many clusters.
        finder : callable
            ``finder(images)`` gives a table with ``x_centroid`` and ``y_centroid``, or None if it finds nothing. Finders of photutils
            become one by ``clustercnn.survey.PhotutilsFinder``.
        distance : `~astropy.units.Quantity`, optional
            Distance of the clusters. Default: that given to the injector.
        n_per_image : int
            Clusters injected at once: few enough that they do not crowd each other.
        tolerance : `~astropy.units.Quantity`
            Largest distance of a detection from the truth, pixels.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Seed. Image ``i`` depends on it and on ``i`` alone.
        checkpoint : str or `~pathlib.Path`, optional
            An ECSV file that is written after each image. If it is there, the run goes on where it stopped; give an integer ``rng``
            and the same finder then.
        progress : bool
            Show a progress bar.

        Returns
        -------
        truth : `~astropy.table.QTable`
            What was injected, as of `inject`, with the columns ``recovered`` (bool); ``preexisting`` (bool): the finder sees something
            there without the cluster too, so that recovery may be chance; and ``background_`` with the name of each band: median of
            the 31 x 31 pixels around the place before, electron/s. The recovered fraction along any of the columns is
            ``recovered_fraction(truth, "mass", prior["mass"].edges())``; see `~clustercnn.simulation.recovered_fraction`.

        Raises
        ------
        ValueError
            If ``n`` or ``n_per_image`` is below 1, no pixel is good, or the checkpoint belongs to another test.
        TypeError
            If ``prior`` is no `~clustercnn.parameters.ParameterSpace`, or ``finder`` no function of images.
        """
        return artificial_cluster_test(
            self,
            prior,
            n,
            finder,
            distance=distance,
            n_per_image=n_per_image,
            tolerance=tolerance,
            rng=rng,
            checkpoint=checkpoint,
            progress=progress,
        )


class _Plane:
    """Data, mask and uncertainty of one band as writable arrays; light comes in electron/s, the arrays keep their own units."""

    def __init__(self, ccd, factor, data, mask, uncertainty):
        self.ccd, self._factor, self._data, self._mask, self._uncertainty = ccd, factor, data, mask, uncertainty
        self._power = POWERS.get(type(ccd.uncertainty))
        # What a variance in (electron/s)^2 is in squares of the uncertainty's own unit.
        self._variance_scale = factor**-2.0
        if self._power and ccd.uncertainty.unit is not None:
            self._variance_scale *= (ccd.unit**self._power).to(ccd.uncertainty.unit) ** (2 / self._power)

    @classmethod
    def in_memory(cls, ccd, factor):
        """Of copies of the arrays of a `~astropy.nddata.CCDData`, which are in `ccd`."""
        kind = np.dtype(ccd.data.dtype)
        data = np.array(ccd.data, dtype=kind.newbyteorder("=") if kind.kind == "f" else np.float32)
        mask = None if ccd.mask is None else np.array(np.broadcast_to(np.asarray(ccd.mask) != 0, data.shape))
        uncertainty, values = ccd.uncertainty, None
        if uncertainty is not None:
            values = np.array(np.broadcast_to(np.asarray(uncertainty.array), data.shape), dtype=data.dtype)
            uncertainty = type(uncertainty)(values, unit=uncertainty.unit, copy=False)
        new = CCDData(data, unit=ccd.unit, wcs=ccd.wcs, mask=mask, uncertainty=uncertainty, meta=ccd.meta)
        return cls(new, factor, new.data, mask, None if uncertainty is None else new.uncertainty.array)

    @classmethod
    def on_disk(cls, ccd, factor, path, number):
        """Of the arrays of band ``number`` in a file of `~clustercnn.images.MultiBandImage.write`."""
        arrays = []
        with fits.open(path) as hdus:
            for name in ("DATA", "MASK", "UNCERT"):
                if (name, number) in hdus:
                    hdu = hdus[name, number]
                    kind = np.dtype(fits.BITPIX2DTYPE[hdu.header["BITPIX"]]).newbyteorder(">")
                    arrays.append(np.memmap(path, kind, "r+", hdu.fileinfo()["datLoc"], hdu.shape))
                else:
                    arrays.append(None)
        return cls(ccd, factor, *arrays)

    def add(self, section, light, variance, limit):
        """Add light and its variance, both by electron/s; mask what it lifts above a limit, and say whether there is any."""
        before = self._data[section].astype(float)
        after = before + light / self._factor
        self._data[section] = after
        if self._power:
            added = variance * self._variance_scale
            old = self._uncertainty[section].astype(float)
            if self._power == 1:
                new = np.sqrt(old**2 + added)
            else:
                new = old + added if self._power == 2 else old / (1 + old * added)
            self._uncertainty[section] = new
        if limit is None:
            return False
        risen = (before * self._factor <= limit) & (after * self._factor > limit)
        self._mask[section] |= risen.astype(self._mask.dtype)
        return bool(risen.any())


def _prepared(ccd, with_mask):
    """A `~astropy.nddata.CCDData` whose uncertainty can grow, and that has a mask where it needs one; the pixels are not copied."""
    uncertainty, mask = ccd.uncertainty, ccd.mask
    if uncertainty is not None and type(uncertainty) not in POWERS:
        try:
            uncertainty = uncertainty.represent_as(StdDevUncertainty)
        except TypeError as error:
            raise TypeError(
                f"uncertainties of the kind {type(uncertainty).__name__} cannot grow by photon noise; give StdDevUncertainty, "
                "VarianceUncertainty, InverseVariance or None"
            ) from error
    if with_mask and mask is None:
        mask = np.broadcast_to(np.False_, ccd.data.shape)
    return CCDData(ccd.data, unit=ccd.unit, wcs=ccd.wcs, mask=mask, uncertainty=uncertainty, meta=ccd.meta)


def _cluster_list(clusters):
    """The ready-made clusters in a list."""
    hints = {SyntheticCluster: "make it a list, [cluster]", Row: "take a slice of the table, such as table[:1]", dict: "make it a QTable"}
    hint = next((f": {hint}" for kind, hint in hints.items() if isinstance(clusters, kind)), "")
    if hint or not hasattr(clusters, "__iter__"):
        raise TypeError(f"clusters must be a list of SyntheticCluster, a table or a ParameterSpace, not a {type(clusters).__name__}{hint}")
    clusters = list(clusters)
    for i, cluster in enumerate(clusters):
        if not isinstance(cluster, SyntheticCluster):
            raise TypeError(f"clusters must be SyntheticCluster objects, a table or a ParameterSpace, but number {i} is a {type(cluster).__name__}")
    return clusters


def _cluster_table(clusters):
    """A table of clusters with units, once all of it can be read."""
    table = QTable(clusters, copy=False)  # in a plain table units stand beside the numbers
    if missing := [name for name in PARAMETERS if name not in table.colnames]:
        raise ValueError(f"clusters must have the columns {tuple(PARAMETERS)}, but lack {missing}")
    if unread := [name for name in UNREAD_COLUMNS if name in table.colnames]:
        raise ValueError(
            f"clusters have the columns {unread}, which cannot be read from a table: rename or remove them, or pass a list of SyntheticCluster"
        )
    for name in (*PARAMETERS, *FURTHER_COLUMNS):
        if name in table.colnames and hasattr(table[name], "mask"):
            if np.any(masked := table[name].mask):
                raise ValueError(f"clusters must not be masked, but {name} is in row {np.flatnonzero(masked)[0]}")
            if isinstance(table[name], Masked):
                table[name] = table[name].unmasked
    check_ids(table, "clusters")
    if "id" in table.colnames:
        table["id"] = np.ma.asarray(table["id"]).data
    return table


def _plain_number(value):
    """A metallicity or a ratio that comes with a unit, as those of a prior do, without it; other values as they are."""
    if isinstance(value, u.Quantity) and value.unit in (u.dimensionless_unscaled, u.dex):
        return float(value.value)
    return value
