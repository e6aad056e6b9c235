# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tests of clustercnn.stellar.spectra
"""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.modeling.models import BlackBody
from astropy.table import Table
from specutils import Spectrum

from clustercnn import SyntheticCluster
from clustercnn.stellar import (
    IsochroneGrid, SpectralLibrary, absolute_magnitudes, get_law, luminosity_density, sed, vega_to_ab,
)

WAVE = np.geomspace(500, 5e4, 300).astype(">f4")
SUN = 3.828e33  # erg/s


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


def planck(teff):
    """Surface flux of a blackbody, erg / (s cm2 Angstrom)."""
    return np.pi * BlackBody(teff * u.K, scale=1 * u.erg / u.s / u.cm**2 / u.AA / u.sr)(WAVE * u.AA).value


def blackbody(teff, log_g, metallicity):
    """A library of the user's own."""
    return Spectrum(flux=planck(teff.value) * u.erg / u.s / u.cm**2 / u.AA, spectral_axis=WAVE * u.AA)


@pytest.fixture(name="atlas")
def fixture_atlas(tmp_path):
    """A tiny atlas in the layout of TRDS: blackbodies, brighter by 1 + log g + 10 [M/H]; no model of 3500 K and log g = 5."""
    rows = []
    for folder, metallicity in (("inp00", 0.0), ("inp02", 0.2), ("inm10", -1.0)):
        for teff in (3500, 5000, 20000):
            columns = {"WAVELENGTH": WAVE}
            for log_g in (2.0, 5.0):
                name = f"g{10 * log_g:02.0f}"
                missing = teff == 3500 and log_g == 5
                columns[name] = (planck(teff) * (1 + log_g + 10 * metallicity) * (not missing)).astype(">f4")
                rows.append((f"{teff},{metallicity},{log_g}", f"{folder}/{folder}_{teff}.fits[{name}]"))
            if folder != "inm10":  # named in the catalogue, but not here
                (tmp_path / folder).mkdir(exist_ok=True)
                Table(columns).write(tmp_path / folder / f"{folder}_{teff}.fits")
    Table(rows=rows, names=("INDEX", "FILENAME")).write(tmp_path / "catalog.fits")
    return tmp_path


def test_library_of_an_atlas(atlas):
    library = SpectralLibrary(atlas)
    assert repr(library).endswith("Teff 3500 to 20000 K, log g 2 to 5, [M/H] 0 to 0.2>")
    node = library(5000 * u.K, 5.0, 0.0)
    assert node.flux.unit == u.erg / u.s / u.cm**2 / u.AA and node.flux.dtype.isnative
    np.testing.assert_allclose(node.flux.value, 6 * planck(5000), rtol=1e-5)
    np.testing.assert_allclose(library(5000 * u.K, 3.5, 0.1).flux.value, 5.5 * planck(5000), rtol=1e-5)  # halfway in both
    np.testing.assert_allclose(library(3500 * u.K, 5.0, 0.0).flux.value, 3 * planck(3500), rtol=1e-5)  # the next gravity
    for log_g, metallicity in ((9.0, 0.0), (5.0, -0.7)):
        np.testing.assert_allclose(library(5000 * u.K, log_g, metallicity).flux.value, 6 * planck(5000), rtol=1e-5)


@pytest.mark.parametrize("teff", [2700, 3200, 30000, 120000])
def test_stars_beyond_the_spectra_are_scaled_like_blackbodies(atlas, teff):
    library = SpectralLibrary(atlas)
    flux = library(teff * u.K, 6.0, 0.0).flux.value  # a dwarf
    expected = planck(teff) * (3 if teff < 3500 else 6)
    seen = WAVE > 2000
    # between nodes of temperature magnitudes are linear
    assert np.abs(np.log(flux / expected))[seen].max() < 0.05


def test_cool_giants_are_those_of_the_magnitudes(atlas):
    library = SpectralLibrary(atlas)
    giant, dwarf = (library(3000 * u.K, g, 0.0) for g in (2.0, 5.0))
    at = [np.argmin(abs(WAVE - wave)) for wave in (5300, 8000)]
    ratio = (giant.flux[at] / dwarf.flux[at]).value
    assert ratio[0] < 0.5 * ratio[1]  # titanium oxide


