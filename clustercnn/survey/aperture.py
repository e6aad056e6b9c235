# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Aperture photometry and concentration indices of the sources of a catalogue, with the apertures of photutils.
"""

import numpy as np
from astropy import units as u
from astropy.table import QTable

from clustercnn.images import MultiBandImage
from clustercnn.instruments import check_instrument

__all__ = ["aperture_photometry"]

# Pixels, as for clusters on images of 0.04 arcsec (Chandar et al. 2010, ApJ 719, 966): the concentration index is the difference of the
# magnitudes in both circles.
SMALL, LARGE = 0.5, 3.0
SKY = 7.0, 9.0
SHAPE = 21, 21


def aperture_photometry(images, positions, instrument=None, zero_points=None):
    """
    Magnitudes and concentration indices.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage` or dict
        The images, or what `~clustercnn.images.MultiBandImage.read` takes. All bands are measured.
    positions : array_like, `~astropy.coordinates.SkyCoord` or `~astropy.table.Table`
        Where the sources are; see `~clustercnn.images.MultiBandImage.pixel_positions`.
    instrument : `~clustercnn.instruments.Instrument`, optional
        Has the zero points (Vega), and what it takes to turn the unit of the images into electron/s.
    zero_points : dict, optional
        Band -> magnitude of 1 electron/s, for images in electron/s without an instrument.

    Returns
    -------
    table : `~astropy.table.QTable`
        For each band ``mag_<band>``, the magnitude within 3 pixels, where its zero point is known, and ``concentration_<band>``, the
        magnitude within 0.5 pixels minus that within 3. The local sky, the median of a ring from 7 to 9 pixels, is taken off; no
        light beyond the aperture is added. NaN where the flux is not positive or a pixel of the aperture is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from clustercnn.images import MultiBandImage
    >>> from clustercnn.survey import aperture_photometry
    >>> pixels = np.full((50, 50), 0.3)
    >>> pixels[20, 30] += 100
    >>> images = MultiBandImage({"F438W": pixels * u.electron / u.s})
    >>> aperture_photometry(images, [(30, 20)], zero_points={"F438W": 25.0 * u.mag})["mag_F438W"]
    <Quantity [20.] mag>
    """
    from photutils.aperture import CircularAnnulus, CircularAperture

    images = MultiBandImage.read(images)
    if instrument is not None:
        check_instrument(instrument)
    xy = images.pixel_positions(positions)
    stamps = images.cutouts(xy, SHAPE, unit=None, instrument=instrument, nan="mask").value
    small, large = np.full((2, len(xy), len(images)), np.nan)
    for i, (center, stamp) in enumerate(zip(xy - images.cutout_origins(xy, SHAPE), stamps.astype(float), strict=True)):
        ring = CircularAnnulus(center, *SKY).to_mask(method="center").to_image(SHAPE) > 0
        if np.isfinite(stamp[:, ring]).any():
            sky = _median(stamp[:, ring])
            for flux, radius in ((small, SMALL), (large, LARGE)):
                weights = CircularAperture(center, radius).to_mask(method="exact").to_image(SHAPE)
                inside = weights > 0
                flux[i] = (stamp[:, inside] - sky[:, None]) @ weights[inside]
    small, large = (np.where(flux > 0, flux, np.nan) for flux in (small, large))
    table = QTable()
    for i, band in enumerate(images.bands):
        zero_point = _zero_point(band, images, instrument, zero_points or {})
        if zero_point is not None:
            rate = large[:, i] * images.conversion(band, u.electron / u.s, instrument)
            table[f"mag_{band}"] = (zero_point - 2.5 * np.log10(rate)) * u.mag
        table[f"concentration_{band}"] = -2.5 * np.log10(small[:, i] / large[:, i]) * u.mag
    return table


def _median(values):
    """Median of each band's good pixels; NaN of a band without any, quietly."""
    return np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in values])


def _zero_point(band, images, instrument, zero_points):
    """Magnitude of 1 electron/s in a band, or None where it is not known."""
    if instrument is not None:
        return instrument.zero_point(band).to_value(u.mag) if band in instrument.bands else None
    if band in zero_points and images.unit.is_equivalent(u.electron / u.s):
        return u.Quantity(zero_points[band], u.mag).value
    return None
