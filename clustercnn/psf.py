# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Point spread functions: any kernel a user has, oversampled, and the built-in model of HST."""

import hashlib
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.modeling import Fittable2DModel
from astropy.nddata import NDData
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning

from .instruments import check_instrument, same_pixel_scale
from .parameters import as_quantity, positive_quantity

__all__ = ["PSF", "as_psf", "builtin_psf", "check_psf_scale", "fingerprint", "hst_psf"]

# An empirical kernel is noisy about zero in its wings; more negative light than this is a broken kernel.
_NEGATIVE_LIGHT = 0.05
# Where the built-in kernel's edge begins, as a share of its radius.
_TAPER = 0.88
# Arcsec between nodes; with wider steps the core would be aliased.
_WIDEST_STEP = 0.035
_WAY_OUT = (
    "Give psf={band: as_psf(...)} with a PSF of your own: an empirical one (photutils: GriddedPSFModel.read of an STDPSF file, or "
    "EPSFBuilder on stars of your images) or a computed one (Tiny Tim, STPSF)"
)


class PSF:
    """
    The point spread function of one band, on a grid finer than the pixels.

    Most users call `as_psf` or `builtin_psf`. A PSF holds all the light of its source: a star of some flux, rendered, sums to
    that flux. Light that a kernel leaves out, beyond its edge, is therefore folded into it: where a kernel holds only a
    fraction f of the light, every aperture comes out brighter by 1/f. Take kernels that are wide enough, or that are
    normalised to the aperture to which the photometry is corrected.

    Parameters
    ----------
    data : array_like
        Values at the nodes of a grid with ``oversampling`` nodes per native pixel, in any normalisation; odd or even.
    oversampling : float
        Nodes per native pixel.
    pixel_integrated : bool
        Whether the values include the response of the native pixel (an effective PSF) or not (an optical PSF, to which
        the pixel is still to be applied).
    center : tuple of float, optional
        Where the source sits in ``data`` as ``(x, y)``, 0-indexed; default the middle, ``(n - 1) / 2``.
    pixel_scale : `~astropy.units.Quantity`, optional
        Of the native pixels, where it is known: instruments of other pixels then refuse the PSF.

    Attributes
    ----------
    data : `~numpy.ndarray`
        2D, float64, sum 1, read-only.
    oversampling : float
    pixel_integrated : bool
    center : tuple of float
    pixel_scale : `~astropy.units.Quantity` or None

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.psf import PSF
    >>> PSF(np.ones((5, 5)), oversampling=4, pixel_integrated=False)
    <PSF (5, 5), 4x oversampled, pixel_integrated=False>
    """

    def __init__(self, data, oversampling, pixel_integrated, center=None, pixel_scale=None):
        # float64 also makes big-endian data native
        data = np.array(data, dtype=np.float64)
        if data.ndim != 2 or min(data.shape) < 1:
            raise ValueError(f"a PSF kernel must be a 2D array, not of shape {data.shape}")
        if not np.all(np.isfinite(data)):
            raise ValueError(
                f"the PSF kernel holds {np.count_nonzero(~np.isfinite(data))} NaN, infinite or masked values; fill them first"
            )
        total = data.sum()
        negative = -data[data < 0].sum()
        if not total > 0:
            raise ValueError(f"the PSF kernel must have a positive sum, not {total:g}")
        if negative > _NEGATIVE_LIGHT * total:
            raise ValueError(
                f"the PSF kernel's negative values amount to {negative / total:.1%} of its sum; "
                f"at most {_NEGATIVE_LIGHT:.0%} passes as noise: cut its wings, smooth it, or make it of more and brighter stars"
            )
        if not (np.isscalar(oversampling) and 0 < oversampling < np.inf):
            raise ValueError(f"oversampling must be a positive number, the same along x and y, not {oversampling!r}")
        self.data = data / total
        self.data.setflags(write=False)
        self.oversampling = oversampling
        self.pixel_integrated = bool(pixel_integrated)
        self.pixel_scale = None if pixel_scale is None else as_quantity(pixel_scale, u.arcsec / u.pix, "pixel_scale")
        middle = (data.shape[1] - 1) / 2, (data.shape[0] - 1) / 2
        if center is None:
            self.center = middle
            self._warn_off_center()
        else:
            self.center = float(center[0]), float(center[1])
            if not all(0 <= c <= 2 * m for c, m in zip(self.center, middle, strict=True)):
                raise ValueError(f"center must be (x, y) inside the kernel of shape {data.shape}, not {center}")

    def _warn_off_center(self):
        # Even kernels with the source on pixel n/2 are common, and would shift every star unnoticed.
        y, x = np.nonzero(self.data >= self.data.max() / 2)
        core = [np.average(axis, weights=self.data[y, x]) for axis in (x, y)]
        shift = np.hypot(*np.subtract(core, self.center)) / self.oversampling
        if shift > 0.1:
            py, px = np.unravel_index(self.data.argmax(), self.data.shape)
            warnings.warn(
                f"the core of the PSF kernel lies {shift:.2f} native pixels from its middle {self.center} and peaks at "
                f"(x, y) = ({px}, {py}): if the source sits there, give center=({px}, {py}); if in the middle, give "
                f"center={self.center}",
                AstropyUserWarning,
                stacklevel=4,
            )

    def __repr__(self):
        return f"<PSF {self.data.shape}, {self.oversampling:g}x oversampled, pixel_integrated={self.pixel_integrated}>"

    def enclosed(self, radius):
        """
        Share of the light within a circle around the source.

        Parameters
        ----------
        radius : float
            In native pixels.

        Returns
        -------
        share : float
            Of the kernel as it is, without the response of the pixel where that is still to be applied.

        Examples
        --------
        >>> from clustercnn.psf import hst_psf
        >>> print(f"{hst_psf('F438W').enclosed(4):.2f}")
        0.81
        """
        y, x = (np.arange(n) - middle for n, middle in zip(self.data.shape, self.center[::-1], strict=True))
        return float(self.data[np.hypot(y[:, None], x) <= radius * self.oversampling].sum())

    def otf(self, fy, fx):
        """
        The optical transfer function: the PSF's Fourier transform, with the native pixel's response in it once.

        Parameters
        ----------
        fy, fx : array_like
            Frequencies in cycles per native pixel; they broadcast. The outer product of a column ``fy[:, None]`` and a
            row ``fx[None, :]`` is fast.

        Returns
        -------
        otf : `~numpy.ndarray`
            Complex, 1 at zero frequency. Zero beyond the kernel's own Nyquist frequency, ``oversampling / 2``.

        Notes
        -----
        A star of flux F at pixel ``(x, y)`` has the Fourier amplitudes ``F otf(fy, fx) exp(-2 pi i (fx x + fy y))``.

        Examples
        --------
        >>> import numpy as np
        >>> from clustercnn.psf import as_psf
        >>> psf = as_psf(np.ones((1, 1)), oversampling=4)
        >>> print(psf.otf(0, [0, 0.5]).round(4))  # the pixel alone
        [1.    +0.j 0.6366+0.j]
        """
        fy, fx = np.asarray(fy, dtype=float), np.asarray(fx, dtype=float)
        ny, nx = self.data.shape
        y = (np.arange(ny) - self.center[1]) / self.oversampling
        x = (np.arange(nx) - self.center[0]) / self.oversampling
        if fy.ndim == fx.ndim == 2 and fy.shape[1] == fx.shape[0] == 1:
            result = self._axis(fy.ravel(), y) @ self.data @ self._axis(fx.ravel(), x).T
        else:
            fy, fx = np.broadcast_arrays(fy, fx)
            wave = self._axis(fy.ravel(), y) @ self.data
            result = (wave * self._axis(fx.ravel(), x)).sum(axis=1).reshape(fy.shape)
        return result

    def _axis(self, f, position):
        """The Fourier waves of one axis, times the pixel, cut at the Nyquist frequency."""
        weight = (np.abs(f) <= self.oversampling / 2) * (1.0 if self.pixel_integrated else np.sinc(f))
        return weight[:, None] * np.exp(-2j * np.pi * f[:, None] * position)


