# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tests of the scripts that build the stellar tables, as far as they go without cosmic-popsynth
"""

import importlib.util
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from clustercnn.stellar import IsochroneGrid, bolometric_correction, get_imf, integrated_extinction, zero_point
from clustercnn.stellar.photometry import _table


def load(name):
    """Import a script of tools/ as a module."""
    path = Path(__file__).resolve().parents[1] / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def builder():
    return load("build_isochrones")


def test_tables_are_small_and_state_their_provenance():
    files = [f for f in (resources.files("clustercnn.stellar") / "data").iterdir() if f.name.endswith(".npz")]
    assert len(files) == 3 and sum(len(f.read_bytes()) for f in files) < 2_000_000
    assert IsochroneGrid.default().provenance["t_ms_1msun_myr"] == pytest.approx(11003, abs=1)
    assert "zsun = 0.02" in IsochroneGrid.default().provenance["engine"]
    for key in ("made_by", "date", "spectra", "throughput", "vega", "checks"):
        assert _table()["provenance"][key]
    for key in ("made_by", "date", "law", "spectra", "throughput", "interpolation_error_mag"):
        assert _table("spectral_terms")["provenance"][key]


def test_knots_keep_the_light_and_the_phases(builder):
    mass = np.unique(np.concatenate([np.geomspace(0.08, 5, 600), 5 + np.geomspace(1e-6, 0.5, 600)]))
    phase = np.where(mass > 5, 3, 1)
    magnitudes = (10 - 9 * np.log10(mass) - 4 * np.sqrt(np.clip(mass - 5, 0, None)))[:, None] + np.array([0.0, 0.5])
    knots = builder.choose_knots(mass, phase, magnitudes, number=60)
    assert len(set(knots)) == 60 and knots[0] == 0 and knots[-1] == len(mass) - 1
    edge = int(np.flatnonzero(np.diff(phase))[0])
    assert {edge, edge + 1} <= set(knots)
    difference = builder.light(mass[knots], magnitudes[knots]) - builder.light(mass, magnitudes)
    assert np.abs(difference).max() < 5e-3
    even = np.unique(np.linspace(0, len(mass) - 1, 60).astype(int))
    worse = builder.light(mass[even], magnitudes[even]) - builder.light(mass, magnitudes)
    assert np.abs(difference).max() < np.abs(worse).max()


def test_light_is_the_integral_over_the_stars(builder):
    mass = np.geomspace(0.08, 120, 2000)
    light = builder.light(mass, np.zeros((len(mass), 1)))
    assert light[0] == pytest.approx(-2.5 * np.log10(get_imf("kroupa").number_fraction(0.08, 120)), abs=1e-3)


def test_isochrone_of_invented_tracks(builder, monkeypatch):
    # a star of mass m: main sequence for 1000 m^-2 Myr at L = m^3, then a giant of L = 100 for a tenth of that
    def evolve(mass, metallicity):
        end = 1000 * mass**-2
        rows = [(0.0, 1, mass, mass**3, 6000.0), (end, 2, mass, 100.0, 4000.0), (1.1 * end, 2, mass, 100.0, 4000.0)]
        return np.array([*rows, (1.1 * end, 11, 0.6 * mass, 1e-3, 1e4)])

    monkeypatch.setattr(builder, "evolve", evolve)
    tracks = builder.Tracks(0.02, np.geomspace(0.5, 60, 200))
    mass, phase, state = builder.fine_isochrone(tracks, 250.0)
    assert (np.diff(mass) > 0).all() and (np.diff(phase) >= 0).all()
    assert mass[phase == 1].max() == pytest.approx(2.0, rel=1e-3)  # 1000 m^-2 = 250
    assert mass[phase == 2].min() == pytest.approx(2.0, rel=1e-3)
    assert mass[-1] == pytest.approx(np.sqrt(4.4), rel=1e-3)
    assert np.allclose(state[phase == 1, 1], 3 * np.log10(mass[phase == 1]), atol=1e-3)
    assert np.allclose(state[phase == 2, 2], np.log10(4000))
    # Humphreys-Davidson limit: giants above 40 Msun stay hot
    mass, phase, state = builder.fine_isochrone(tracks, 1000 * 50.0**-2)
    assert (state[phase == 2, 2] >= 4.0).all()


@pytest.fixture(scope="module")
def band(reference_data):
    module = load("build_bolometric_corrections")
    vega = fits.getdata(reference_data / "throughput" / "alpha_lyr_stis_011.fits")
    vega = vega["WAVELENGTH"].astype(float), vega["FLUX"].astype(float)
    return module, module.Band(reference_data / "throughput" / "WFC3_UVIS_F438W.csv", vega), vega


def test_vega_has_magnitude_zero(band):
    _, f438w, vega = band
    assert f438w.mean_flux(*vega) == pytest.approx(f438w.vega)
    assert f438w.zero_point == pytest.approx(zero_point("F438W"))


def test_table_is_rebuilt_from_a_spectrum(band, reference_data):
    module, f438w, _ = band
    table = fits.getdata(reference_data / "spectra" / "ck04" / "ckp00" / "ckp00_9000.fits")
    correction = f438w.correction(table["WAVELENGTH"].astype(float), table["g40"].astype(float), 5.670374e-5 * 9000**4)
    assert bolometric_correction([np.log10(9000)], [4.0], 0.0, ["F438W"])[0, 0] == pytest.approx(correction, abs=1e-3)


def test_extinction_is_rebuilt_from_a_spectrum(band, reference_data, monkeypatch):
    _, f438w, _ = band
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "tools")
    terms = load("build_spectral_terms")
    assert terms.covered(f438w)
    table = fits.getdata(reference_data / "spectra" / "ck04" / "ckp00" / "ckp00_5000.fits")
    a_v = np.array([0.0, 1.3])
    ratio = terms.ratios(f438w, table["WAVELENGTH"].astype(float), table["g40"].astype(float), a_v)[:, 0]
    shipped = integrated_extinction(np.log10([5000, 5000]), [4.0, 4.0], a_v, ["F438W"])[:, 0]
    assert np.allclose(shipped, ratio, atol=1e-3)
    # the limit at no dust joins on
    assert terms.ratios(f438w, table["WAVELENGTH"].astype(float), table["g40"].astype(float), np.array([0, 1e-4]))[1] == pytest.approx(ratio[0])


def test_cool_giants_are_compared_with_3500_kelvin(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "tools")
    terms = load("build_spectral_terms")
    wave = np.geomspace(3000, 1e5, 500)
    flux = np.transpose([wave**1.0, wave**0.5, wave**0.0])
    ratio, log_teff = terms.cool_giants(wave, flux, np.array([3000.0, 3400.0, 3600.0]))
    assert log_teff == pytest.approx(np.log10([3000, 3400, 3500])) and not ratio[-1].any()
    fraction = np.log(3500 / 3400) / np.log(3600 / 3400)
    assert np.allclose(ratio[0] - (1 - 0.5 * (1 - fraction)) * np.log10(terms.COOL_WAVE), 0, atol=0.02)


def test_missing_gravities_take_the_nearest(band):
    module, *_ = band
    bc = np.array([np.nan, np.nan, 1.0, 2.0, np.nan])[None, None, :, None]
    assert module.fill_gravity(bc).ravel().tolist() == [1.0, 1.0, 1.0, 2.0, 2.0]


def test_wrong_throughputs_are_noticed(band):
    module, *_ = band
    table = {name: np.array(_table()[name]) for name in ("bands", "pivot", "vega_ab")}
    assert module.check(table)["F814W"][0] == pytest.approx(8029.5, abs=0.1)
    table["pivot"] = table["pivot"] + 270  # the filter without telescope and detector
    with pytest.raises(ValueError, match="pivot"):
        module.check(table)
