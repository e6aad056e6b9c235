# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tests of clustercnn.stellar.isochrones
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from clustercnn.stellar import Isochrone, IsochroneGrid, get_imf

BANDS = ("F336W", "F438W", "F814W")
# F336W-F438W, F438W-F814W, M_F438W per Msun; Z = 0.02, Kroupa 0.08-120 Msun
SSP = {
    6.6: (-1.58, -0.47, 0.06),
    7.0: (-1.28, 1.25, 1.29),
    7.5: (-0.68, 0.46, 1.82),
    8.0: (-0.53, 0.82, 2.96),
    8.5: (-0.01, 0.80, 3.85),
    9.0: (0.10, 1.37, 5.20),
    9.5: (0.19, 1.94, 6.72),
    10.0: (0.48, 2.27, 7.83),
}
PARSEC = {
    6.6: (-1.48, -0.33, 0.01),
    7.0: (-1.11, 0.63, 1.03),
    7.5: (-0.78, 0.48, 2.01),
    8.0: (-0.57, 0.61, 3.02),
    8.5: (-0.03, 0.65, 3.85),
    9.0: (0.08, 1.28, 5.18),
    9.5: (0.23, 2.07, 6.71),
    10.0: (0.44, 2.28, 8.02),
}


@pytest.fixture(scope="module")
def grid():
    return IsochroneGrid.default()


def colours(grid, log_age, metallicity=0.0):
    ultraviolet, blue, red = grid.ssp_magnitudes(10**log_age * u.yr, metallicity, "kroupa", BANDS).value
    return ultraviolet - blue, blue - red, blue


@pytest.mark.parametrize("log_age", SSP)
def test_integrated_colours(grid, log_age):
    assert np.allclose(colours(grid, log_age), SSP[log_age], atol=0.03)


def test_the_grid(grid):
    assert grid is IsochroneGrid.default()
    assert np.allclose(grid.log_ages, np.linspace(6.6, 10.1, 71))
    assert np.allclose(10**grid.metallicities * grid.z_sun, [0.014, 0.02, 0.03])
    assert grid.provenance["t_ms_1msun_myr"] == pytest.approx(11003, abs=1)
    assert grid.provenance["knots_worst_mag"] < 0.005


def test_every_isochrone_is_sound(grid):
    for metallicity in grid.metallicities:
        for log_age in grid.log_ages:
            stars = grid.knots(log_age, metallicity)
            assert len(stars.mass) == 200
            assert (np.diff(stars.initial_mass) > 0).all()
            assert (np.diff(stars.phase) >= 0).all()
            assert stars.initial_mass[0] == pytest.approx(0.08)
            assert (stars.mass <= stars.initial_mass * (1 + 1e-3)).all() and (stars.mass > 0).all()
            assert all(np.isfinite(getattr(stars, name)).all() for name in ("log_luminosity", "log_teff", "log_g"))
            evolved = (stars.phase > 1) & (stars.initial_mass > 40)
            assert (stars.log_teff[evolved] >= 4 - 1e-6).all()
            assert {1, 2} <= set(stars.phase)


def test_heaviest_living_star_grows_lighter(grid):
    last = np.array([grid.knots(log_age).initial_mass[-1] for log_age in grid.log_ages])
    assert (np.diff(last) < 0).all()
    # turn-off of a solar-type star at the age of 10 Gyr
    assert 0.95 < last[grid.log_ages == 10.0][0] < 1.1


def test_luminosity_gravity_and_temperature_obey_stefan_boltzmann(grid):
    stars = grid.knots(8.3)
    radius_squared = 10**stars.log_luminosity * (5772 / 10**stars.log_teff) ** 4
    assert np.allclose(stars.log_g, 4.438 + np.log10(stars.mass / radius_squared), atol=1e-3)


def test_nodes_are_recovered_exactly(grid):
    node = grid.knots(7.35, grid.metallicities[2])
    assert grid.knots(np.log10((10**7.35 * u.yr).to_value(u.Gyr) * 1e9), np.log10(0.03 / 0.02)) is node


@pytest.mark.parametrize(("log_age", "metallicity"), [(7.0, 0.0), (8.0, 0.0), (9.0, 0.05), (9.98, -0.1), (6.85, 0.0)])
def test_between_the_nodes_it_is_continuous(grid, log_age, metallicity):
    here = grid.ssp_magnitudes(10**log_age * u.yr, metallicity).value
    for step in (1e-4, 1e-6):  # the knots of two isochrones are more than those of one, hence a few mmag
        near = grid.ssp_magnitudes(10 ** (log_age + step) * u.yr, metallicity + step / 10).value
        assert np.allclose(near, here, atol=4e-3)