def test_cool_stars_go_from_giants_to_dwarfs(atlas):
    """Giants up to log g = 3, blackbodies from 4.5 on, and in the middle the mean of their logarithms."""
    library = SpectralLibrary(atlas)
    library(4000 * u.K, 4.0, 0.0)  # which reads its wavelengths
    library.gravities = np.array([0.0, 3.0, 3.75, 4.5, 5.0])
    giant, last_giant, middle, first_dwarf, dwarf = library._cooler(np.log10(3000), np.log10(3500))
    np.testing.assert_array_equal(giant, last_giant)
    np.testing.assert_array_equal(first_dwarf, dwarf)
    np.testing.assert_allclose(dwarf, np.log(planck(3000) * 3500**4 / (planck(3500) * 3000**4)), atol=2e-3)
    np.testing.assert_allclose(middle, (giant + dwarf) / 2, rtol=1e-12)
    at = np.argmin(abs(WAVE - 5300))
    assert giant[at] < dwarf[at] - 0.5  # titanium oxide


def test_population_is_the_sum_of_its_stars(atlas):
    library = SpectralLibrary(atlas)
    teff, log_g, luminosity = np.array([4000.0, 9000.0, 15000.0]), np.array([2.2, 3.0, 4.0]), np.array([-1.0, 1.0, 3.0])
    wave, density = luminosity_density(library, np.log10(teff), log_g, luminosity, 0.1, group=[0, 2, 2])
    assert density.shape == (3, len(wave)) and not density[1].any()
    for group, members in ((0, [0]), (2, [1, 2])):
        expected = 0
        for i in members:
            surface = library(teff[i] * u.K, log_g[i], 0.1).flux.value
            expected = expected + 10 ** luminosity[i] * surface / (5.670374e-5 * teff[i] ** 4)
        np.testing.assert_allclose(density[group], expected, rtol=1e-5)


def test_atlas_below_the_usual_variable(atlas, monkeypatch):
    grid = atlas.parent / "cdbs" / "grid"
    shutil.copytree(atlas, grid / "invented")
    monkeypatch.setenv("PYSYN_CDBS", str(grid.parent))
    assert SpectralLibrary("invented").path == grid / "invented"
    with pytest.raises(ValueError, match="no folder 'other' with a library of spectra: neither here nor in .*grid"):
        SpectralLibrary("other")
    monkeypatch.delenv("PYSYN_CDBS")
    with pytest.raises(ValueError, match="no folder 'invented' .*: not here, and .PYSYN_CDBS is not set"):
        SpectralLibrary("invented")


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 2880])


@pytest.mark.parametrize(("harm", "message"), [
    (lambda atlas: (atlas / "catalog.fits").unlink(), "catalog.fits is missing from the library"),
    (lambda atlas: truncate(atlas / "catalog.fits"), "catalog.fits cannot be read as a table of spectra"),
    (lambda atlas: (atlas / "catalog.fits").write_bytes(b""), "catalog.fits cannot be read as a table of spectra"),
    (lambda atlas: (atlas / "catalog.fits").write_text("Teff, [M/H]"), "catalog.fits cannot be read as a table of spectra"),
    (lambda atlas: Table({"NAME": ["x"]}).write(atlas / "catalog.fits", overwrite=True), "has no column INDEX, FILENAME"),
    (lambda atlas: Table({"INDEX": ["hot"], "FILENAME": ["a[b]"]}).write(atlas / "catalog.fits", overwrite=True), "is no catalogue"),
    (lambda atlas: [shutil.rmtree(atlas / name) for name in ("inp00", "inp02")], "holds none of the spectra"),
    (lambda atlas: (atlas / "inp00" / "inp00_5000.fits").unlink(), "inp00_5000.fits is missing"),
    (lambda atlas: truncate(atlas / "inp00" / "inp00_5000.fits"), "inp00_5000.fits cannot be read"),
    (lambda atlas: fits.PrimaryHDU(np.zeros(3)).writeto(atlas / "inp00" / "inp00_5000.fits", overwrite=True), "cannot be read"),
    (lambda atlas: Table({"WAVELENGTH": WAVE}).write(atlas / "inp00" / "inp00_5000.fits", overwrite=True), "has no column 'g20'"),
    (lambda atlas: Table({"WAVELENGTH": WAVE[1:], "g20": WAVE[1:], "g50": WAVE[1:]}).write(
        atlas / "inp00" / "inp00_5000.fits", overwrite=True), "has other wavelengths"),
    (lambda atlas: Table({"WAVELENGTH": WAVE, "g20": 0 * WAVE, "g50": 0 * WAVE}).write(
        atlas / "inp00" / "inp00_5000.fits", overwrite=True), "holds no spectrum of 5000 K"),
])
def test_broken_atlases(atlas, harm, message):
    harm(atlas)
    with pytest.raises(ValueError, match=message):
        SpectralLibrary(atlas)(5000 * u.K, 4.0, 0.0)