def as_psf(kernel, oversampling=None, pixel_integrated=None, *, center=None, position=None, radius=25):
    """
    Make a `PSF` of whatever kernel there is.

    Parameters
    ----------
    kernel : `PSF`, array_like, `~astropy.nddata.NDData`, FITS path, HDU or HDUList, photutils or astropy model
        A 2D array (or the first 2D image of a FITS file); a `~photutils.psf.ImagePSF`, `~photutils.psf.GriddedPSFModel` or
        result of `~photutils.psf.EPSFBuilder`; or any 2D `~astropy.modeling.Fittable2DModel`, which is sampled. Its sum does
        not matter: the PSF sums to 1 over the kernel.
    oversampling : int or float, optional
        Values of the kernel per pixel of your images and axis: for a mosaic drizzled to other pixels than the detector's that is
        the oversampling of the kernel times the new over the native pixel scale. Default: what a photutils model or the keyword
        OVERSAMP of a FITS header (STPSF) states, else 4. Where a header tells how far apart the values are (PIXELSCL of STPSF,
        PIXSCALE of Tiny Tim, in arcsec), instruments of other pixels refuse the PSF.
    pixel_integrated : bool, optional
        Whether the response of the native pixel is already in the kernel. Default: True for the photutils image models,
        which are effective PSFs, and those named ``...PRF``; else False. (For values averaged over the fine grid's cells that
        is right as well.)
    center : tuple of float, optional
        Where the source sits in an array or FITS kernel, ``(x, y)``, 0-indexed; default its middle, ``(n - 1) / 2``.
        Tiny Tim's subsampled kernels have even sides and the source at ``n / 2``.
    position : tuple of float, optional
        Detector position ``(x, y)`` at which a `~photutils.psf.GriddedPSFModel` is taken; default the centre of its grid.
        Beyond the grid its edge is taken, with a warning.
        Rows that STDPSF files mark as invalid count as dark.
    radius : float, optional
        Half the side of the square on which an astropy model is sampled, in native pixels.

    Returns
    -------
    psf : `PSF`

    Raises
    ------
    TypeError
        If ``kernel`` is nothing of the above.
    ValueError
        If the kernel is not 2D, holds NaN or masked values, is markedly negative or sums to zero; or if a file is no FITS image.

    Examples
    --------
    >>> from astropy.modeling.models import Gaussian2D
    >>> from clustercnn.psf import as_psf
    >>> as_psf(Gaussian2D(x_stddev=1, y_stddev=1), radius=6)
    <PSF (49, 49), 4x oversampled, pixel_integrated=False>
    """
    if isinstance(kernel, PSF):
        for name, value in (("oversampling", oversampling), ("pixel_integrated", pixel_integrated), ("center", center)):
            if value is not None and np.any(np.asarray(value) != getattr(kernel, name)):
                raise ValueError(f"{name} must be what the PSF states, {getattr(kernel, name)}, not {value}")
        return kernel
    pixel_scale = None
    kernel = getattr(kernel, "epsf", kernel)  # what photutils' EPSFBuilder returns
    if isinstance(kernel, Fittable2DModel):
        if center is not None:
            raise ValueError("center is for arrays and FITS kernels; a model states its own")
        return _from_model(kernel, oversampling, pixel_integrated, position, radius)
    if isinstance(kernel, (str, Path)):
        kernel = _read_image(kernel)
    elif isinstance(kernel, fits.HDUList):
        kernel = _first_image(kernel)
    if isinstance(kernel, (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)):
        oversampling = kernel.header.get("OVERSAMP", 4) if oversampling is None else oversampling
        # of STPSF and of Tiny Tim; in other headers PIXSCALE may be that of the image which an effective PSF was made of
        keyword = "PIXELSCL" if "OVERSAMP" in kernel.header else "PIXSCALE" if "SPHERICL" in kernel.header else ""
        step = kernel.header.get(keyword)
        if isinstance(step, (int, float)) and step > 0 and isinstance(oversampling, (int, float)):
            pixel_scale = oversampling * step * u.arcsec / u.pix
        kernel = kernel.data
    elif isinstance(kernel, NDData):
        kernel = np.ma.array(kernel.data, mask=False if kernel.mask is None else kernel.mask)
    elif isinstance(kernel, dict):
        raise TypeError("as_psf makes the PSF of one band; for several give a dict band -> PSF where a PSF is asked for")
    try:
        kernel = np.ma.filled(np.ma.asarray(getattr(kernel, "value", kernel), dtype=float), np.nan)
    except (TypeError, ValueError):
        raise TypeError(
            f"cannot make a PSF of a {type(kernel).__name__}: give a 2D array, a FITS image, or a photutils or astropy model"
        ) from None
    return PSF(kernel, 4 if oversampling is None else oversampling, bool(pixel_integrated), center, pixel_scale)


