# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tests of clustercnn.stellar.isochrones
"""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning
from hypothesis import given
from hypothesis import strategies as st

from clustercnn.simulation.population import StarTables
from clustercnn.stellar import Isochrone, IsochroneGrid, absolute_magnitudes, bolometric_correction, get_imf
from clustercnn.stellar.isochrones import CORRECTED_METALLICITIES

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
        light = np.where(np.array(phase) == 3, 2.0, 0.0)
        return Isochrone(mass, mass, light, np.full(len(phase), 3.7), np.full(len(phase), 4.0), np.array(phase))

    names = {3: "giants"}
    grid = IsochroneGrid({(0.0, 9.0): make([1, 1, 3, 3]), (0.0, 10.0): make([1, 1])}, 0.02, "invented", phase_names=names)
    match = r"between log age 9 and 10 at \[M/H\] 0 phase 3 \(giants\) ends, \d+ % of the light"
    with pytest.warns(AstropyUserWarning, match=match):
        stars = grid.knots(9.9)
    assert stars.initial_mass[-1] == pytest.approx(1.2**0.1)
    assert set(stars.phase) == {1, 3}
    other = IsochroneGrid({(0.0, 9.0): make([1, 1]), (0.5, 9.0): make([1, 1, 3, 3])}, 0.02, "invented")
    with pytest.warns(AstropyUserWarning, match=r"between \[M/H\] 0 and 0.5 at log age 9 phase 3 appears"):
        other.knots(9.0, 0.1)


def test_a_phase_without_light_comes_and_goes_unnoticed():
    mass = np.array([0.1, 1.0, 1.0 + 1e-9, 1.2])
    faint = Isochrone(mass, mass, np.array([0.0, 0, -4, -4]), np.full(4, 3.7), np.full(4, 4.0), np.array([1, 1, 3, 3]))
    bare = Isochrone(*(getattr(faint, name)[:2] for name in ("initial_mass", "mass", "log_luminosity", "log_teff", "log_g", "phase")))
    IsochroneGrid({(0.0, 9.0): faint, (0.0, 10.0): bare}, 0.02, "invented").knots(9.5)


def test_how_often_the_default_warns(grid):
    """Two to four of a hundred ages between the nodes: where supergiants begin, and asymptotic giants."""
    ages = 0.5 * (grid.log_ages[1:] + grid.log_ages[:-1])
    noted = []
    for age in ages:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            grid.knots(age)
        noted += [str(warning.message) for warning in caught]
    assert len(noted) == 2
    assert "log age 6.6 and 6.65" in noted[0] and "core helium burning) appears, 8 % of the light" in noted[0]
    assert "log age 7.55 and 7.6" in noted[1] and "thermally pulsing asymptotic giant branch) appears" in noted[1]


def invented(bands, log_ages=(9.0, 9.2), z_sun=0.02, low=0.1):
    """A grid of main-sequence stars and giants with magnitudes of their own."""
    nodes = {}
    for log_age in log_ages:
        mass = np.concatenate([np.linspace(low, 2.2, 20), np.linspace(2.2001, 2.3, 10)]) * 10 ** (9 - log_age)
        phase = np.repeat([1, 3], [20, 10])
        light = np.where(phase == 3, 2.0, 3 * np.log10(mass))
        teff = np.where(phase == 3, 3.65, 3.8)
        magnitudes = 4.7 - 2.5 * light[:, None] + np.arange(len(bands)) + log_age
        nodes[0.0, log_age] = Isochrone(mass, mass, light, teff, np.full(30, 4.0), phase, magnitudes)
    return IsochroneGrid(nodes, z_sun, "invented", magnitude_systems=dict.fromkeys(bands, "Vega"))


def test_magnitudes_of_the_grid_win_and_others_are_filled():
    grid = invented(["ACS_WFC_F814W", "DECAM_g"])
    assert grid.bands == ("ACS_WFC_F814W", "DECAM_g")
    names = ("F814W", "g", "F438W", "WFC3_UVIS_F814W")
    _, magnitudes = grid.magnitudes(9.0, 0.0, names)
    stars = grid.knots(9.0)
    assert np.array_equal(magnitudes[:, :2], stars.magnitudes)
    others = absolute_magnitudes(stars.log_luminosity, stars.log_teff, stars.log_g, 0.0, names[2:])
    assert np.array_equal(magnitudes[:, 2:], others)
    assert grid.magnitudes(9.0, 0.0, ())[1].shape == (30, 0)
    table = grid.isochrone(1 * u.Gyr, passbands=names)
    assert table.meta["magnitude_systems"] == dict.fromkeys(names, "Vega")
    # integrated light follows: with giants of a single colour the sum is bounded by the single stars
    ssp = grid.ssp_magnitudes(1 * u.Gyr, passbands=["F814W", "g"]).value
    assert ssp[1] - ssp[0] == pytest.approx(1.0)


@given(st.floats(9.0, 9.2))
def test_magnitudes_are_interpolated_like_the_rest(log_age):
    """Their bolometric correction grows with log age alone here, so it must come out linear in it."""
    grid = invented(["DECAM_g"])
    stars = grid.knots(log_age)
    assert np.allclose(stars.magnitudes[:, 0] + 2.5 * stars.log_luminosity, 4.7 + log_age, atol=1e-9)
    if log_age in grid.log_ages:
        assert stars is grid._nodes[0.0, log_age]


@pytest.mark.parametrize(
    ("bands", "name", "resolved"),
    [
        ((), "F814W", "WFC3_UVIS_F814W"),
        (("ACS_WFC_F814W",), "F814W", "ACS_WFC_F814W"),
        (("ACS_WFC_F814W",), "WFC3_UVIS_F814W", "WFC3_UVIS_F814W"),
        (("ACS_WFC_F814W", "WFC3_UVIS_F814W"), "F814W", "WFC3_UVIS_F814W"),
        (("DECAM_g",), "g", "DECAM_g"),
        (("DECAM_g",), "DECAM_g", "DECAM_g"),
    ],
)
def test_names_of_bands(bands, name, resolved):
    assert invented(bands).resolve_band(name) == resolved


def test_unclear_names_of_bands():
    with pytest.raises(ValueError, match="band 'g' may be DECAM_g or SDSS_g: give the full name"):
        invented(["DECAM_g", "SDSS_g"]).resolve_band("g")
    with pytest.raises(ValueError, match="band 'F814W' may be ACS_WFC_F814W or ACS_HRC_F814W"):
        invented(["ACS_WFC_F814W", "ACS_HRC_F814W"]).resolve_band("F814W")
    with pytest.raises(ValueError, match="unknown passband 'z'.*; the isochrones bring DECAM_g"):
        invented(["DECAM_g"]).resolve_band("z")


@pytest.mark.parametrize("passband", ["F336W", "F814W"])
@pytest.mark.parametrize("age", [5 * u.Myr, 100 * u.Myr, 10 * u.Gyr])
def test_phase_fractions(grid, age, passband):
    table = grid.phase_fractions(age, passband=passband)
    assert table.colnames == ["phase", "name", "fraction"]
    assert table["fraction"].sum() == pytest.approx(1) and (table["fraction"] >= 0).all()
    assert table["name"][0] == "main sequence"
    # against stars drawn from the IMF
    stars, imf = grid.knots(np.log10(age.to_value(u.yr))), get_imf("kroupa")
    mass, magnitudes = grid.magnitudes(np.log10(age.to_value(u.yr)), 0.0, [passband])
    drawn = imf.ppf((np.arange(400_000) + 0.5) / 400_000)
    light = 10 ** (-0.4 * np.interp(drawn, mass, magnitudes[:, 0], right=np.inf))
    nearest = np.rint(np.interp(drawn, mass, np.arange(len(mass)))).astype(int)
    for row in table:
        assert row["fraction"] == pytest.approx(light[stars.phase[nearest] == row["phase"]].sum() / light.sum(), abs=0.02)


def test_giants_rule_the_red_light_of_old_populations(grid):
    table = grid.phase_fractions(10 * u.Gyr, passband="WFC3_IR_F160W")
    giants = np.isin(table["name"], ["red giant branch", "core helium burning", "early asymptotic giant branch"])
    assert 0.6 < table["fraction"][giants].sum() < 0.85  # Maraston (2005): about 0.7 in the near infrared
    assert table.meta["passband"] == "WFC3_IR_F160W"


def test_what_a_grid_knows(grid):
    assert np.allclose(grid.ages.to_value(u.Myr), 10 ** (grid.log_ages - 6)) and grid.ages[0].unit == u.Myr
    assert grid.mass_range.to_value(u.Msun) == pytest.approx([0.08, 113.0], rel=0.01)
    assert grid.bands == () and grid.magnitude_systems == {}
    assert set(grid.phase_names) >= set(np.unique(np.concatenate([grid.knots(t).phase for t in grid.log_ages])))
    assert [len(value) for value in grid.sha256.values()] == [64]
    assert "magnitudes in DECAM_g, ACS_WFC_F814W" in repr(invented(["DECAM_g", "ACS_WFC_F814W"]))


def test_stars_below_the_lowest_mass_are_missed_with_a_warning():
    grid = invented([], low=1.5)
    with pytest.warns(AstropyUserWarning, match="begin at 1.5 Msun, the IMF at 0.08 Msun: .* up to .* % of the light, count as dark"):
        grid.ssp_magnitudes(1 * u.Gyr)
    with pytest.warns(AstropyUserWarning, match="begin at 0.946 Msun"):
        StarTables(["F814W"], isochrones=invented([], low=1.5))
    # from 0.1 Msun on, as most tables go, nothing notable is lost
    invented([], low=0.1).ssp_magnitudes(1 * u.Gyr)


def test_beyond_the_bolometric_corrections(grid):
    stars = grid.knots(9.0)
    metal_poor = IsochroneGrid({(-2.0, 9.0): stars}, 0.02, "invented")
    with pytest.warns(AstropyUserWarning, match="Z = 0.0002 lies outside the bolometric corrections, Z = 0.00632 to 0.0317"):
        metal_poor.magnitudes(9.0, -2.0, ["F814W"])
    hot = Isochrone(stars.initial_mass, stars.mass, stars.log_luminosity, stars.log_teff + 3, stars.log_g, stars.phase)
    with pytest.warns(AstropyUserWarning, match="200 stars with 100 % of the light lie far outside the bolometric corrections"):
        IsochroneGrid({(0.0, 9.0): hot}, 0.02, "invented").magnitudes(9.0, 0.0, ["F814W"])


def test_edges_of_the_bolometric_corrections():
    """The limits that the warnings name are those of the table: beyond them nothing changes, within them it does."""
    def change(**steps):
        values = {"log_teff": 3.7, "log_g": 4.0, "metallicity": 0.0}
        pair = [{**values, **{name: pair[i] for name, pair in steps.items()}} for i in (0, 1)]
        first, second = (bolometric_correction([v["log_teff"]], [v["log_g"]], v["metallicity"], ["F336W"]) for v in pair)
        return abs(first - second).item()

    low, high = CORRECTED_METALLICITIES
    for edge, step in ((low, -0.1), (high, 0.1)):
        assert change(metallicity=(edge, edge + step)) < 1e-9 < change(metallicity=(edge, edge - step))
    for edge, step in ((0.0, -1), (5.0, 1)):
        assert change(log_g=(edge, edge + step)) < 1e-9 < change(log_g=(edge, edge - step))
    for edge, step in ((3.390, -0.1), (5.478, 0.1)):
        assert change(log_teff=(edge, edge + step)) < 0.02 < change(log_teff=(edge, edge - step))


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


def upside_down(stars, name):
    return replace(stars, **{name: getattr(stars, name)[::-1]})


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda g: g.isochrone(2e7), TypeError, "age must be a Quantity"),
        (lambda g: g.isochrone(2 * u.kpc), u.UnitsError, "age"),
        (
            lambda g: g.isochrone(1 * u.Myr),
            ValueError,
            r"age is 1 Myr \(log age 6\), but the isochrones reach from 3.98107 Myr \(log age 6.6\) to 12589.3 Myr \(log age 10.1\)",
        ),
        (lambda g: g.knots(11.0), ValueError, "age is 100000 Myr .* from 3.98107 Myr .* to 12589.3 Myr"),
        (lambda g: g.knots(2e7), ValueError, r"age is inf Myr \(log age 2e\+07\), but the isochrones reach"),
        (
            lambda g: g.knots(8.0, 1.0),
            ValueError,
            "metallicity is 1 dex, but the isochrones reach from -0.15.* to 0.17",
        ),
        (lambda g: g.magnitudes(8.0, 0.0, ["F1W"]), ValueError, "unknown passband"),
        (lambda g: g.ssp_magnitudes(1 * u.Gyr, imf="miller"), ValueError, "imf"),
        (lambda g: g.phase_fractions(1 * u.Gyr, passband="F1W"), ValueError, "unknown passband 'F1W'"),
        (lambda g: g.phase_fractions(1e9), TypeError, "age must be a Quantity"),
        (lambda g: g.ssp_magnitudes([10, 20] * u.Myr), ValueError, "age must be one positive number"),
        (lambda g: g.isochrone(-10 * u.Myr), ValueError, "age must be one positive number"),
        (lambda g: IsochroneGrid({}, 0.02, "nothing"), ValueError, "no entries"),
        (
            lambda g: IsochroneGrid({(0, 8): g.knots(8), (0.1, 9): g.knots(9)}, 0.02, "holes"),
            ValueError,
            r"lacks log age 9 at \[M/H\] 0, log age 8 at \[M/H\] 0.1: every metallicity needs every age",
        ),
        (
            lambda g: IsochroneGrid({(0, 8): g.knots(8)}, 0.02, "no columns", magnitude_systems={"BESSELL_V": "Vega"}),
            ValueError,
            "has 200 stars and magnitudes in 0 bands, but needs two stars or more and 1 bands",
        ),
        (lambda g: IsochroneGrid({(0, 8): upside_down(g.knots(8), "initial_mass")}, 0.02, "falling"), ValueError, "must ascend"),
        (lambda g: IsochroneGrid({(0, 8): upside_down(g.knots(8), "phase")}, 0.02, "younger"), ValueError, "must never descend"),
    ],
)
def test_errors(grid, call, error, match):
    with pytest.raises(error, match=match):
        call(grid)


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


@pytest.mark.parametrize("unit", [u.yr, u.Myr, u.Gyr])
def test_ages_in_single_precision_are_those_of_the_grid(grid, unit):
    for log_age in grid.log_ages:
        age = np.float32((10**log_age * u.yr).to_value(unit)) * unit
        assert grid.knots(np.log10(age.to_value(u.yr))) is grid.knots(log_age)
    assert len(grid.ssp_magnitudes(age)) == 3


def test_the_grid_of_all_is_not_written_to(grid):
    with pytest.raises(ValueError, match="read-only"):
        grid.knots(7.0).mass[:] = 0


def test_metals_of_the_sun(grid):
    for wrong in 0, -1, np.nan:
        with pytest.raises(ValueError, match="z_sun must be a mass fraction"):
            IsochroneGrid({(0.0, 7.0): grid.knots(7.0)}, wrong, "some")


def test_one_band_may_stand_alone(grid):
    age = 10 * u.Myr
    assert grid.ssp_magnitudes(age, passbands="F438W") == grid.ssp_magnitudes(age, passbands=["F438W"])
    assert bolometric_correction([3.7], [4.4], 0.0, "F438W") == bolometric_correction([3.7], [4.4], 0.0, ["F438W"])
    assert (grid.isochrone(age, passbands="F438W")["F438W"] == grid.isochrone(age, passbands=["F438W"])["F438W"]).all()
    with pytest.raises(ValueError, match="passbands must hold at least one name"):
        grid.ssp_magnitudes(age, passbands=[])