def make_cluster(age=100 * u.Myr, **kwargs):
    kwargs = {"a_v": 0.0 * u.mag, "distance": 1 * u.Mpc, "rng": 1, **kwargs}
    return SyntheticCluster(5e3 * u.Msun, age, 1 * u.pc, **kwargs)


def test_spectrum_of_a_cluster_by_a_callable():
    cluster, calls = make_cluster(), []
    spectrum = cluster.spectrum(lambda *star: calls.append(star) or blackbody(*star))
    assert 50 < len(calls) < 500 and all(isinstance(star[0], u.Quantity) for star in calls)
    luminosity = np.trapezoid(spectrum.flux, spectral_axis := spectrum.spectral_axis) * 4 * np.pi * cluster.distance**2
    assert luminosity.to_value(u.Lsun) == pytest.approx(np.sum(10 ** cluster.stars["log_luminosity"]), rel=0.02)
    assert spectral_axis.unit == u.AA

    # the same against frequency, in other units
    def against_frequency(*star):
        spectrum = blackbody(*star)
        flux = spectrum.flux.to(u.Jy, u.spectral_density(spectrum.spectral_axis))
        return Spectrum(flux=flux, spectral_axis=spectrum.spectral_axis.to(u.THz, u.spectral()))
    np.testing.assert_allclose(cluster.spectrum(against_frequency).flux.value, spectrum.flux.value, rtol=1e-4)


def test_dust_reaches_as_far_as_its_curve():
    clear, dusty = make_cluster().spectrum(blackbody), make_cluster(a_v=2 * u.mag).spectrum(blackbody)
    assert clear.spectral_axis[0] < 600 * u.AA and dusty.spectral_axis[0] >= 1000 * u.AA
    assert clear.spectral_axis[-1] > 4 * u.um and dusty.spectral_axis[-1] <= 1 / 0.3 * u.um
    inside = np.isin(clear.spectral_axis.value, dusty.spectral_axis.value)
    dimming = -2.5 * np.log10((dusty.flux / clear.flux[inside]).value)
    assert np.interp(5480, dusty.spectral_axis.value, dimming) == pytest.approx(2.0, abs=0.05)
    foreground = make_cluster(a_v=1.2 * u.mag, foreground_a_v=0.8 * u.mag).spectrum(blackbody)
    np.testing.assert_allclose(foreground.flux.value, dusty.flux.value, rtol=1e-9)


def test_spread_of_dust_dims_each_star_by_its_own():
    cluster = make_cluster(a_v=1 * u.mag, a_v_spread=0.5 * u.mag)
    spectrum, clear = cluster.spectrum(blackbody), make_cluster().spectrum(blackbody)
    stars = cluster.stars
    at = np.argmin(abs(spectrum.spectral_axis.value - 8030)), np.argmin(abs(clear.spectral_axis.value - 8030))
    dimming = (spectrum.flux[at[0]] / clear.flux[at[1]]).value
    wavelength, teff = spectrum.spectral_axis[at[0]], 10 ** stars["log_teff"] * u.K
    light = 10 ** stars["log_luminosity"] * (BlackBody(teff)(wavelength) / teff**4).value
    left = 10 ** (-0.4 * get_law()(wavelength) * stars["a_v"].value)
    assert dimming == pytest.approx(np.sum(light * left) / np.sum(light), rel=2e-3)


