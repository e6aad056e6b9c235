# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Stamps for inference: what the user has, checked against the contract of what infers."""

import warnings

import numpy as np
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning

from .headers import DEPTH, contradictions
from .instruments import Instrument, check_instrument, same_pixel_scale
from .parameters import as_quantity
from .positions import check_on_image
from .psf import PSF, check_psf_scale
from .psf_powers import NODES, OWN_POWER, psf_powers

__all__ = ["depth_covered", "log_depth", "log_psf_powers", "psf_covered", "read_stamps", "warn_of_headers"]

_PSF = 0.15  # natural logarithm of the power of a PSF from which on sizes and masses are off


def read_stamps(
    images, positions, contract, *, unit=None, instrument=None, pixel_scale=None, batch_size=256, nan="raise", incomplete=False,
    user="network",
):
    """
    Stamps in the bands, the order, the shape and the unit of a contract, batch by batch.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage` or `~astropy.units.Quantity`
        Images that hold the bands, or stamps of shape (n, band, ny, nx) in the order of the bands.
    positions : array_like, `~astropy.coordinates.SkyCoord`, `~astropy.table.Table` or None
        Where the sources are in images; None with stamps.
    contract : dict
        ``bands``, ``stamp_shape`` and, where known, ``pixel_scale`` (arcsec), ``zero_points``, ``exposure`` and
        ``instrument``: what `~clustercnn.simulation.MockStream` promises.
    unit : `~astropy.units.Unit`, optional
        Unit of the result. Default: as the pixels come, without calibration.
    instrument : `~clustercnn.instruments.Instrument`, optional
        What the data were taken with. Needed for images in other units than rates; and where its zero points differ from
        the contract's, calibrated pixels are brought to the latter. Passbands and pixel scale must be the contract's.
    pixel_scale : `~astropy.units.Quantity`, optional
        Angle per pixel, of images or stamps that do not know their own.
    batch_size : int
        Stamps in memory at once.
    nan : {'raise', 'mask'}
        See `~clustercnn.images.MultiBandImage.cutouts`.
    incomplete : bool
        Whether images may lack bands, though not all of them: their pixels are NaN.
    user : str
        Who needs the stamps, for the messages.

    Returns
    -------
    n : int
        Number of stamps.
    batches : iterator of `~numpy.ndarray`
        Native float32, shape (m, band, ny, nx); NaN where a pixel is NaN, masked or off the image.

    Raises
    ------
    TypeError
        If the stamps are not a Quantity.
    `~astropy.units.UnitsError`
        If their unit does not convert.
    ValueError
        For missing bands, other stamp shapes or passbands, a pixel scale more than 2 % off, positions missing or out of
        place, and headers that state another band or, by more than 0.1 mag, zero point than the contract where there is no instrument.

    Warns
    -----
    `~astropy.utils.exceptions.AstropyUserWarning`
        If exposures of the instrument differ by a factor of more than 1.4 from all that the contract covers (``depth_scatter``), or the headers
        of images contradict the preset that is the instrument or, without an instrument, state other exposures than the contract or zero points
        that cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from clustercnn.images import MultiBandImage
    >>> from clustercnn.stamps import read_stamps
    >>> images = MultiBandImage({"F814W": np.ones((40, 40)), "F438W": np.zeros((40, 40))}, unit=u.electron / u.s)
    >>> n, batches = read_stamps(images, [(20, 21)], {"bands": ["F438W", "F814W"], "stamp_shape": [8, 8]})
    >>> n, next(batches)[0].mean(axis=(1, 2)).tolist()
    (1, [0.0, 1.0])
    """
    bands, shape = tuple(contract["bands"]), tuple(contract["stamp_shape"])
    if hasattr(images, "cutouts"):
        if positions is None:
            raise ValueError(
                "positions must be given with a MultiBandImage: pixels (x, y) of shape (n, 2), a SkyCoord or a table"
            )
        missing = [band for band in bands if band not in images.bands]
        if missing and not (incomplete and len(missing) < len(bands)):
            raise ValueError(f"images lack the bands {missing}; the {user} needs {bands}, the images hold {tuple(images.bands)}")
        images = type(images)({band: images[band] for band in bands if band in images.bands})
        there = [band in images.bands for band in bands]
        known = images.pixel_scale
        xy = images.pixel_positions(positions)
        check_on_image(xy, images.shape)
        n = len(xy)

        def cut(start, stop):
            found = images.cutouts(xy[start:stop], shape, unit=unit, instrument=instrument, nan=nan).value
            stamps = np.full((len(found), len(bands), *shape), np.nan, dtype=np.float32)
            stamps[:, there] = found
            return stamps

    else:
        if not isinstance(images, u.Quantity):
            raise TypeError('images must be a MultiBandImage, as MultiBandImage.read({"F438W": "f438w.fits", ...}) makes it, or a Quantity of '
                            f"stamps such as array * u.electron / u.s, not a {type(images).__name__}")
        if positions is not None:
            raise ValueError("positions go with a MultiBandImage; stamps are centred on their sources already")
        expected = (len(bands), *shape)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(
                f"images must have shape (n, {', '.join(map(str, expected))}) for bands {bands}, not {images.shape}"
            )
        n, there, known = len(images), [True] * len(bands), None
        own = images.unit if unit is None else u.Unit(unit)
        if images.unit.is_equivalent(u.electron) and own.is_equivalent(u.electron / u.s):
            raise u.UnitsError(f"images must have a unit that converts to '{own}', not '{images.unit}': divide stamps by their exposures (a "
                               "MultiBandImage is converted with instrument=)")
        as_quantity(images[:0], own, "images")
        if hasattr(images, "filled"):  # astropy's Masked
            images = images.filled(np.nan)

        def cut(start, stop):
            stamps = np.array(images[start:stop].to_value(own))
            if nan == "mask" and images.dtype.kind == "f":  # as in cutouts: a band of floats that is 0 throughout has not been exposed
                stamps[((stamps == 0) | np.isnan(stamps)).all(axis=(2, 3))] = np.nan
            return stamps

    if instrument is not None:
        _check_instrument(instrument, contract, np.array(bands)[there].tolist(), user)
        if known is None and pixel_scale is None:
            known = instrument.pixel_scale
        if positions is not None:
            warn_of_headers(images, instrument, stacklevel=4)
    elif positions is not None:
        other = f"the headers are not what the {user} takes for granted (%s): tell it what took the images with instrument="
        zero_points = contract.get("zero_points") or {} if unit is not None else {}
        wrong, doubtful = contradictions(images, contract.get("exposure", {}), zero_points)
        if wrong:
            raise ValueError(other % "; ".join(wrong))
        if doubtful:
            warnings.warn(other % "; ".join(doubtful), AstropyUserWarning, stacklevel=3)
    for scale in (pixel_scale, known):
        if scale is not None:
            _check_pixel_scale(scale, contract.get("pixel_scale"), user)
    factor = np.float32(1) if unit is None or instrument is None else _zero_point_factors(instrument, contract)

    cut(0, 0)  # a unit that does not convert is refused here and now

    def batches():
        for start in range(0, n, batch_size):
            yield np.array(cut(start, start + batch_size) * factor, dtype=np.float32, order="C")

    return n, batches()