def check_psf_scale(psf, pixel_scale, band):
    """
    Raise a ValueError where a PSF is known to be sampled for pixels of another scale.

    Parameters
    ----------
    psf : `PSF`
        Passes if its ``pixel_scale`` is None.
    pixel_scale : `~astropy.units.Quantity`
        Of the images.
    band : str
        Whose PSF it is, for the message.
    """
    if psf.pixel_scale is not None and not same_pixel_scale(psf.pixel_scale, pixel_scale):
        right = psf.oversampling * (pixel_scale / psf.pixel_scale).to_value(u.dimensionless_unscaled)
        raise ValueError(
            f"the PSF of {band} has {psf.oversampling:g} values per pixel of {psf.pixel_scale:.4g}, but the pixels of the images are "
            f"{pixel_scale:.4g}: give as_psf oversampling={right:.4g} or, if the header of its file is wrong, the bare array"
        )


def fingerprint(psf):
    """
    A hash that tells a PSF from others: its values, how finely they are sampled, and where they hold.

    Parameters
    ----------
    psf : `PSF` or `~photutils.psf.GriddedPSFModel`
        The PSF.

    Returns
    -------
    digest : str

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.psf import as_psf, fingerprint
    >>> fingerprint(as_psf(np.ones((5, 5)), oversampling=4)) == fingerprint(as_psf(np.ones((5, 5)), oversampling=2))
    False
    """
    told = [repr(psf), *(np.asarray(getattr(psf, name, ())).tolist() for name in ("oversampling", "center", "grid_xypos"))]
    digest = hashlib.sha256(repr(told).encode())
    digest.update(np.ascontiguousarray(psf.data))
    return digest.hexdigest()