@pytest.mark.parametrize(("library", "error", "message"), [
    (3.0, TypeError, "library must be a path, a SpectralLibrary or a callable, not float"),
    (lambda *star: np.ones(3), TypeError, "must return a one-dimensional specutils Spectrum, not ndarray"),
    (lambda *star: Spectrum(flux=np.ones((2, 3)) * u.Jy, spectral_axis=[1, 2, 3] * u.um, spectral_axis_index=1), TypeError, "one-dimensional"),
    (lambda *star: Spectrum(flux=np.ones(3) * u.K, spectral_axis=[1, 2, 3] * u.um), u.UnitsError, "flux densities that convert"),
    (lambda t, *_: Spectrum(flux=np.ones(3) * u.Jy, spectral_axis=[1, 2, t.value] * u.um), ValueError, "on the same wavelengths"),
    ("nowhere/ck04", ValueError, "no folder 'nowhere/ck04'"),
])
def test_broken_libraries(library, error, message):
    with pytest.raises(error, match=message):
        make_cluster().spectrum(library)


def test_nothing_shines_for_a_callable():
    with pytest.raises(ValueError, match="there is no star"):
        luminosity_density(blackbody, [], [], [], 0.0)


@pytest.fixture(name="bands", scope="module")
def fixture_bands(reference_data):
    """The passbands of the tool that built the bolometric corrections."""
    path = Path(__file__).resolve().parents[1] / "tools" / "build_bolometric_corrections.py"
    spec = importlib.util.spec_from_file_location("build_bolometric_corrections", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vega = fits.getdata(reference_data / "throughput" / "alpha_lyr_stis_011.fits")
    vega = vega["WAVELENGTH"].astype(float), vega["FLUX"].astype(float)
    wanted = [f"WFC3_UVIS_{name}" for name in ("F275W", "F336W", "F438W", "F475W", "F555W", "F606W", "F814W")]
    wanted += ["WFC3_IR_F110W", "WFC3_IR_F160W", "NIRCAM_F115W", "NIRCAM_F200W", "BESSELL_B", "BESSELL_V"]
    return {name: module.Band(reference_data / "throughput" / f"{name}.csv", vega) for name in wanted}


@pytest.fixture(name="ck04", scope="module")
def fixture_ck04(reference_data):
    """The atlas of Castelli & Kurucz (2004)."""
    return SpectralLibrary(reference_data / "spectra" / "ck04")


@pytest.mark.parametrize("a_v", [0, 1, 3])
@pytest.mark.parametrize("log_age", [6.6, 6.85, 7.1, 7.5, 8.0, 9.0, 9.5, 10.1])
def test_spectrum_has_the_light_of_the_stars(bands, ck04, a_v, log_age):
    cluster = SyntheticCluster(
        2e4 * u.Msun, 10**log_age * u.yr, 0.1 * u.arcsec, a_v * u.mag, distance=4.5 * u.Mpc, extinction="integrated", rng=3
    )
    spectrum = cluster.spectrum(ck04)
    for name, band in bands.items():
        flux = band.mean_flux(spectrum.spectral_axis.value, spectrum.flux.value)
        assert -2.5 * np.log10(flux / band.vega) == pytest.approx(cluster.magnitude(name).value, abs=0.02), name


@pytest.mark.parametrize(("teff", "log_g"), [(2700, 0.0), (3300, 0.5), (3000, 5.0), (3620, 1.0), (9000, 4.0), (60e3, 5.0), (2e5, 5.0)])
def test_spectra_of_single_stars_follow_the_bolometric_corrections(bands, ck04, teff, log_g):
    wave, density = luminosity_density(ck04, [np.log10(teff)], [log_g], [0.0], 0.0)
    dilution = SUN / (4 * np.pi * (10 * 3.0857e18) ** 2)
    for name in ("WFC3_UVIS_F438W", "WFC3_UVIS_F814W", "NIRCAM_F115W", "WFC3_IR_F160W"):
        magnitude = -2.5 * np.log10(bands[name].mean_flux(wave, density[0]) * dilution / bands[name].vega)
        expected = absolute_magnitudes([0.0], [np.log10(teff)], [log_g], 0.0, [name])[0, 0]
        assert magnitude == pytest.approx(expected, abs=0.04 if teff < 3500 else 0.01)
