# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tests of clustercnn.stellar.extinction
"""

import numpy as np
import pytest

from clustercnn.stellar import band_extinction, passbands


def test_f99_against_the_curve_itself():
    from dust_extinction.parameter_averages import F99

    from clustercnn.stellar import pivot_wavelength

    for name in ("F336W", "F814W", "WFC3_IR_F160W"):
        assert band_extinction([name])[0] == pytest.approx(float(F99(Rv=3.1)(pivot_wavelength(name))))


def test_published_ratios():
    # Schlafly & Finkbeiner (2011), R_V = 3.1, E(B-V) scaled to A_V of F99: F336W, F438W, F555W, F814W over Landolt V
    published = np.array([4.453, 3.623, 2.855, 1.536]) / 2.742
    assert np.allclose(band_extinction(["F336W", "F438W", "F555W", "F814W"]), published, rtol=0.03)
    assert band_extinction(["BESSELL_V"])[0] == pytest.approx(1, abs=0.03)


def test_less_extinction_in_the_red_and_with_the_infrared_curve():
    ratios = band_extinction(["F336W", "F438W", "F555W", "F814W"])
    assert (np.diff(ratios) < 0).all()
    assert (band_extinction(passbands(), law="G23") > 0).all()


def test_r_v_matters():
    assert band_extinction(["F336W"], r_v=2.5)[0] > band_extinction(["F336W"], r_v=5.0)[0]


def test_the_answer_is_a_copy():
    band_extinction(["F438W"])[:] = 0
    assert band_extinction(["F438W"])[0] > 1


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        (dict(passbands=["F438W"], law="F09"), "law is 'F09', but must be one of .*F99"),
        (dict(passbands=["F438W"], r_v=9.0), "r_v is 9.0, but F99 is defined from 2.0 to 6.0"),
        (dict(passbands=["NIRCAM_F444W"]), "NIRCAM_F444W lies outside F99"),
        (dict(passbands=["F1W"]), "unknown passband 'F1W'"),
    ],
)
def test_errors(kwargs, match):
    with pytest.raises(ValueError, match=match):
        band_extinction(**kwargs)