def _read_image(path):
    try:
        with fits.open(path, memmap=False) as hdus:
            return _first_image(hdus)
    except FileNotFoundError:
        raise
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as the FITS image of a PSF: {error}") from None


def _first_image(hdus):
    for hdu in hdus:
        if getattr(hdu, "is_image", False) and hdu.data is not None:
            if hdu.data.ndim != 2:
                raise ValueError(
                    f"the FITS PSF has the shape {hdu.data.shape}, not 2D; read a grid of PSFs with "
                    "photutils.psf.GriddedPSFModel.read and pass that with a position"
                )
            return hdu
    raise ValueError("no image in the FITS file of the PSF")


def _from_model(model, oversampling, pixel_integrated, position, radius):
    parameters = {name: _parameter(getattr(model, name), name) for name in model.param_names}
    x_name, y_name = next(((x, y) for x, y in (("x_0", "y_0"), ("x_mean", "y_mean")) if x in parameters), (None, None))
    if x_name is None:
        raise ValueError(f"{type(model).__name__} has no position (x_0, y_0 or x_mean, y_mean) to take as the source's")
    if hasattr(model, "oversampling"):  # photutils: an image, or a grid of them
        own = np.unique(model.oversampling)
        if own.size > 1:
            raise ValueError(f"oversampling of the model must be the same along x and y, not {model.oversampling}")
        if oversampling not in (None, own[0]):
            raise ValueError(f"oversampling must be what the model states, {own[0]}, not {oversampling}")
        oversampling = int(own[0])
        pixel_integrated = True if pixel_integrated is None else pixel_integrated
        ny, nx = model.data.shape[-2:]
        center = np.array(model.origin[:2], dtype=float)
        if model.data.ndim == 3:
            model = _without_invalid_rows(model)
            first, last = model.grid_xypos.min(axis=0), model.grid_xypos.max(axis=0)
            position = (first + last) / 2 if position is None else position
            if np.any(position < first - 1) or np.any(position > last + 1):
                warnings.warn(
                    f"position {position} lies outside the grid of PSFs, {first} to {last}: its edge is used; positions are of "
                    "the detector, not of a mosaic",
                    AstropyUserWarning,
                    stacklevel=3,
                )
            parameters[x_name], parameters[y_name] = position
    else:
        oversampling = 4 if oversampling is None else oversampling
        if pixel_integrated is None:
            pixel_integrated = type(model).__name__.endswith("PRF")  # photutils' name for what the pixel is in
        center = np.full(2, np.ceil(radius * oversampling))
        nx = ny = int(2 * center[0]) + 1
    y, x = np.mgrid[:ny, :nx]
    x, y = (x - center[0]) / oversampling + parameters[x_name], (y - center[1]) / oversampling + parameters[y_name]
    kernel = model.evaluate(x, y, *(np.atleast_1d(value) for value in parameters.values()))
    return PSF(np.reshape(kernel, x.shape), oversampling, bool(pixel_integrated), center)