def warn_of_headers(images, instrument, stacklevel=3):
    """
    Warn where the headers of images contradict a preset with exposures, "HST/WFC3/UVIS/M83"; who gives an instrument of their own knows better.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage`
        With the headers as ``meta``.
    instrument : `~clustercnn.instruments.Instrument`
        With the bands of the images.
    stacklevel : int
        Of whose line the warning tells.

    Warns
    -----
    `~astropy.utils.exceptions.AstropyUserWarning`
        If an exposure is off by a factor of more than 1.4 or a zero point by more than 0.1 mag.
    """
    if not _is_preset(instrument):
        return
    bands = [band for band in images.bands if band in instrument.bands]
    exposures = {band: instrument.exposure(band).to_value(u.s) for band in bands}
    zero_points = {band: instrument.zero_point(band).to_value(u.mag) for band in bands}
    wrong, doubtful = contradictions(images, exposures, zero_points)
    if wrong or doubtful:
        warnings.warn(f"the headers contradict the instrument {instrument.name} ({'; '.join(wrong + doubtful)}): Instrument.from_header makes "
                      "one of the headers", AstropyUserWarning, stacklevel=stacklevel)


def _is_preset(instrument):
    try:
        return instrument == Instrument.from_name(instrument.name)
    except (TypeError, ValueError):  # of cameras, whose exposure users give, or of no preset at all
        return False


