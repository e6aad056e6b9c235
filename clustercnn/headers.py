# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What the FITS headers of observatories say of an instrument; `clustercnn.instruments.Instrument.from_header` asks."""

from collections.abc import Mapping

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import NDData
from astropy.wcs.utils import proj_plane_pixel_area

from .stellar import photometry

__all__ = ["contradictions", "one_per_band", "read_header", "stated_exposure"]

DEPTH = 1.4  # ratio of exposures from which on a posterior is off
_ZERO_POINT = 0.1  # magnitudes between the calibrations of different years
_HDUS = (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)
_ONE = (fits.Header, fits.HDUList, NDData, *_HDUS)
# Camera -> INSTRUME and what DETECTOR, or the second word of PHOTMODE, begins with.
_CAMERAS = {
    "WFC3_UVIS": ("WFC3", "UVIS"),
    "WFC3_IR": ("WFC3", "IR"),
    "ACS_WFC": ("ACS", "WFC"),
    "NIRCAM": ("NIRCAM", ""),
    "ROMAN": ("WFI", ""),
}
_TWO_CHIPS = ("WFC3_UVIS", "ACS_WFC")
_RAMPS = ("WFC3_IR", "NIRCAM", "ROMAN")
_EMPTY_SLOTS = ("CLEAR", "N/A", "NONE", "OPEN")
_PIXEL_SCALES = {
    "D001SCAL": float,
    "PIXAR_A2": np.sqrt,
    "PIXAR_SR": lambda area: np.sqrt(area) * (180 * 3600 / np.pi),
}


def one_per_band(headers):
    """
    Pairs of a band's name, or None, and what has its header.

    Parameters
    ----------
    headers
        See `clustercnn.instruments.Instrument.from_header`.

    Returns
    -------
    pairs : list of tuple
    """
    if isinstance(headers, Mapping) and headers and all(isinstance(item, (*_ONE, Mapping)) for item in headers.values()):
        return list(headers.items())
    if isinstance(headers, (*_ONE, Mapping)):  # first, since an HDUList is a list
        return [(None, headers)]
    if isinstance(headers, (list, tuple)) and headers:
        return [(None, item) for item in headers]
    raise TypeError(
        "headers must be a FITS header, HDU, HDUList or CCDData, or a dict or list of them, one per band, not "
        f"{type(headers).__name__}"
    )


def read_header(item, key, given):
    """
    What one header says of its band.

    Parameters
    ----------
    item
        A FITS header, or what has one.
    key : str or None
        Name of the band, if the user has named it.
    given : dict
        Parameters that the user has given: for all bands, or band -> value.

    Returns
    -------
    name : str
        Of the band.
    facts : dict
        Parameters of `~clustercnn.instruments.Instrument`; None for what the header does not state.
    """
    header, wcs_scale = _keywords(item)
    camera, filters = _camera(header), _filters(header)
    name = key or " + ".join(filters)
    mine = {parameter: value.get(name) if isinstance(value, dict) else value for parameter, value in given.items()}
    readers = {
        "passbands": lambda: _passband(camera, filters, name),
        "zero_points": lambda: _zero_point(header, facts["passbands"], name),
        "pixel_scale": lambda: _pixel_scale(header, wcs_scale, name),
        "exposure": lambda: _exposure(header, name),
        "gain": lambda: _mean(header, ("ATODGN", "CCDGAIN"), u.electron / u.adu),
        # that of infrared detectors is the noise of one pair of reads, not of the ramp
        "read_noise": lambda: None if camera in _RAMPS else _mean(header, ("READNSE",), u.electron),
        "n_exposures": lambda: _n_exposures(header, camera),
    }
    if mine.get("passbands") is not None:
        mine["passbands"] = photometry.resolve_passband(mine["passbands"])
    facts = {}
    for parameter, reader in readers.items():
        facts[parameter] = reader() if mine.get(parameter) is None else mine[parameter]
    return name, facts


def _stated_zero_point(item, band):
    """The zero point that a header states, Vega magnitude of 1 electron/s; None if camera, filter or calibration are not stated."""
    header, _ = _keywords(item)
    camera, filters = _camera(header), _filters(header)
    if camera is None or not filters or "PHOTFLAM" not in header:
        return None
    return _zero_point(header, _passband(camera, filters, band), band)