def _parameter(parameter, name):
    """A parameter of a model as its ``evaluate`` takes it beside plain pixels: angles keep their unit, radian or degrees differ by model."""
    unit = parameter.unit
    if unit is None or name in ("flux", "amplitude") or unit in (u.pix, u.dimensionless_unscaled):
        return parameter.value
    if name == "theta" and unit.is_equivalent(u.rad):
        return parameter.quantity
    raise u.UnitsError(f"{name} of the model must be in native pixels, a plain number or in 'pix', not in '{unit}'")


def _without_invalid_rows(grid):
    """A gridded PSF with 0 where STDPSF files are filled with -0.1, at the edges of kernels near the edge of a chip."""
    invalid = np.isclose(grid.data, -0.1, rtol=0, atol=1e-6)
    return type(grid)(NDData(np.where(invalid, 0, grid.data), meta=grid.meta)) if invalid.any() else grid


@lru_cache
def _hst_table():
    table = QTable.read(Path(__file__).parent / "data" / "hst_psf.ecsv")
    flux = {str(name): np.array(row) for name, row in zip(table["passband"], table["flux"], strict=True)}
    return flux, table["pivot"].to_value(u.AA), np.array(table.meta["sigma_arcsec"])


def hst_psf(passband, pixel_scale=0.04 * u.arcsec / u.pix, *, oversampling=4, radius=1.25 * u.arcsec):
    """
    The built-in PSF of HST/WFC3/UVIS: a circular core and halo that follow the official encircled energy.

    Parameters
    ----------
    passband : str or `~astropy.units.Quantity`
        A WFC3/UVIS band, such as ``"WFC3_UVIS_F438W"`` or ``"F438W"``; or a pivot wavelength, for which the model is
        interpolated between the wide bands.
    pixel_scale : `~astropy.units.Quantity`
        Of the images, an angle per pixel.
    oversampling : int
        Nodes per pixel, no more than 0.035 arcsec apart: the core is a Gaussian of 0.022 arcsec.
    radius : `~astropy.units.Quantity`
        The kernel's radius, an angle.

    Returns
    -------
    psf : `PSF`
        Without the pixel's response.

    Notes
    -----
    A sum of Gaussians is fitted by non-negative least squares (``tools/fit_hst_psf.py``) to the encircled energies that
    STScI publishes for the chip UVIS1, drizzled images of 0.04 arcsec pixels; the pixel is taken out of the model, since
    rendering puts it in again. Encircled energies of the model are within 0.01 of the official ones from 0.08 to 6
    arcsec. There is no model for F218W, F225W and F475X, whose official curves no PSF can have: the first two put 60 % of the
    light within one pixel, three times as much as any other band, on both chips alike; the third falls beyond 0.4 arcsec.

    The kernel ends smoothly, tapered from 0.88 ``radius`` on. It holds all the light: what the taper takes and the 3-4 % that
    fall beyond ``radius`` stay in it, spread like the widest Gaussian. Folding them into the core, as a plain
    renormalisation does, would brighten every aperture by as much, while so the encircled energy is raised by less than 0.01
    within 0.5 arcsec, and by up to 0.04 at the edge.

    Examples
    --------
    >>> from clustercnn.psf import hst_psf
    >>> hst_psf("F438W")
    <PSF (251, 251), 4x oversampled, pixel_integrated=False>
    """
    scale = positive_quantity(pixel_scale, u.arcsec / u.pix, "pixel_scale").value
    if not oversampling > 0:
        raise ValueError(f"oversampling must be a positive number, not {oversampling}")
    if scale / oversampling > _WIDEST_STEP:
        raise ValueError(
            f"oversampling = {oversampling} is too coarse for a pixel_scale of {pixel_scale}: nodes must be no more than {_WIDEST_STEP} arcsec "
            f"apart; give hst_psf oversampling={int(np.ceil(scale / _WIDEST_STEP))}"
        )
    radius = positive_quantity(radius, u.arcsec, "radius").value
    flux, pivot, _ = _hst_table()
    if isinstance(passband, str):
        key = passband if passband.startswith("WFC3_UVIS_") else f"WFC3_UVIS_{passband}"
        if key not in flux:
            raise ValueError(f"no built-in PSF for {passband!r}: there are {', '.join(flux)}. {_WAY_OUT}")
        weights = flux[key]
    else:
        wavelength = as_quantity(passband, u.AA, "passband").value
        if not pivot.min() <= wavelength <= pivot.max():
            raise ValueError(
                f"the built-in PSF reaches from {pivot.min():.0f} to {pivot.max():.0f} Angstrom, not to {wavelength:.0f}"
            )
        wide = [i for i, name in enumerate(flux) if name.endswith("W")]
        curves = np.array(list(flux.values()))[wide]
        weights = np.array([np.interp(wavelength, pivot[wide], column) for column in curves.T])
        weights = weights / weights.sum()
    return _gaussian_kernel(tuple(weights.tolist()), scale, oversampling, radius)


