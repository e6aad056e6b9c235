# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Instruments: the preset, the dict form, and clear errors.
"""

import json
import pickle

import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st

from clustercnn.instruments import Instrument

SCALE = 0.04 * u.arcsec / u.pix


def make(**changes):
    values = {"bands": ("F438W", "F814W"), "pixel_scale": SCALE, "exposure": 100 * u.s}
    return Instrument("mine", **(values | changes))


def test_preset_of_the_seed_paper():
    m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    assert m83.bands == ("F336W", "F438W", "F814W")
    assert m83.passbands == ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")
    assert [m83.exposure(band) for band in m83.bands] == [1890 * u.s, 1880 * u.s, 1203 * u.s]
    assert m83.pixel_scale == SCALE
    assert m83.read_noise == 3.1 * u.electron and m83.n_exposures == 3
    # WFC3 photometric calibration: 23.53, 24.97, 24.68 within a few 0.01 mag of the throughput curves used here
    for band, expected in (("F336W", 23.5), ("F438W", 25.0), ("F814W", 24.67)):
        assert m83.zero_point(band).to_value(u.mag) == pytest.approx(expected, abs=0.06)
    assert Instrument.names() == ("HST/WFC3/UVIS/M83",)


def test_dict_and_pickle_round_trips():
    m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    assert Instrument.from_dict(json.loads(json.dumps(m83.to_dict()))) == m83
    copy = pickle.loads(pickle.dumps(m83))
    assert copy == m83 and hash(copy) == hash(m83)
    assert m83 != make()
    assert make(bands=("F814W", "F438W")) != make()
    assert "F438W, F814W" in repr(make())


@given(seconds=st.floats(1e-3, 1e6), scale=st.floats(1e-3, 10))
def test_any_unit_comes_in(seconds, scale):
    instrument = make(exposure=(seconds * u.s).to(u.hour), pixel_scale=(scale * u.arcsec / u.pix).to(u.deg / u.pix))
    assert instrument.exposure("F438W").to_value(u.s) == pytest.approx(seconds)
    assert instrument.pixel_scale.to_value(u.arcsec / u.pix) == pytest.approx(scale)


def test_given_zero_points_and_passbands_win():
    instrument = make(bands="B", passbands={"B": "BESSELL_B"}, zero_points={"B": 25 * u.mag})
    assert instrument.bands == ("B",) and instrument.passband("B") == "BESSELL_B"
    assert instrument.zero_point("B") == 25 * u.mag


def test_immutable():
    instrument = make()
    with pytest.raises(AttributeError):
        instrument.pixel_scale = SCALE
    with pytest.raises(AttributeError, match="changed"):
        instrument.anything = 1
    with pytest.raises(AttributeError, match="changed"):
        instrument._values = {}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"pixel_scale": 0.04}, TypeError, "pixel_scale must be a Quantity"),
        ({"pixel_scale": 0.04 * u.arcsec}, u.UnitsError, "pixel_scale"),
        ({"pixel_scale": -SCALE}, ValueError, "pixel_scale must be positive"),
        ({"exposure": 100}, TypeError, "exposure of F438W"),
        ({"exposure": 0 * u.s}, ValueError, "exposure of F438W"),
        ({"exposure": [1, 2] * u.s}, ValueError, "one number"),
        ({"exposure": {"F438W": 1 * u.s}}, ValueError, "without a value .*F814W"),
        ({"exposure": {"F438W": 1 * u.s, "F814W": 1 * u.s, "F555W": 1 * u.s}}, ValueError, "F555W"),
        ({"zero_points": {"F438W": 25.0, "F814W": 25.0}}, TypeError, "zero point of F438W"),
        ({"gain": 0 * u.electron / u.adu}, ValueError, "gain"),
        ({"read_noise": -1 * u.electron}, ValueError, "read_noise"),
        ({"n_exposures": 0}, ValueError, "n_exposures"),
        ({"n_exposures": 2.5}, ValueError, "n_exposures"),
        ({"bands": ()}, ValueError, "bands"),
        ({"bands": ("F438W", "F438W")}, ValueError, "bands"),
        ({"bands": ("F999X",)}, ValueError, "F999X"),
        ({"bands": ("BESSELL_B",)}, ValueError, "zero_points="),
    ],
)
def test_errors_name_the_parameter(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


def test_unknown_names():
    with pytest.raises(ValueError, match="HST/WFC3/UVIS/M83"):
        Instrument.from_name("JWST")
    with pytest.raises(ValueError, match="no band 'F555W'; it has F438W, F814W"):
        make().exposure("F555W")
