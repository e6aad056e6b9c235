# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A CCDData of whatever an image of one band may be: FITS files and HDUs, NDData, arrays."""

import re
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, InverseVariance, NDData, StdDevUncertainty, VarianceUncertainty
from astropy.wcs import WCS, FITSFixedWarning

__all__ = ["as_ccd", "band_of_file", "open_fits"]

_UNCERTAINTIES = {kind.__name__: kind for kind in (StdDevUncertainty, VarianceUncertainty, InverseVariance)}
# what observatories write where the FITS standard has a unit
_SPELLINGS = ((r"\belectrons\b|\be-", "electron"), (r"\bcounts?\b", "adu"), (r"\bsec(onds?)?\b", "s"))
_WCS_KEYWORD = re.compile(
    r"(WCSAXES|WCSNAME|LONPOLE|LATPOLE|RADESYS|EQUINOX|EQUIPREV|(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)\d|(CD|PC|PV)\d_\d"
    r"|(A|B|AP|BP)_(ORDER|DMAX|\d_\d)|MJDREF|DATEREF)$"
)


@contextmanager
def open_fits(path):
    """The HDUs of a FITS file; an error that does not say which file it is about is made one that does."""
    try:
        with fits.open(path) as hdus:
            yield hdus
    except (EOFError, OSError) as error:
        if getattr(error, "errno", None) is not None:  # such as a file that is not there
            raise
        raise ValueError(f"{path} is not a whole FITS file: {error}") from None


def as_ccd(image, band, unit, wcs):
    """A CCDData of whatever an image may be; the pixels are not touched."""
    if isinstance(image, tuple) and len(image) == 2:
        image, wcs = image
    if isinstance(image, (str, Path)):
        with open_fits(image) as hdus:
            ours = hdus[0].header.get("CONTENT") == "MultiBandImage"
            image = band_of_file(hdus, band, unit) if ours else _from_hdus(hdus, unit)
    elif isinstance(image, fits.HDUList):
        image = _from_hdus(image, unit)
    elif isinstance(image, (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)):
        image = _from_hdus(fits.HDUList([image]), unit)
    elif isinstance(image, u.Quantity):
        image = NDData(image.value, unit=image.unit)
    elif isinstance(image, np.ma.MaskedArray):
        image = NDData(image.data, mask=image.mask)
    elif isinstance(image, Cutout2D):
        image = NDData(image.data, wcs=image.wcs)
    elif not isinstance(image, NDData):
        image = NDData(image if hasattr(image, "shape") else np.asarray(image))
    if len(image.data.shape) != 2 or min(image.data.shape) < 1:
        raise ValueError(f"the image of {band} must be 2D, not of shape {tuple(image.data.shape)}")
    if np.dtype(image.data.dtype).kind not in "fiu":
        raise ValueError(f"the image of {band} must hold real numbers, not {image.data.dtype}")
    unit = image.unit if image.unit is not None else unit
    if unit is None:
        raise ValueError(f"the image of {band} has no unit; pass unit=, such as unit=u.electron / u.s")
    if isinstance(image, CCDData) and (image.wcs is not None or wcs is None):
        return image
    return CCDData(
        image.data,
        unit=unit,
        wcs=image.wcs if image.wcs is not None else wcs,
        mask=image.mask,
        uncertainty=image.uncertainty,
        meta=image.meta,
    )


def band_of_file(hdus, band, unit):
    """The image of a band in a file of `MultiBandImage.write <clustercnn.images.MultiBandImage.write>`."""
    header = hdus[0].header
    numbers = {header[f"BAND{i}"]: i for i in range(1, header["NBANDS"] + 1)}
    if band not in numbers:
        raise ValueError(f"{hdus.filename()} has no band {band!r}; it has {', '.join(numbers)}")
    number = numbers[band]
    if ("DATA", number) not in hdus:
        raise ValueError(f"{hdus.filename()} is cut short: it lacks band {band}")
    group = [hdus[name, number] for name in ("DATA", "MASK", "UNCERT") if (name, number) in hdus]
    return _from_hdus(fits.HDUList([hdus[0], *group]), unit, own=True)


def _from_hdus(hdus, unit, own=False):
    """The one science image in a list of HDUs, with its mask and uncertainty where CCDData has written them."""
    companions = {hdu.name: hdu for hdu in hdus if hdu.name in ("MASK", "UNCERT")}
    images = [hdu for hdu in hdus if hdu.is_image and hdu.name not in companions and hdu.header.get("NAXIS", 0) > 0]
    science = [hdu for hdu in images if hdu.name == "SCI"] or images
    if len(science) != 1:
        names = [hdu.name or "PRIMARY" for hdu in science]
        raise ValueError(
            f"which image is meant? {hdus.filename() or 'The list of HDUs'} has {names or 'none'}; open it with "
            "astropy.io.fits and pass the HDU"
        )
    (hdu,) = science
    header = hdu.header.copy()
    if hdu is not hdus[0]:  # observatories keep exposures and filters in the primary header
        header.extend(hdus[0].header, unique=True, strip=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        # Distortions in look-up tables live in other extensions.
        wcs = WCS(hdu.header, hdus)
    for keyword in [keyword for keyword in header if _WCS_KEYWORD.match(keyword)]:
        header.remove(keyword, remove_all=True)
    uncertainty = None
    if "UNCERT" in companions:
        kind = _UNCERTAINTIES.get(companions["UNCERT"].header.get("UTYPE"), StdDevUncertainty)
        uncertainty = kind(_pixels(companions["UNCERT"]))
    mask = _pixels(companions["MASK"]) if "MASK" in companions else None
    if own and mask is not None:
        mask = mask.view(np.bool_)  # which it was; else CCDData would copy it
    stated = str(header.get("BUNIT", "")).strip()
    return NDData(
        _pixels(hdu),
        unit=_parse_unit(stated) if stated else unit,
        wcs=wcs.celestial if wcs.has_celestial else None,
        mask=mask,
        uncertainty=uncertainty,
        meta=header,
    )


def _pixels(hdu):
    try:
        return hdu.data
    except TypeError as error:  # of numpy, which maps the file
        source = (hdu.fileinfo() or {}).get("file")
        raise ValueError(f"{getattr(source, 'name', 'the FITS file')} is cut short: {error}") from None


def _parse_unit(text):
    try:
        return u.Unit(text)
    except ValueError:
        plain = text.lower()
    for spelling, standard in _SPELLINGS:
        plain = re.sub(spelling, standard, plain)
    try:
        return u.Unit(plain)
    except ValueError:
        raise ValueError(
            f"cannot read the unit BUNIT = {text!r}; state the one that is meant, such as 'adu' or 'electron' for counts, by "
            "passing CCDData.read(path, unit='adu') of astropy.nddata instead"
        ) from None
