# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tests of clustercnn.stellar.spectra
"""

import numpy as np
import pytest
from astropy import units as u

from clustercnn.stellar import IsochroneGrid, sed, vega_to_ab


def test_ab_source_is_flat_in_frequency():
    bands = ["F814W", "F336W", "F438W"]
    magnitudes = [20 - vega_to_ab(name) for name in bands] * u.mag
    spectrum = sed(magnitudes, bands)
    assert (np.diff(spectrum.spectral_axis) > 0).all()
    assert spectrum.meta["passbands"] == ["WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W"]
    density = spectrum.flux.to(u.uJy, u.spectral_density(spectrum.spectral_axis))
    assert u.allclose(density, 36.31 * u.uJy, rtol=2e-3)


def test_a_young_population_is_blue():
    bands = ["F275W", "F814W"]
    flux = sed(IsochroneGrid.default().ssp_magnitudes(5 * u.Myr, passbands=bands), bands).flux
    assert flux[0] > 5 * flux[1]


@pytest.mark.parametrize(
    ("magnitudes", "bands", "error", "match"),
    [
        ([20.0, 21.0], ["F336W", "F438W"], TypeError, "magnitudes must be a Quantity"),
        ([20.0] * u.mag, ["F336W", "F438W"], ValueError, "2 passbands"),
        ([20.0, 20.0] * u.mag, ["F438W", "WFC3_UVIS_F438W"], ValueError, "differ"),
        ([20.0] * u.Jy, ["F438W"], u.UnitsError, "magnitudes"),
    ],
)
def test_errors(magnitudes, bands, error, match):
    with pytest.raises(error, match=match):
        sed(magnitudes, bands)
