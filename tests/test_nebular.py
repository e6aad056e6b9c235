# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Light of ionised gas: its colours, and that a disc has as much of it as its young stars can ionise.
"""

import numpy as np
import pytest
from astropy import constants
from astropy import units as u
from astropy.table import QTable

from clustercnn.instruments import Instrument
from clustercnn.psf import as_psf
from clustercnn.simulation import GalaxyDisc
from clustercnn.simulation.background import star_rates
from clustercnn.stellar import H_ALPHA_PER_STAR_FORMATION, nebular_magnitude, pivot_wavelength, vega_to_ab
from clustercnn.stellar.nebular import _table

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
DISTANCE = 4.5 * u.Mpc
WAVE = np.exp(-0.5 * (np.arange(-12, 13) / 4) ** 2)
PSF = dict.fromkeys(M83.bands, as_psf(np.outer(WAVE, WAVE)))


def test_a_line_in_a_band():
    """H alpha, [N II], [S II] and some continuum by hand: their flux over the width of the band is that of the magnitude."""
    lines, continuum = 1 + (1.0 + 0.34 + 0.3 + 0.22) / 2.863, 6e-4 * 1460 / 2.863
    flux = (1e40 * u.erg / u.s * (lines + continuum) / (4 * np.pi * (10 * u.pc) ** 2)).to(u.erg / u.s / u.cm**2)
    magnitude = nebular_magnitude(["WFC3_UVIS_F625W"])[0]
    density = ((magnitude + vega_to_ab("F625W")) * u.ABmag).to(u.erg / u.s / u.cm**2 / u.AA, u.spectral_density(pivot_wavelength("F625W")))
    width = (flux / density).to_value(u.AA)
    assert width == pytest.approx(1460, rel=0.08)  # that of F625W


def test_continuum_of_the_balmer_jump():
    """Blue across the jump, as strong as the recombination coefficients say: 4 times more per Angstrom at 3500 than at 3800."""
    f336w, f438w, f814w = nebular_magnitude(M83.bands)
    assert f336w - f438w == pytest.approx(-1.85, abs=0.1)
    assert -0.9 < f814w - f438w < -0.4
    with_lines = nebular_magnitude(["F606W", "WFC3_UVIS_F625W", "ROMAN_R062", "BESSELL_R"])
    assert np.all(with_lines < f814w - 0.7)


def test_luminosities_scale():
    plain, ten = nebular_magnitude(["F336W"]), nebular_magnitude(["F336W"], 1e41 * u.erg / u.s)
    assert plain - ten == pytest.approx(2.5)
    with pytest.raises(ValueError, match="unknown passband"):
        nebular_magnitude(["F999W"])


def test_rate_of_star_formation():
    """Photons that ionise, at 0.45 of an H alpha photon each: 10^53 and a bit per second for one Msun a year (Kroupa)."""
    photons = H_ALPHA_PER_STAR_FORMATION * u.Msun / u.yr / (constants.h * constants.c / (6563 * u.AA)) / 0.45
    assert np.log10(photons.to_value(1 / u.s)) == pytest.approx(53.14, abs=0.05)


def test_all_passbands_have_it():
    from clustercnn.stellar import passbands

    assert set(_table()) == set(passbands())


def disc(brightness=21.0, recent=1.0, a_v=0.0):
    return GalaxyDisc(M83, brightness * u.mag / u.arcsec**2, recent, a_v * u.mag, distance=DISTANCE, psf=PSF)


def nebular_light(galaxy, shape=(160, 160), seed=1):
    """Sum over a field, in absolute luminosities, and its map."""
    mass, _ = galaxy._stars_drawn(shape)
    clumps = galaxy._maps(shape, np.random.default_rng(seed))[0][0]
    light = galaxy._nebular(mass, clumps)
    return mass, light, clumps


def test_a_disc_shines_as_its_young_stars_ionise():
    galaxy = disc()
    mass, light, clumps = nebular_light(galaxy)
    tables = galaxy._tables
    rate = mass[tables.log_ages <= 7.0].sum() * u.Msun / (10**7.025 * u.yr)
    expected = 10 ** (-0.4 * nebular_magnitude(M83.passbands, rate * H_ALPHA_PER_STAR_FORMATION))
    np.testing.assert_allclose(light.sum(axis=(1, 2)), expected, rtol=1e-6)
    assert np.all(light > 0)
    # brightest where the young stars are
    smooth = light[0] / light[0].mean()
    assert np.corrcoef(smooth.ravel(), np.log(clumps).ravel())[0, 1] > 0.5 and smooth.max() > 1.5
    assert 0.3 < light[0].max() / light[0].min() / (light[2].max() / light[2].min()) < 3  # the same in all bands


def test_more_young_stars_more_gas_and_none_without():
    few, many = (nebular_light(disc(recent=recent))[1].sum() for recent in (0.2, 3.0))
    assert many > 5 * few
    assert not np.any(nebular_light(disc(recent=0.0))[1])


def test_gas_is_a_tenth_of_the_ultraviolet_of_a_disc(monkeypatch):
    """And less of the red; dust dims it as it dims the stars."""
    galaxy = disc(a_v=0.3)
    whole = galaxy.rates((96, 96), 3).mean(axis=(1, 2))
    monkeypatch.setattr(GalaxyDisc, "_nebular", lambda self, mass, clumps: 0.0)
    share = 1 - galaxy.rates((96, 96), 3).mean(axis=(1, 2)) / whole
    assert 0.03 < share[0] < 0.25 and share[2] < share[0] and share[1] < share[0]
    assert np.all(whole > 0) and np.all(star_rates(M83, DISTANCE) > 0)


def test_table_states_where_it_is_from():
    from importlib import resources

    with resources.as_file(resources.files("clustercnn.stellar") / "data" / "nebular.ecsv") as path:
        meta = QTable.read(path).meta
    assert "PyNeb" in meta["source"] and meta["made_by"] == "tools/build_nebular.py" and "2.863" in meta["hydrogen"]


def test_one_power_in_h_alpha():
    assert nebular_magnitude("F814W", 1e33 * u.W) == nebular_magnitude(["F814W"])
    for wrong, error in ((1e40, TypeError), (-1 * u.erg / u.s, ValueError), ([1, 2] * u.erg / u.s, ValueError), (1 * u.erg, u.UnitsError)):
        with pytest.raises(error, match="h_alpha must"):
            nebular_magnitude(["F814W"], wrong)