@lru_cache(maxsize=64)
def _gaussian_kernel(weights, scale, oversampling, radius):
    sigmas = _hst_table()[2]
    step = scale / oversampling
    half = int(np.ceil(radius / step))
    x = np.arange(-half, half + 1) * step
    kernel = np.zeros((x.size, x.size))
    edge = (np.hypot(x[:, None], x) / radius - _TAPER) / (1 - _TAPER)
    taper = np.cos(np.pi / 2 * np.clip(edge, 0, 1)) ** 2
    for weight, sigma in zip(weights, sigmas, strict=True):
        wave = np.exp(-0.5 * (x / sigma) ** 2) * step / (np.sqrt(2 * np.pi) * sigma)
        halo = np.outer(wave, wave) * taper
        kernel += weight * halo
    kernel += halo * ((1 - kernel.sum()) / halo.sum())
    return PSF(kernel, oversampling, False, (half, half), scale * u.arcsec / u.pix)


def builtin_psf(instrument):
    """
    The built-in PSF of each band of an instrument.

    Parameters
    ----------
    instrument : `~clustercnn.instruments.Instrument`
        With WFC3/UVIS bands.

    Returns
    -------
    psf : dict
        Band -> `PSF`.

    Raises
    ------
    ValueError
        If there is no built-in PSF for a band.

    Examples
    --------
    >>> from clustercnn.instruments import Instrument
    >>> from clustercnn.psf import builtin_psf
    >>> list(builtin_psf(Instrument.from_name("HST/WFC3/UVIS/M83")))
    ['F336W', 'F438W', 'F814W']
    """
    check_instrument(instrument)
    known = _hst_table()[0]
    without = [band for band in instrument.bands if instrument.passband(band) not in known]
    if without:
        raise ValueError(
            f"no built-in PSF for {', '.join(without)} of {instrument.name}; there are models for WFC3/UVIS only, except F218W, "
            f"F225W and F475X. {_WAY_OUT}"
        )
    return {band: hst_psf(instrument.passband(band), instrument.pixel_scale) for band in instrument.bands}