def depth_covered(contract):
    """
    By which factor exposures may differ from those of a contract, either way.

    Parameters
    ----------
    contract : dict
        With ``depth_scatter`` (dex) where the mocks varied in depth.

    Returns
    -------
    factor : float

    Examples
    --------
    >>> from clustercnn.stamps import depth_covered
    >>> depth_covered({})
    1.4
    """
    return max(DEPTH, 10 ** contract.get("depth_scatter", 0.0))


def log_depth(instrument, contract):
    """
    How much deeper the data of an instrument are than those of a contract.

    Parameters
    ----------
    instrument : `~clustercnn.instruments.Instrument`
        What the data were taken with.
    contract : dict
        With ``bands``, ``exposure`` (s) and, where known, ``zero_points`` (mag of 1 electron/s).

    Returns
    -------
    depth : `~numpy.ndarray`
        Decimal logarithm of the ratio of the electrons that one source gives in the exposures, shape (band,); 0 for bands that the instrument
        does not have, and if the contract knows no exposures.

    Examples
    --------
    >>> from clustercnn.instruments import Instrument
    >>> from clustercnn.stamps import log_depth
    >>> m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    >>> contract = {"bands": ["F438W"], "exposure": {"F438W": 188.0}, "zero_points": {"F438W": m83.zero_point("F438W").value}}
    >>> log_depth(m83, contract).round(2).tolist()
    [1.0]
    """
    exposure = contract.get("exposure")
    depth = np.zeros(len(contract["bands"]))
    for i, band in enumerate(contract["bands"]):
        if exposure and band in instrument.bands:
            depth[i] = np.log10(instrument.exposure(band).to_value(u.s) / exposure[band]) + 0.4 * _zero_point_step(instrument, contract, band)
    return depth


def psf_covered(contract):
    """
    How far the powers of PSFs may be from those of a contract, as natural logarithms.

    Parameters
    ----------
    contract : dict
        With ``psf_scatter`` where the PSFs of the mocks varied.

    Returns
    -------
    furthest : float

    Examples
    --------
    >>> from clustercnn.stamps import psf_covered
    >>> psf_covered({"psf_scatter": 0.6})
    0.95
    """
    return _PSF + (1 + OWN_POWER) * contract.get("psf_scatter", 0.0)