def test_phases_are_interpolated_at_equal_phase():
    # two isochrones of two phases each; at fixed mass a giant of one would be mixed with a dwarf of the other
    def make(edge, end, luminosity):
        mass = np.array([0.1, edge, edge * (1 + 1e-9), end])
        phase = np.array([1, 1, 3, 3])
        light = np.where(phase == 1, 0.0, luminosity)
        return Isochrone(mass, mass, light, np.full(4, 3.7), np.full(4, 4.0), phase)

    grid = IsochroneGrid({(0.0, 9.0): make(2.0, 2.2, 2.0), (0.0, 9.1): make(1.0, 1.1, 3.0)}, 0.02, "invented")
    stars = grid.knots(9.05)
    assert np.allclose(stars.initial_mass, [0.1, np.sqrt(2), np.sqrt(2), np.sqrt(2.2 * 1.1)])
    assert np.allclose(stars.log_luminosity, [0, 0, 2.5, 2.5])
    assert (np.diff(stars.initial_mass) > 0).all()


def test_a_phase_that_ends_shrinks_to_nothing():
    def make(phase):
        mass = np.array([0.1, 1.0, 1.0 + 1e-9, 1.2])[: len(phase)]
        return Isochrone(
            mass, mass, np.zeros(len(phase)), np.full(len(phase), 3.7), np.full(len(phase), 4.0), np.array(phase)
        )

    grid = IsochroneGrid({(0.0, 9.0): make([1, 1, 3, 3]), (0.0, 10.0): make([1, 1])}, 0.02, "invented")
    assert grid.knots(9.9).initial_mass[-1] == pytest.approx(1.2**0.1)
    assert set(grid.knots(9.9).phase) == {1, 3}


def test_table(grid):
    table = grid.isochrone(20 * u.Myr, 0.0, ("F438W", "NIRCAM_F115W"))
    assert table.colnames == [
        "initial_mass",
        "mass",
        "log_luminosity",
        "log_teff",
        "log_g",
        "phase",
        "F438W",
        "NIRCAM_F115W",
    ]
    assert table["initial_mass"].unit == u.Msun and table["F438W"].unit == u.mag
    assert table.meta["z_sun"] == 0.02
    mass, magnitudes = grid.magnitudes(np.log10(2e7), 0.0, ("F438W", "NIRCAM_F115W"))
    assert np.array_equal(table["initial_mass"].value, mass)
    assert np.array_equal(table["NIRCAM_F115W"].value, magnitudes[:, 1])


def test_integral_is_the_mean_of_clusters(grid):
    imf, rng = get_imf("kroupa"), np.random.default_rng(8)
    mass, magnitudes = grid.magnitudes(8.0, 0.0, BANDS)
    stars = imf.sample_number(2_000_000, rng)
    flux = [10 ** (-0.4 * np.interp(stars, mass, m, right=np.inf)) for m in magnitudes.T]
    drawn = -2.5 * np.log10(np.sum(flux, axis=1) / stars.sum())
    assert np.allclose(drawn, grid.ssp_magnitudes(100 * u.Myr, passbands=BANDS).value, atol=0.02)


def test_metallicity_reddens(grid):
    old = [colours(grid, 10.0, metallicity)[1] for metallicity in (-0.15, 0.0, 0.17)]
    assert (np.diff(old) > 0).all()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda g: g.isochrone(2e7), TypeError, "age must be a Quantity"),
        (lambda g: g.isochrone(2 * u.kpc), u.UnitsError, "age"),
        (
            lambda g: g.isochrone(1 * u.Myr),
            ValueError,
            r"log_age is 6 \(log10 yr\), but the isochrones reach from 6.6 to 10.1",
        ),
        (lambda g: g.knots(11.0), ValueError, "from 6.6 to 10.1"),
        (
            lambda g: g.knots(8.0, 1.0),
            ValueError,
            "metallicity is 1 dex, but the isochrones reach from -0.15.* to 0.17",
        ),
        (lambda g: g.magnitudes(8.0, 0.0, ["F1W"]), ValueError, "unknown passband"),
        (lambda g: g.ssp_magnitudes(1 * u.Gyr, imf="miller"), ValueError, "imf"),
        (lambda g: IsochroneGrid({}, 0.02, "nothing"), ValueError, "0 entries"),
        (lambda g: IsochroneGrid({(0, 8): g.knots(8), (0.1, 9): g.knots(9)}, 0.02, "holes"), ValueError, "2 entries"),
    ],
)
def test_errors(grid, call, error, match):
    with pytest.raises(error, match=match):
        call(grid)


