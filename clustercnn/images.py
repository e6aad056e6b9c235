# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""MultiBandImage: the one gate for observed pixels."""

import hashlib
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.utils.exceptions import AstropyUserWarning

from .files import whole_file
from .headers import stated_exposure
from .image_sources import as_ccd, band_of_file, open_fits
from .positions import pixel_positions
from .stellar import photometry

__all__ = ["LARGEST", "MultiBandImage", "pixel_shape"]

#: Pixels beyond this, of either sign, count as not finite: software writes 1e30 or -3.4e38 where it knows nothing.
LARGEST = 1e15
_RATE = u.electron / u.s
_COUNTS = u.adu, u.DN, u.ct  # names of one thing, which astropy keeps apart
_CLOSE = 0.02  # relative difference of exposures that does no harm
_BLOCK = 4_000_000  # pixels of one band that are read at once
_SAME_GRID = 0.05  # pixels by which the coordinates of two bands may differ
_SQUARE = 0.02  # relative difference of a pixel's sides, or of its diagonals, up to which it passes for a square
_TIE = 1e-3  # pixels: a position this close to the middle between two cutouts counts as on it, since sky coordinates round


class MultiBandImage(Mapping):
    """
    Images of one field in several bands, on one pixel grid: an ordered mapping band -> `~astropy.nddata.CCDData`.

    Sources stay as lazy as they come (memory-mapped FITS, dask, zarr): pixels are read, turned into native float32 and
    checked when they are asked for. Rows and columns (``images[100:200, 300:400]``) give a piece of all bands, with masks,
    uncertainties and coordinates.

    Parameters
    ----------
    images : dict
        Band -> image, in the order of every band axis. An image is an `~astropy.nddata.NDData` or
        `~astropy.nddata.CCDData`, a FITS path, HDU or HDUList, a `~astropy.nddata.Cutout2D`, a
        `~astropy.units.Quantity`, a 2D array, or a tuple of one of these and its WCS. Masks (True is bad) and uncertainties come along.
    unit : `~astropy.units.Unit` or str, optional
        Of the images that state none.
    wcs : WCS object, optional
        Of the images that have none.

    Raises
    ------
    ValueError
        If an image is not 2D or has no unit, or if the bands differ in shape, unit or sky coordinates.

    Notes
    -----
    Pixels are 0-indexed, with integers at their centres; positions are ``(x, y)``, shapes ``(ny, nx)``.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from clustercnn.images import MultiBandImage
    >>> sky = np.full((100, 120), 0.1) * u.electron / u.s
    >>> images = MultiBandImage({"F438W": sky, "F814W": 2 * sky})
    >>> images
    <MultiBandImage F438W, F814W; (100, 120), electron / s>
    >>> images.cutouts([(60.2, 50.0)], shape=(16, 16)).shape
    (1, 2, 16, 16)
    >>> images[40:60, 50:70]
    <MultiBandImage F438W, F814W; (20, 20), electron / s>
    """

    def __init__(self, images, *, unit=None, wcs=None):
        if not isinstance(images, Mapping) or not images:
            raise TypeError('images must be a dict of band -> image, such as {"F438W": "f438w_drz.fits"}')
        self._images = {str(band): as_ccd(image, band, unit, wcs) for band, image in images.items()}
        if len(self._images) < len(images):
            raise ValueError(f"bands must have different names, not {tuple(map(str, images))}")
        first, *others = self.bands
        for band in others:
            _check_grid(self[first], self[band], first, band)
        with_wcs = [band for band in self.bands if self[band].wcs is not None]
        self._wcs = self[with_wcs[0]].wcs if with_wcs else None
        for band in with_wcs[1:]:
            _check_wcs(self._wcs, self[band].wcs, self.shape, with_wcs[0], band)
        self._pickled = partial(type(self), dict(self._images))
        if all(isinstance(image, (str, Path)) for image in images.values()):
            self._pickled = partial(type(self), {band: Path(path).absolute() for band, path in images.items()}, unit=unit, wcs=wcs)

    def __reduce__(self):
        # images from files travel as paths: a worker maps the files again, where the pixels would fill its memory
        return self._pickled, ()

    @classmethod
    def from_arrays(cls, bands, pixels, unit, *, wcs=None, variance=None):
        """
        Images of plain arrays, as simulations make them.

        Parameters
        ----------
        bands : sequence of str
            Names of the bands.
        pixels : array_like
            Shape ``(band, ny, nx)``.
        unit : `~astropy.units.Unit`
            Of the pixels.
        wcs : WCS object, optional
            Of the grid.
        variance : array_like, optional
            Of the pixels, same shape; kept as standard deviations.

        Returns
        -------
        images : `MultiBandImage`

        Raises
        ------
        ValueError
            If there are not as many different bands as planes.
        """
        bands = (bands,) if isinstance(bands, str) else tuple(bands)
        if len(set(bands)) < len(bands) or len(bands) != len(pixels):
            raise ValueError(f"bands must be as many different names as there are planes of pixels, {len(pixels)}, not {bands}")
        sigmas = [None] * len(pixels) if variance is None else [StdDevUncertainty(np.sqrt(values)) for values in variance]
        return cls(
            {
                band: CCDData(values, unit=unit, wcs=wcs, uncertainty=sigma)
                for band, values, sigma in zip(bands, pixels, sigmas, strict=True)
            }
        )

    def __getitem__(self, band):
        if isinstance(band, (tuple, slice)):
            section = self._section(band)
            return MultiBandImage({name: self[name][section] for name in self.bands})
        try:
            return self._images[band]
        except KeyError:
            raise KeyError(f"no band {band!r}; there are {', '.join(self.bands)}") from None

    def _section(self, item):
        """Two slices that WCS objects take: without negative numbers, and of whole pixels one by one."""
        if not (isinstance(item, tuple) and len(item) == 2 and all(isinstance(part, slice) for part in item)):
            raise TypeError(f"a section must be two slices, of rows and columns, such as images[40:60, 50:70], not {item!r}")
        section = []
        for part, n in zip(item, self.shape, strict=True):
            start, stop, step = part.indices(n)
            if step != 1 or stop <= start:
                raise ValueError(f"a section must hold pixels, one next to the other, such as images[40:60, 50:70], not {part} of {n}")
            section.append(slice(start, stop))
        return tuple(section)

    def __iter__(self):
        return iter(self._images)

    def __len__(self):
        return len(self._images)

    # A comparison of arrays has no single truth value.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self):
        try:
            scale = "" if self.pixel_scale is None else f", {self.pixel_scale:.4g}"
        except ValueError:
            scale = ", pixels that are not square"
        return f"<MultiBandImage {', '.join(self.bands)}; {self.shape}, {self.unit}{scale}>"

    @property
    def bands(self):
        """Names of the bands, a tuple, in the order of every band axis."""
        return tuple(self._images)

    @property
    def shape(self):
        """Shape ``(ny, nx)`` of each band."""
        return tuple(int(n) for n in self[self.bands[0]].data.shape)

    @property
    def unit(self):
        """Unit of the pixels, the same in all bands."""
        return self[self.bands[0]].unit

    @property
    def wcs(self):
        """World coordinate system of the grid, or None."""
        return self._wcs

    @property
    def pixel_scale(self):
        """
        Angle per pixel at the centre of the image, a Quantity in arcsec / pix; None without celestial coordinates.

        Raises a ValueError where the pixels are not square to 2 %.
        """
        if self.wcs is None:
            return None
        y, x = ((n - 1) / 2 for n in self.shape)
        # the sides of the pixel, and its diagonals
        dx, dy = np.array([0.5, 0, 0.5, 0.5]), np.array([0, 0.5, 0.5, -0.5])
        start, end = (self.wcs.pixel_to_world(x + sign * dx, y + sign * dy) for sign in (-1, 1))
        if not isinstance(start, SkyCoord):
            return None
        angles = start.separation(end).to_value(u.arcsec)
        if max(np.ptp(angles[:2]) / angles[:2].max(), np.ptp(angles[2:]) / angles[2:].max()) > _SQUARE:
            raise ValueError(
                f"pixels must be square, but those of the images measure {angles[0]:.4g} by {angles[1]:.4g} arcsec, with diagonals "
                f"of {angles[2]:.4g} and {angles[3]:.4g} arcsec; bring them to square pixels with the reproject package first"
            )
        return np.sqrt(angles[0] * angles[1]) * u.arcsec / u.pix

    def pixel_positions(self, positions):
        """
        Positions of any kind as pixel coordinates.

        Parameters
        ----------
        positions : array_like, `~astropy.coordinates.SkyCoord` or `~astropy.table.Table`
            ``(n, 2)`` pixel coordinates ``(x, y)`` (or one pair); sky coordinates; or a table, or a row of one, with the
            columns ``x_centroid`` and ``y_centroid`` (or what photutils has: ``xcentroid``, ``x_fit``, ``x_center``, ``x_peak``,
            ``x_init``), else with one column of sky coordinates, or ``ra`` and ``dec`` (ICRS) with units; or a
            `~photutils.segmentation.SourceCatalog`.

        Returns
        -------
        xy : `~numpy.ndarray`
            Shape ``(n, 2)``, float.

        Raises
        ------
        TypeError
            If the positions are nothing of the above.
        ValueError
            If sky coordinates are given and the images have no WCS, the table has other columns, its ``sky_centroid`` is elsewhere than its
            centroid in pixels, as in a table of another image, or a position is masked or not finite.
        """
        return pixel_positions(positions, self.wcs)

    def cutout_origins(self, positions, shape):
        """
        The first pixel of each cutout.

        Parameters
        ----------
        positions
            See `pixel_positions`.
        shape : tuple of int
            ``(ny, nx)`` of the cutouts.

        Returns
        -------
        origins : `~numpy.ndarray`
            Integers, ``(n, 2)``, ``(x0, y0)``: the position lies at ``(x - x0, y - y0)`` in its cutout, within half a
            pixel of the cutout's centre ``((nx - 1) / 2, (ny - 1) / 2)``. May be negative. A position midway between two
            cutouts (to a thousandth of a pixel), such as a whole pixel with an even ``shape``, gets the upper one.
        """
        ny, nx = pixel_shape(shape)
        # round half up: rounding half to even would send neighbouring pixels to different sides
        return np.floor(self.pixel_positions(positions) - [(nx - 1) / 2, (ny - 1) / 2] + 0.5 + _TIE).astype(int)

    def cutouts(self, positions, shape, unit=_RATE, *, instrument=None, nan="raise"):
        """
        Stamps around positions, cut at whole pixels.

        Parameters
        ----------
        positions
            See `pixel_positions`.
        shape : tuple of int
            ``(ny, nx)``.
        unit : `~astropy.units.Unit` or str, optional
            Unit of the result; None for that of the images.
        instrument : `~clustercnn.instruments.Instrument`, optional
            Needed where the conversion takes an exposure, a gain or a zero point.
        nan : {'raise', 'mask'}
            What to do with pixels that are not finite (or beyond 1e15 in the unit of the result, as software writes them where it knows
            nothing) and not masked. With ``'mask'`` those that are 0 in all bands count as masked,
            too, where the images are of floating-point numbers: drizzling leaves such pixels where nothing was exposed.

        Returns
        -------
        stamps : `~astropy.units.Quantity`
            Shape ``(n, band, ny, nx)``, float32; NaN where a pixel is masked or lies outside the image.

        Raises
        ------
        ValueError
            If there are NaN outside the mask and ``nan="raise"``, or the unit needs an instrument.
        """
        _check_nan(nan)
        ny, nx = pixel_shape(shape)
        origins = self.cutout_origins(positions, shape)
        unit = self.unit if unit is None else u.Unit(unit)
        stamps = np.full((len(origins), len(self), ny, nx), np.nan, dtype=np.float32)
        # overlap of each cutout with the image, in image pixels
        low = np.clip(origins, 0, np.array(self.shape[::-1]))
        high = np.clip(origins + [nx, ny], 0, np.array(self.shape[::-1]))
        kept = np.flatnonzero(np.all(high > low, axis=1))
        sections = [(slice(low[i, 1], high[i, 1]), slice(low[i, 0], high[i, 0])) for i in kept]
        for j, band in enumerate(self.bands):
            factor = self.conversion(band, unit, instrument)
            for i, part in zip(kept, self._read(band, sections, factor, nan), strict=True):
                x0, y0 = low[i] - origins[i]
                stamps[i, j, y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
        self._mask_unexposed(stamps.swapaxes(0, 1), nan)
        if nan == "mask":  # a band that is 0 throughout a cutout has not been exposed there
            stamps[((stamps == 0) | np.isnan(stamps)).all(axis=(2, 3)) & self._are_fractions()] = np.nan
        return u.Quantity(stamps, unit, dtype=np.float32, copy=False)

    def to_array(self, unit=None, *, section=(slice(None), slice(None)), instrument=None, nan="raise"):
        """
        The pixels of all bands, or of a section of them.

        Parameters
        ----------
        unit : `~astropy.units.Unit` or str, optional
            Unit of the result; default that of the images.
        section : tuple of slice, optional
            Rows and columns, ``(y, x)``; default all.
        instrument, nan
            See `cutouts`.

        Returns
        -------
        pixels : `~numpy.ndarray`
            Shape ``(band, ny, nx)``, native float32; NaN where masked.
        """
        _check_nan(nan)
        unit = self.unit if unit is None else u.Unit(unit)
        pixels = np.stack([self._read(band, [section], self.conversion(band, unit, instrument), nan)[0] for band in self.bands])
        self._mask_unexposed(pixels, nan)
        return pixels

    def _are_fractions(self):
        """Which bands hold floating-point numbers."""
        return np.array([np.dtype(self[band].data.dtype).kind == "f" for band in self.bands])

    def _mask_unexposed(self, pixels, nan):
        """With nan="mask", NaN where pixels (band, ...) are 0 in all bands that have them; of whole numbers 0 is one like others."""
        if nan == "mask" and self._are_fractions().all():
            pixels[:, ((pixels == 0) | np.isnan(pixels)).all(axis=0)] = np.nan

    def sha256(self):
        """
        A hash of all pixels, masks and the unit, to tell these images from others. Every pixel is read once, in blocks of rows.

        Returns
        -------
        digest : str
        """
        digest = hashlib.sha256(f"{self.bands} {self.shape} {self.unit}".encode())
        for start in range(0, self.shape[0], step := max(1, _BLOCK // self.shape[1])):
            digest.update(self.to_array(section=(slice(start, start + step), slice(None)), nan="mask"))
        return digest.hexdigest()

    def _read(self, band, sections, factor, nan):
        """Sections of a band as native float32 arrays, times a factor, with NaN where masked."""
        ccd = self[band]
        parts, masks = _load(ccd.data, sections), [False] * len(sections)
        if ccd.mask is not None and np.ndim(ccd.mask) == 2:
            masks = _load(ccd.mask, sections)
        elif ccd.mask is not None:
            masks = [bool(ccd.mask)] * len(sections)
        pixels = []
        for section, part, mask in zip(sections, parts, masks, strict=True):
            if factor != 1:
                part = np.asarray(part, dtype=np.float64) * factor  # a flux density alone may underflow float32
            part = np.array(part, dtype=np.float32)
            part[np.broadcast_to(np.asarray(mask) != 0, part.shape)] = np.nan
            bad = ~((part >= -LARGEST) & (part <= LARGEST)) & (np.asarray(mask) == 0)
            if bad.any() and nan == "raise":
                y, x = (
                    int(axis[0] + (part_slice.start or 0)) for axis, part_slice in zip(np.nonzero(bad), section, strict=True)
                )
                raise ValueError(
                    f"band {band} has {np.count_nonzero(bad)} pixels that are NaN, infinite or beyond {LARGEST:g} and not masked, the first at "
                    f'(x, y) = ({x}, {y}); pass nan="mask" to treat such pixels as masked'
                )
            part[bad] = np.nan
            pixels.append(part)
        return pixels

    def conversion(self, band, unit, instrument=None):
        """
        What the pixels of a band are multiplied with to be in another unit.

        Parameters
        ----------
        band : str
            The band.
        unit : `~astropy.units.Unit`
            The other unit.
        instrument : `~clustercnn.instruments.Instrument`, optional
            Needed where the conversion takes an exposure, a gain or a zero point.

        Returns
        -------
        factor : float
        """
        try:
            return self.unit.to(unit)
        except u.UnitConversionError:
            if instrument is not None and any(self.unit.is_equivalent(count) for count in (u.electron, *_COUNTS)):
                self._check_exposure(band, instrument)
            return self._rate(band, self.unit, instrument) / self._rate(band, unit, instrument)

    def _check_exposure(self, band, instrument):
        """Warn where the header of an image states another exposure than the one that its counts are divided by."""
        stated, used = stated_exposure(self[band].meta), instrument.exposure(band).to_value(u.s)
        if stated is not None and not abs(stated / used - 1) < _CLOSE:
            warnings.warn(f"EXPTIME of {band} is {stated:g} s, but its counts are divided by the exposure of the instrument, {used:g} s",
                          AstropyUserWarning)

    def _rate(self, band, unit, instrument):
        """Electrons per second per pixel that one unit stands for."""
        if u.pix in unit.bases:
            unit = unit * u.pix  # given with or without the '/ pix'
        if unit.is_equivalent(_RATE):
            return unit.to(_RATE)
        if instrument is None:
            raise ValueError(
                f"pixels in '{self.unit}' turn into other units only with an exposure, gain or zero point: pass instrument="
            )
        exposure, gain = instrument.exposure(band), instrument.gain(band)
        if unit.is_equivalent(u.electron):
            return (1 * unit / exposure).to_value(_RATE)
        for count in _COUNTS:
            if unit.is_equivalent(count):
                return unit.to(count) * (1 * u.adu * gain / exposure).to_value(_RATE)
            if unit.is_equivalent(count / u.s):
                return unit.to(count / u.s) * (1 * u.adu / u.s * gain).to_value(_RATE)
        passband = instrument.passband(band)
        spectral = u.spectral_density(photometry.pivot_wavelength(passband))
        flux = 1 * unit
        if (flux * u.sr).unit.is_equivalent(u.Jy, spectral):
            scale = instrument.pixel_scale if self.pixel_scale is None else self.pixel_scale
            flux = flux * (scale * u.pix) ** 2
        if not flux.unit.is_equivalent(u.Jy, spectral):
            raise u.UnitsError(
                f"pixels in '{unit}' cannot be turned into electron / s; electron, adu, Jy, MJy / sr and "
                "erg / (s cm2 Angstrom) can"
            )
        ab_zero_point = instrument.zero_point(band, "ab").to_value(u.mag)
        return flux.to_value(u.Jy, spectral) / (3631 * 10 ** (-0.4 * ab_zero_point))

    def write(self, path, *, overwrite=False):
        """
        Write all bands to one FITS file: data, masks, uncertainties, units and coordinates.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The file; it appears only when it is complete.
        overwrite : bool
            Whether it may replace another.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            raise OSError(f"{path} exists; pass overwrite=True to replace it")
        primary = fits.PrimaryHDU()
        primary.header["CONTENT"] = ("MultiBandImage", "images of one field, one band per extension")
        primary.header["NBANDS"] = len(self)
        hdus = [primary]
        for i, band in enumerate(self.bands, 1):
            primary.header[f"BAND{i}"] = band
            ccd = self[band]
            data = ccd.data if hasattr(ccd.data, "compute") else np.asarray(ccd.data)  # astropy writes dask in pieces
            if np.dtype(data.dtype) == np.float16:  # which FITS does not have
                data = data.astype(np.float32)
            wcs = self.wcs if ccd.wcs is None else ccd.wcs
            whole = CCDData(data, unit=ccd.unit, wcs=wcs, uncertainty=ccd.uncertainty, meta=ccd.meta)
            group = whole.to_hdu(hdu_uncertainty="UNCERT", wcs_relax=True, as_image_hdu=True)
            if ccd.mask is not None:  # not by CCDData, which would copy it
                group.append(fits.ImageHDU(np.broadcast_to(np.asarray(ccd.mask, dtype=bool), self.shape).view(np.uint8), name="MASK"))
            for hdu, kind in zip(group, ("DATA", *(hdu.name for hdu in group[1:])), strict=True):
                hdu.name, hdu.ver = kind, i
            hdus += group
        with whole_file(path) as new:
            fits.HDUList(hdus).writeto(new)

    @classmethod
    def read(cls, source, *, unit=None, wcs=None):
        """
        Read images, lazily where the format allows.

        Parameters
        ----------
        source : dict, str or `~pathlib.Path`
            Band -> anything that the class takes, FITS paths in particular; or one file made by `write`. A `MultiBandImage` is read already.
        unit, wcs : optional
            Of the images that state none.

        Returns
        -------
        images : `MultiBandImage`

        Raises
        ------
        TypeError
            If ``source`` is nothing of these.
        ValueError
            If it is a file that `write` has not made.
        """
        if isinstance(source, cls) and unit is None and wcs is None:
            return source
        if isinstance(source, Mapping):
            return cls(source, unit=unit, wcs=wcs)
        if not isinstance(source, (str, Path)):
            raise TypeError('images must be a MultiBandImage, such as MultiBandImage.read({"F438W": "f438w_drz.fits"}), or what it reads, not a '
                            f"{type(source).__name__}")
        with open_fits(source) as hdus:
            header = hdus[0].header
            if header.get("CONTENT") != "MultiBandImage":
                raise ValueError(
                    f'{source} is not a file of MultiBandImage.write; name its band: {{"F438W": {str(source)!r}}}'
                )
            bands = [header[f"BAND{i}"] for i in range(1, header["NBANDS"] + 1)]
            images = {band: band_of_file(hdus, band, unit) for band in bands}
        images = cls(images, unit=unit, wcs=wcs)
        images._pickled = partial(cls.read, Path(source).absolute(), unit=unit, wcs=wcs)
        return images


def _check_grid(one, other, name, other_name):
    if one.data.shape != other.data.shape:
        raise ValueError(
            f"the bands must share one pixel grid, but {name} has the shape {tuple(one.data.shape)} and {other_name} "
            f"{tuple(other.data.shape)}; bring them to one grid with the reproject package first"
        )
    if one.unit != other.unit:
        raise ValueError(f"the bands must share one unit, but {name} is in '{one.unit}' and {other_name} in '{other.unit}'")


def _check_wcs(one, other, shape, name, other_name):
    if one is other:
        return
    y, x = np.array([0, 0, 1, 1, 0.5]) * (shape[0] - 1), np.array([0, 1, 0, 1, 0.5]) * (shape[1] - 1)
    shift = np.hypot(
        *(np.subtract(*pair) for pair in zip(other.world_to_pixel(one.pixel_to_world(x, y)), (x, y), strict=True))
    )
    if not np.all(shift < _SAME_GRID):
        raise ValueError(
            f"the bands must share one pixel grid, but the sky coordinates of {name} and {other_name} are up to "
            f"{np.max(shift):.3g} pixels apart; bring them to one grid with the reproject package first"
        )


def _check_nan(nan):
    if nan not in ("raise", "mask"):
        raise ValueError(f"nan must be 'raise' or 'mask', not {nan!r}")


def pixel_shape(shape, name="shape"):
    """
    The shape of an image as two plain integers.

    Parameters
    ----------
    shape : sequence of int
        ``(ny, nx)``.
    name : str
        Of the argument, for the message.

    Returns
    -------
    shape : tuple of int

    Raises
    ------
    ValueError
        If it is anything else.

    Examples
    --------
    >>> from clustercnn.images import pixel_shape
    >>> pixel_shape([64, 64])
    (64, 64)
    """
    if np.shape(shape) != (2,) or any(n != int(n) or n < 1 for n in shape):
        raise ValueError(f"{name} must be two whole numbers of pixels (ny, nx) such as (64, 64), not {shape!r}")
    return int(shape[0]), int(shape[1])


def _load(source, sections):
    """Pieces of an array of any kind; those of a dask array in one go, so that shared chunks are read once."""
    parts = [source[section] for section in sections]
    if parts and hasattr(parts[0], "compute"):
        import dask

        parts = dask.compute(*parts)
    return parts