def log_psf_powers(psf, contract):
    """
    How much wider or sharper the PSFs of data are than those of a network's contract.

    Parameters
    ----------
    psf : dict
        Band -> `~clustercnn.psf.PSF`, as `~clustercnn.psf.as_psf` makes it.
    contract : dict
        With ``bands`` and ``psf_transfer``, the transfer function of each band's PSF.

    Returns
    -------
    powers : `~numpy.ndarray`
        Natural logarithms of the powers to which the transfer functions of the contract are to be raised, shape (band, 3), see
        `~clustercnn.psf_powers.psf_powers`; 0 for bands that are not told.

    Raises
    ------
    TypeError
        If ``psf`` is no dict of PSFs.
    ValueError
        If no band of ``psf`` is one of the contract's, the contract knows no PSF, or a PSF is known to be sampled for pixels of another scale.

    Warns
    -----
    `~astropy.utils.exceptions.AstropyUserWarning`
        If a PSF is further from the contract's than its mocks were.

    Examples
    --------
    >>> from clustercnn.psf import hst_psf
    >>> from clustercnn.psf_powers import radial_transfer
    >>> from clustercnn.stamps import log_psf_powers
    >>> contract = {"bands": ["F438W"], "psf_transfer": {"F438W": radial_transfer(hst_psf("F438W"))}}
    >>> abs(log_psf_powers({"F438W": hst_psf("F438W")}, contract)).max().round(6)
    np.float64(0.0)
    """
    bands, transfers = tuple(contract["bands"]), contract.get("psf_transfer")
    example = f"such as {{{bands[0]!r}: as_psf(kernel), ...}}"
    if not (isinstance(psf, dict) and all(isinstance(one, PSF) for one in psf.values())):
        raise TypeError(f"psf must be a dict of band -> PSF, {example}, not {psf!r}")
    if not set(psf) & set(bands):
        raise ValueError(f"psf must have an entry for bands of the network, {bands}, {example}; it has {tuple(psf)}")
    if not transfers:
        raise ValueError("psf cannot be told to this network, which does not say for which PSF it was made")
    powers = np.zeros((len(bands), len(NODES)))
    for i, band in enumerate(bands):
        if band in psf:
            if contract.get("pixel_scale"):
                check_psf_scale(psf[band], contract["pixel_scale"] * u.arcsec / u.pix, band)
            powers[i] = psf_powers(psf[band], transfers[band])
    if np.abs(powers).max() > psf_covered(contract):
        i = int(np.abs(powers).max(axis=1).argmax())
        warnings.warn(
            f"the PSF of {bands[i]} is {np.exp(powers[i, 1] / 2):.2g} times as wide as that which the network was made for, which is beyond what it "
            "knows: its posteriors are not calibrated for it",
            AstropyUserWarning,
            stacklevel=4,
        )
    return powers


def _check_instrument(instrument, contract, bands, user):
    """Complain of other passbands of those bands, warn of another depth."""
    check_instrument(instrument)
    passbands = contract.get("instrument", {}).get("passbands", {})
    for band in bands:
        own = instrument.passband(band)  # an error if it lacks the band
        if own != (passband := passbands.get(band, own)):
            raise ValueError(
                f"band {band} of {instrument.name} is {own}, but the {user} was made for {passband}"
            )
    furthest = depth_covered(contract)
    for band, ratio in zip(contract["bands"], 10 ** log_depth(instrument, contract), strict=True):
        if not 1 / furthest < ratio < furthest:
            warnings.warn(
                f"{band} is exposed {ratio:.2g} times as deep as the {user} takes for granted: its posteriors are not calibrated at "
                "this depth",
                AstropyUserWarning,
                stacklevel=4,
            )


def _check_pixel_scale(scale, expected, user):
    if isinstance(scale, u.Quantity) and scale.unit.is_equivalent(u.arcsec / u.pix):
        scale = scale * u.pix  # given with or without the '/ pix'
    scale = as_quantity(scale, u.arcsec, "pixel_scale").value
    if expected is not None and not same_pixel_scale(scale, expected):
        raise ValueError(
            f"the pixel scale is {scale:.4g} arcsec per pixel, but the {user} was made for {expected:.4g} arcsec per pixel"
        )


def _zero_point_factors(instrument, contract):
    """What brings the electron/s of an instrument to those of the contract, shape (band, 1, 1)."""
    steps = [_zero_point_step(instrument, contract, band) for band in contract["bands"]]
    return (10 ** (-0.4 * np.array(steps, dtype=np.float32)))[:, None, None]


def _zero_point_step(instrument, contract, band):
    """By how many magnitudes the zero point of an instrument is fainter than that of the contract; 0 where one is unknown."""
    zero_points = contract.get("zero_points")
    if not zero_points or band not in instrument.bands:
        return 0.0
    return instrument.zero_point(band).to_value(u.mag) - zero_points[band]
