# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tests of clustercnn.stellar.photometry
"""

import numpy as np
import pytest
from astropy import units as u

from clustercnn.stellar import (
    absolute_magnitudes,
    bolometric_correction,
    passbands,
    pivot_wavelength,
    resolve_passband,
    vega_to_ab,
    vega_to_st,
    zero_point,
)


def test_all_instruments_are_there():
    names = passbands()
    assert len(names) == 40
    counts = {"WFC3_UVIS": 11, "WFC3_IR": 3, "ACS_WFC": 7, "NIRCAM": 8, "ROMAN": 6, "BESSELL": 5}
    assert {k: sum(name.startswith(k) for name in names) for k in counts} == counts


@pytest.mark.parametrize(
    ("name", "pivot", "vega"),
    [
        ("F275W", 2710.2, 1.480),
        ("F336W", 3354.8, 1.164),
        ("F438W", 4326.5, -0.165),
        ("F555W", 5308.2, -0.029),
        ("F814W", 8029.5, 0.428),
    ],
)
def test_published_pivots_and_ab_magnitudes_of_vega(name, pivot, vega):
    assert abs(pivot_wavelength(name) - pivot * u.AA) < 0.1 * u.AA
    assert vega_to_ab(name) == pytest.approx(vega, abs=1e-3)


def test_ab_and_st_agree_where_they_are_defined_to():
    # the two systems cross where 3.631e-20 erg/s/cm2/Hz is 3.631e-9 erg/s/cm2/A: at 5476 A
    for name in passbands():
        pivot = pivot_wavelength(name)
        flat = (3.6307805e-20 * u.erg / u.s / u.cm**2 / u.Hz).to_value(
            u.erg / u.s / u.cm**2 / u.AA, u.spectral_density(pivot)
        )
        assert vega_to_st(name) - vega_to_ab(name) == pytest.approx(-2.5 * np.log10(flat) - 21.10, abs=2e-3)


@pytest.mark.parametrize(
    # WFC3 ISR 2021-04 (UVIS, chip 2, infinite aperture), WFC3/IR and ACS tables: Vega magnitude of 1 electron/s
    ("name", "published"),
    [
        ("F275W", 22.64),
        ("F336W", 23.48),
        ("F438W", 24.98),
        ("F555W", 25.81),
        ("F814W", 24.66),
        ("WFC3_IR_F160W", 24.66),
        ("ACS_WFC_F814W", 25.50),
    ],
)
def test_zero_points_agree_with_the_observatory(name, published):
    assert zero_point(name) == pytest.approx(published, abs=0.05)


def test_roman_zero_point_is_of_the_full_area():
    # about 26.4 AB magnitudes for F158
    assert zero_point("ROMAN_H158") + vega_to_ab("ROMAN_H158") == pytest.approx(26.37, abs=0.1)
    assert zero_point("BESSELL_V") is None


def test_names():
    assert resolve_passband("F438W") == "WFC3_UVIS_F438W"
    assert resolve_passband("F160W") == "WFC3_IR_F160W"
    assert resolve_passband("F435W") == "ACS_WFC_F435W"
    assert resolve_passband("V") == "BESSELL_V"
    assert resolve_passband("ACS_WFC_F814W") == "ACS_WFC_F814W"
    assert resolve_passband("F158") == resolve_passband("ROMAN_F158") == resolve_passband("H158") == "ROMAN_H158"
    with pytest.raises(ValueError, match="'F999W'; the known ones are .*WFC3_UVIS_F438W"):
        resolve_passband("F999W")


@pytest.mark.parametrize(("teff", "colour"), [(9000, 0.05), (30000, -1.62)])
def test_a_blackbody_would_not_do(teff, colour):
    correction = bolometric_correction([np.log10(teff)], [4.0], 0.0, ["F336W", "F438W"])[0]
    assert correction[1] - correction[0] == pytest.approx(colour, abs=0.01)


def test_the_sun():
    bands = ["BESSELL_B", "BESSELL_V", "BESSELL_I"]
    blue, visual, red = absolute_magnitudes([0.0], [np.log10(5772)], [4.438], 0.0, bands)[0]
    # Willmer (2018, ApJS, 236, 47): M_V = 4.81; Ramirez et al. (2012, ApJ, 752, 5): B-V = 0.653, V-I = 0.702
    assert visual == pytest.approx(4.81, abs=0.03)
    assert blue - visual == pytest.approx(0.653, abs=0.03)
    assert visual - red == pytest.approx(0.702, abs=0.03)


def test_nodes_are_recovered_and_edges_hold():
    from clustercnn.stellar.photometry import _table

    table = _table()
    i, j, k = 2, 40, 6
    nodes = bolometric_correction(
        table["log_teff"][j : j + 1], table["log_g"][k : k + 1], table["metallicity"][i], passbands()
    )
    assert np.allclose(nodes[0], table["millimag"][i, j, k] / 1000, atol=1e-12)
    inside = bolometric_correction([5.4], [5.0], 0.2, ["F438W"])
    assert bolometric_correction([5.4], [9.0], 0.9, ["F438W"]) == inside
    assert np.isfinite(bolometric_correction([2.0, 7.0], [-3.0, 12.0], 0.0, passbands())).all()


def test_brightness_is_smooth_where_models_meet():
    # at 3500 K and 50 kK corrections are continuous
    for edge in (3500, 50000):
        step = bolometric_correction(np.log10(edge) + np.array([-1e-4, 1e-4]), [4.5, 4.5], 0.0, passbands())
        assert np.abs(np.diff(step, axis=0)).max() < 0.01


def test_cool_giants_are_redder_than_cool_dwarfs():
    colour = np.diff(absolute_magnitudes([0, 0], np.log10([3000, 3000]), [0.0, 5.0], 0.0, ["F814W", "F555W"]), axis=1)[
        :, 0
    ]
    assert colour[0] > colour[1] + 1
