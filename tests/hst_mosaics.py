# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Mosaics on disk with headers like those of the drizzled images in the archive of HST."""

from astropy import units as u
from astropy.io import fits

from clustercnn.instruments import Instrument
from clustercnn.stellar.photometry import pivot_wavelength

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")


def write_mosaic(path, band, pixels, scale=0.04, exposure=None, ra=204.27, dec=-29.86, instrument=M83):
    """One band in electrons/s, north up, its zero point and exposure those of an instrument."""
    pivot = pivot_wavelength(instrument.passband(band))
    photflam = (instrument.zero_point(band, "ab").value * u.ABmag).to_value(u.erg / u.s / u.cm**2 / u.AA, u.spectral_density(pivot))
    header = fits.Header({
        "TELESCOP": "HST", "INSTRUME": "WFC3", "DETECTOR": "UVIS", "FILTER": band, "BUNIT": "ELECTRONS/S",
        "EXPTIME": instrument.exposure(band).value if exposure is None else exposure,
        "PHOTFLAM": photflam, "PHOTZPT": -21.1, "PHOTPLAM": pivot.to_value(u.AA), "NDRIZIM": 2 * instrument.n_exposures(band),
        **{f"ATODGN{amplifier}": 1.5 for amplifier in "ABCD"}, **{f"READNSE{amplifier}": 3.1 for amplifier in "ABCD"},
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec,
        "CRPIX1": (pixels.shape[1] + 1) / 2, "CRPIX2": (pixels.shape[0] + 1) / 2,
        "CD1_1": -scale / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale / 3600,
    })
    fits.PrimaryHDU(pixels.astype(">f4"), header).writeto(path)
