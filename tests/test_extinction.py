# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tests of clustercnn.stellar.extinction
"""

import numpy as np
import pytest
from astropy import units as u
from dust_extinction.averages import G03_SMCBar
from dust_extinction.grain_models import WD01
from dust_extinction.parameter_averages import F99, G16
from dust_extinction.shapes import FM90, P92

from clustercnn.stellar import band_extinction, get_law, integrated_extinction, passbands, pivot_wavelength


def test_f99_against_the_curve_itself():
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


def test_f99_is_the_published_curve():
    # Fitzpatrick (1999, PASP, 111, 63), Table 3 (R_V = 3.1): A(lambda) / E(B-V)
    published = {26500: 0.265, 12200: 0.829, 6000: 2.688, 5470: 3.055, 4670: 3.806, 4110: 4.315, 2700: 6.265, 2600: 6.591}
    computed = [3.1 * float(get_law("F99")(wave * u.AA)) for wave in published]
    assert np.allclose(computed, list(published.values()), atol=0.001)


@pytest.mark.parametrize("law", ["G03_SMCBar", G03_SMCBar(), WD01("SMCBar"), P92(), G16(RvA=3.1, fA=0.5), F99(Rv=2.8), "F19"])
def test_any_curve_of_dust_extinction(law):
    ratios = band_extinction(["F336W", "F555W", "F814W"], law=law)
    assert np.allclose(ratios, get_law(law)(u.Quantity([pivot_wavelength(b) for b in ("F336W", "F555W", "F814W")])))
    assert ratios[0] > ratios[1] > ratios[2] > 0 and ratios[1] == pytest.approx(1, abs=0.08)


def test_integrated_extinction_is_near_the_pivot_where_bands_are_narrow():
    bands = ["F336W", "F438W", "F814W", "NIRCAM_F115W"]
    hot, cool = (integrated_extinction(np.log10([t]), [4.0], 1.0, bands)[0] for t in (20000, 4000))
    assert np.abs(hot - band_extinction(bands)).max() < 0.03
    assert np.abs(cool - band_extinction(bands)).max() < 0.05
    leak = integrated_extinction(np.log10([4000.0]), [4.0], 1.0, ["F225W"])[0, 0]
    assert leak < 0.4 * band_extinction(["F225W"])[0]  # its red leak is brighter than its band


def test_integrated_extinction_has_the_shape_of_its_stars_and_saturates():
    ratio = integrated_extinction(np.log10([[4000.0], [20000.0]]), 4.0, [0.0, 0.5, 3.0, 10.0], ["F555W", "F814W"])
    assert ratio.shape == (2, 4, 2) and (np.diff(ratio, axis=1) < 0).all() and (ratio[1] > ratio[0]).all()
    edge = integrated_extinction([5.5, np.log10(5e4)], [6.0, 5.0], 1.0, ["F438W"])
    assert edge[0] == edge[1]


def test_r_v_matters():
    assert band_extinction(["F336W"], r_v=2.5)[0] > band_extinction(["F336W"], r_v=5.0)[0]


def test_the_answer_is_a_copy():
    band_extinction(["F438W"])[:] = 0
    assert band_extinction(["F438W"])[0] > 1


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        (dict(passbands=["F438W"], law="F09"), "law is 'F09', but must be one of .*F99.*G03_SMCBar"),
        (dict(passbands=["F275W"], law=FM90()), "FM90 gives E"),
        (dict(passbands=["F438W"], law=F99(), r_v=3.1), "a model has its own"),
        (dict(passbands=["F438W"], law="G03_SMCBar", r_v=2.7), "r_v has no meaning for G03_SMCBar"),
        (dict(passbands=["F438W"], r_v=9.0), "r_v is 9.0, but F99 is defined from 2.0 to 6.0"),
        (dict(passbands=["NIRCAM_F444W"]), "NIRCAM_F444W lies outside F99"),
        (dict(passbands=["F1W"]), "unknown passband 'F1W'"),
    ],
)
def test_errors(kwargs, match):
    with pytest.raises(ValueError, match=match):
        band_extinction(**kwargs)


def test_integrated_errors():
    with pytest.raises(ValueError, match=r"\['NIRCAM_F444W'\] lie outside F99"):
        integrated_extinction([4.0], [4.0], 1.0, ["F438W", "NIRCAM_F444W"])
    for a_v in (-0.1, 10.5, np.nan):
        with pytest.raises(ValueError, match="a_v must lie in 0 to 10 mag"):
            integrated_extinction([4.0], [4.0], a_v, ["F438W"])
    with pytest.raises(TypeError, match="law must be the name of a curve or a model of dust_extinction, not function"):
        get_law(lambda wave: 1.0)