def test_ecsv_round_trip(grid, tmp_path):
    nodes = {(m, t): grid.knots(t, m) for m in grid.metallicities[:2] for t in (7.0, 9.5)}
    small = IsochroneGrid(nodes, grid.z_sun, grid.source, grid.provenance)
    small.write(tmp_path / "grid.ecsv")
    back = IsochroneGrid.read(tmp_path / "grid.ecsv")
    assert repr(back) == repr(small) and back.provenance == small.provenance
    assert np.allclose(back.ssp_magnitudes(10 * u.Myr).value, grid.ssp_magnitudes(10 * u.Myr).value, atol=1e-6)


WEB_FORM = """\
# File generated by CMD 3.7
# Kind of output: isochrone tables
# Zini     MH   logAge Mini        int_IMF         Mass   logL    logTe  logg  label  mbolmag
0.0152 0.0 {age} 0.10 0.1 0.10 -2.9 3.45 5.1 1 12.0
0.0152 0.0 {age} 1.00 0.2 1.00  0.0 3.76 4.4 1  4.8
0.0152 0.0 {age} 1.00 0.3 1.00  0.1 3.75 4.3 2  4.7
0.0152 0.0 {age} 1.05 0.3 1.00  2.0 3.60 2.0 3  0.0
0.0152 0.0 {age} 1.06 0.3 0.50 -9.99 3.0 8.0 9 30.0
"""


def test_parsec_web_form(tmp_path):
    path = tmp_path / "output.dat"
    path.write_text(WEB_FORM.format(age="9.90000"))
    grid = IsochroneGrid.read(path)
    assert grid.metallicities == [0.0] and grid.z_sun == 0.0152
    stars = grid.knots(9.9)
    assert len(stars.mass) == 4, "the dead star is left out"
    assert (np.diff(stars.initial_mass) > 0).all()
    assert list(stars.phase) == [1, 1, 2, 3]
    assert IsochroneGrid.read(path, format="parsec", z_sun=0.02).metallicities[0] == pytest.approx(
        np.log10(0.0152 / 0.02)
    )


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_text("not an isochrone\n")
    with pytest.raises(
        ValueError, match="poem.txt is no table of isochrones that clustercnn knows; formats are 'parsec' and 'ecsv'"
    ):
        IsochroneGrid.read(path)
    path.write_text("# Mini Mass\n1 1\n")
    with pytest.raises(ValueError, match="no column logAge or"):
        IsochroneGrid.read(path)
    path.write_text("# logAge Mini Mass logL logTe logg label\n9 1 1 0 3.7 4 1\n")
    with pytest.raises(ValueError, match="no metallicity in its name such as z0.0200"):
        IsochroneGrid.read(path)
    QTable({"initial_mass": [1.0]}).write(tmp_path / "other.ecsv")
    with pytest.raises(ValueError, match="lacks .*log_age"):
        IsochroneGrid.read(tmp_path / "other.ecsv")


@pytest.mark.parametrize("log_age", PARSEC)
def test_parsec_reference(reference_data, log_age):
    grid = read_reference(reference_data / "isochrones" / "isoc_z0.0200.dat")
    assert np.allclose(colours(grid, log_age), PARSEC[log_age], atol=0.03)


def test_distance_of_the_default_from_parsec(reference_data, grid):
    other = read_reference(reference_data / "isochrones" / "isoc_z0.0200.dat")
    difference = np.array([np.subtract(colours(grid, t), colours(other, t)) for t in grid.log_ages])
    rms = np.sqrt(np.mean(difference**2, axis=0))
    assert rms[0] < 0.09 and rms[1] < 0.21
    assert np.abs(difference[grid.log_ages > 8.26, :2]).max() < 0.2


_READ = {}


def read_reference(path):
    """Read once per session."""
    if path not in _READ:
        _READ[path] = IsochroneGrid.read(path, z_sun=0.02)
    return _READ[path]


def test_genuine_web_form_output(reference_data):
    grid = IsochroneGrid.read(reference_data / "isochrones" / "parsec_cmd33_DECAM_sample.dat")
    assert len(grid.metallicities) == 4 and len(grid.log_ages) == 19
    assert grid.log_ages[0] == 9.0 and np.isfinite(grid.ssp_magnitudes(3 * u.Gyr, grid.metallicities[1]).value).all()