def contradictions(images, exposures, zero_points):
    """
    Where the headers of images state something else than what is taken for granted.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage`
        With the headers as ``meta``; what they do not state cannot contradict.
    exposures : dict
        Band -> exposure in seconds.
    zero_points : dict
        Band -> Vega magnitude of 1 electron/s; compared where the pixels are electrons per second.

    Returns
    -------
    wrong : list of str
        A phrase for each band whose header is of another filter, or states a zero point that is off by more than 0.1 mag.
    doubtful : list of str
        A phrase for each exposure that is off by a factor of more than 1.4, and each zero point that the header states but that cannot be read.
    """
    wrong, doubtful = [], []
    for band in images.bands:
        time = stated_exposure(images[band].meta)
        if band in exposures and time is not None and not 1 / DEPTH < time / exposures[band] < DEPTH:
            doubtful.append(f"EXPTIME of {band} is {time:g} s, not {exposures[band]:g} s")
        if band in zero_points and images[band].unit.is_equivalent(u.electron / u.s):
            try:
                stated = _stated_zero_point(images[band], band)
            except _OtherFilter as error:
                wrong.append(str(error))
            except ValueError as error:
                doubtful.append(str(error))
            else:
                if stated is not None and not abs(stated.value - zero_points[band]) <= _ZERO_POINT:
                    wrong.append(f"PHOTFLAM of {band} makes a zero point of {stated.value:.2f} mag, not {zero_points[band]:.2f} mag")
    return wrong, doubtful


def _keywords(item):
    """The keywords, and the pixel scale in arcsec of a WCS object that comes apart from them, or None."""
    if isinstance(item, NDData):
        celestial = getattr(item.wcs, "has_celestial", False)
        return item.meta, np.sqrt(proj_plane_pixel_area(item.wcs.celestial)) * 3600 if celestial else None
    if isinstance(item, fits.HDUList):  # HST splits the keywords over the primary header and SCI
        header = next((hdu for hdu in item if hdu.name == "SCI"), item[0]).header.copy()
        header.extend(item[0].header, unique=True, strip=True)
        return header, None
    if isinstance(item, (*_HDUS, fits.Header, Mapping)):
        return getattr(item, "header", item), None
    raise TypeError(f"a header must be a FITS header, HDU, HDUList or CCDData, not {type(item).__name__}")


def _number(header, keyword, default=None):
    """A keyword as a number, though some write it as text; the default where there is none, or an empty one."""
    value = header.get(keyword)
    if value is None or value == "":
        return default
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{keyword} = {value!r} in the header is not a number; correct it first") from None


def stated_exposure(header):
    """EXPTIME in seconds; None where there is none, or what stands there is not a number."""
    try:
        return _number(header, "EXPTIME")
    except ValueError:
        return None


def _words(header, *keywords):
    text = " ".join(str(header.get(keyword, "")) for keyword in keywords)
    return text.upper().replace(",", " ").replace(";", " ").split()


def _camera(header):
    words = [*_words(header, "INSTRUME", "DETECTOR"), *_words(header, "PHOTMODE")[:2]]
    for camera, (instrument, detector) in _CAMERAS.items():
        if instrument in words and (not detector or any(word.startswith(detector) for word in words if word != instrument)):
            return camera
    return None


def _filters(header):
    """The filters in the beam, without empty slots of the wheels."""
    words = _words(header, "FILTER", "FILTER1", "FILTER2", "PUPIL")
    filters = list(dict.fromkeys(word for word in words if not word.startswith(_EMPTY_SLOTS)))
    mode = [word for word in _words(header, "PHOTMODE") if word[0] == "F" and word[1:2].isdigit()]
    if filters and not set(mode) <= set(filters):
        raise ValueError(f"the header contradicts itself: PHOTMODE says {mode[0]}, FILTER {filters[0]}; correct it first")
    return filters or mode


class _OtherFilter(ValueError):
    """A header is of another filter than the band that it is given for."""


def _passband(camera, filters, name):
    way_out = f"; give passbands={{{name or 'band'!r}: ...}}, one of clustercnn.stellar.passbands()"
    if camera is None:
        raise ValueError(
            "INSTRUME and DETECTOR of the header name none of WFC3/UVIS, WFC3/IR, ACS/WFC, NIRCam and Roman's WFI" + way_out
        )
    if not filters:
        raise ValueError("the header names no filter in FILTER, FILTER1, FILTER2, PUPIL or PHOTMODE" + way_out)
    passband, own = (photometry.RENAMED.get(full, full) for full in (f"{camera}_{filters[0]}", f"{camera}_{name}"))
    if len(filters) > 1 or passband not in photometry.passbands():
        raise ValueError(f"no throughput of {camera} with {' + '.join(filters)} is known" + way_out)
    if own != passband and own in photometry.passbands():
        raise _OtherFilter(f"the header given for {name} says FILTER = {filters[0]}")
    return passband


def _zero_point(header, passband, name):
    """Vega magnitude of 1 electron/s; None for images in flux densities, which need none in their header."""
    way_out = f"; give zero_points={{{name!r}: ... * u.mag}}, the Vega magnitude of 1 electron / s"
    if "PHOTFLAM" not in header:
        if str(header.get("BUNIT", "")).strip().lower().endswith(("jy/sr", "jy")):
            return None
        raise ValueError(f"the header of {name} has no PHOTFLAM" + way_out)
    photflam = _number(header, "PHOTFLAM", np.nan)
    if not 0 < photflam < np.inf:
        raise ValueError(f"PHOTFLAM = {photflam:g} in the header of {name}: the image is not calibrated" + way_out)
    if abs(_number(header, "PHOTZPT", -21.10) + 21.10) > 0.01:
        raise ValueError(f"PHOTZPT = {header['PHOTZPT']} in the header of {name} is not -21.1, that of ST magnitudes" + way_out)
    pivot = photometry.pivot_wavelength(passband).to_value(u.AA)
    photplam = _number(header, "PHOTPLAM", pivot)
    if not abs(photplam / pivot - 1) < 0.02:
        raise ValueError(
            f"the header of {name} contradicts itself: PHOTPLAM = {photplam:g} Angstrom, but the pivot of {passband} is {pivot:.0f}"
        )
    # By way of AB, since the colour of Vega between two calibrations' pivots is smaller there than in ST.
    ab = (photflam * u.erg / u.s / u.cm**2 / u.AA).to(u.ABmag, u.spectral_density(photplam * u.AA)).value
    return (ab - photometry.vega_to_ab(passband)) * u.mag


def _pixel_scale(header, wcs_scale, name):
    way_out = "; give pixel_scale=, such as 0.04 * u.arcsec / u.pix"
    stated = {} if wcs_scale is None else {"WCS": wcs_scale}
    unit = str(header.get("CUNIT1") or "deg").strip().lower()
    if "CD1_1" in header:
        stated["CD"] = (_side(header, "CD", 0.0) * u.Unit(unit)).to_value(u.arcsec)
    elif all(keyword in header for keyword in ("CDELT1", "CDELT2", "CTYPE1")):
        side = np.sqrt(abs(_number(header, "CDELT1") * _number(header, "CDELT2"))) * _side(header, "PC", 1.0)
        stated["CDELT"] = (side * u.Unit(unit)).to_value(u.arcsec)
    stated |= {keyword: to_scale(value) for keyword, to_scale in _PIXEL_SCALES.items() if (value := _number(header, keyword))}
    if not stated:
        raise ValueError(f"the header of {name} has none of CD1_1, CDELT1, D001SCAL, PIXAR_A2 and PIXAR_SR" + way_out)
    if max(stated.values()) > 1.05 * min(stated.values()):
        numbers = ", ".join(f"{keyword}: {scale:.4g}" for keyword, scale in stated.items())
        raise ValueError(f"the header of {name} contradicts itself on the pixel scale ({numbers} arcsec)" + way_out)
    return next(iter(stated.values())) * u.arcsec / u.pix


def _side(header, letters, diagonal):
    """Side of the square that has the area of a pixel, by the matrix CD or PC; what is not stated is ``diagonal`` or 0."""
    matrix = [[_number(header, f"{letters}{i}_{j}", diagonal * (i == j)) for j in (1, 2)] for i in (1, 2)]
    return np.sqrt(abs(np.linalg.det(matrix)))


def _exposure(header, name):
    for keyword in ("EXPTIME", "XPOSURE", "EFFEXPTM"):
        if value := _number(header, keyword):
            return value * u.s
    raise ValueError(f"the header of {name} has no EXPTIME above 0; give exposure={{{name!r}: ... * u.s}}")


def _mean(header, keywords, unit):
    """The first keyword that is stated, as it is or as the mean over the amplifiers A to D."""
    for keyword in keywords:
        values = [_number(header, full) for full in (keyword, *(keyword + amplifier for amplifier in "ABCD"))]
        if values := [value for value in values if value]:
            return np.mean(values) * unit
    return None


def _n_exposures(header, camera):
    if chips := _number(header, "NDRIZIM"):
        return int(np.ceil(chips / (2 if camera in _TWO_CHIPS else 1)))
    return int(_number(header, "NCOMBINE") or 1)
