# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
SyntheticCluster: masses, sizes and magnitudes are those that were asked for, and so are the pixels.
"""

import pickle

import galsim
import numpy as np
import pytest
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning
from scipy.stats import kstest

from clustercnn import SyntheticCluster
from clustercnn.images import MultiBandImage
from clustercnn.instruments import Instrument
from clustercnn.profiles import get_profile
from clustercnn.psf import builtin_psf
from clustercnn.simulation import Detector
from clustercnn.stellar import Isochrone, IsochroneGrid, get_imf
from clustercnn.stellar.extinction import band_extinction, integrated_extinction
from clustercnn.stellar.isochrone import COLUMNS

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
RATE = u.electron / u.s


def make_cluster(mass=5e3 * u.Msun, age=20 * u.Myr, half_light_radius=0.12 * u.arcsec, rng=42, **parameters):
    return SyntheticCluster(mass, age, half_light_radius, distance=parameters.pop("distance", 4.5 * u.Mpc), rng=rng, **parameters)


@pytest.fixture(name="cluster", scope="module")
def fixture_cluster():
    """One reddened cluster; read only."""
    return make_cluster(2e4 * u.Msun, a_v=0.6 * u.mag)


@pytest.mark.parametrize("mass", [300, 3e3, 1e5])
def test_mass_is_met_within_one_star(mass):
    heaviest = get_imf("kroupa").upper
    masses = [make_cluster(mass * u.Msun, rng=seed).mass.to_value(u.Msun) for seed in range(20)]
    assert np.abs(np.array(masses) - mass).max() < heaviest / 2
    assert len(set(masses)) == 20  # the realised sum, not the request


def test_mass_is_of_all_that_was_born():
    masses, *_ = np.random.default_rng(42).spawn(3)  # of masses, positions and dust
    born = get_imf("kroupa").sample_mass(2e4, masses)
    cluster = make_cluster(2e4 * u.Msun, age=1 * u.Gyr)
    assert cluster.mass.to_value(u.Msun) == pytest.approx(born.sum())
    turn_off = IsochroneGrid.default().knots(9.0).initial_mass[-1]
    living = cluster.stars["initial_mass"]
    assert living.max().to_value(u.Msun) <= turn_off and len(living) == np.sum(born <= turn_off)


def test_surviving_mass():
    surviving = [float(make_cluster(2e5 * u.Msun, age=10**a * u.yr).surviving_mass / (2e5 * u.Msun)) for a in (6.6, 7, 8, 9, 10)]
    assert np.all(np.diff(surviving) < 0)
    assert 0.95 < surviving[0] < 1
    # living stars alone: Kroupa stars below 1 Msun hold 45 % of the mass
    assert surviving[-1] == pytest.approx(get_imf("kroupa").mass_fraction(0.08, 1.0), abs=0.03)


def test_table_of_stars(cluster):
    stars = cluster.stars
    names = ["initial_mass", "log_teff", "log_luminosity", "log_g", "x", "y", "F275W", "F336W", "F438W", "F555W", "F814W"]
    assert stars.colnames == names and cluster.stars is stars
    assert stars["initial_mass"].unit == u.Msun and stars["x"].unit == u.arcsec and stars["F438W"].unit == u.mag
    for name, low, high in [("log_teff", 3.2, 5.3), ("log_luminosity", -4, 6.5), ("log_g", -1.5, 6)]:
        assert low < stars[name].min() < stars[name].max() < high
    assert make_cluster(bands=("F814W",)).stars.colnames[-2:] == ["y", "F814W"]


def test_stars_are_those_of_the_isochrone(cluster):
    knots = IsochroneGrid.default().isochrone(20 * u.Myr, passbands=["F438W"])
    mass = cluster.stars["initial_mass"].to_value(u.Msun)
    expected = np.interp(mass, knots["initial_mass"].value, knots["F438W"].value)
    dust = 0.6 * band_extinction(["F438W"])[0]
    np.testing.assert_allclose(cluster.stars["F438W"].value - dust - 5 * np.log10(4.5e5), expected, atol=1e-9)


@pytest.mark.parametrize("profile", ["eff", "king", "plummer", get_profile("eff", gamma=2.2)])
def test_stars_follow_the_profile(profile):
    cluster = make_cluster(1e4 * u.Msun, profile=profile, gamma=3.0)
    r = np.hypot(cluster.stars["x"], cluster.stars["y"]) / cluster.half_light_radius
    expected = get_profile("eff", gamma=3.0) if profile == "eff" else get_profile(profile)
    assert np.mean(r < 1) == pytest.approx(0.5, abs=2 / len(r) ** 0.5)
    assert kstest(r.value, expected.enclosed).pvalue > 1e-3
    angle = np.arctan2(cluster.stars["y"], cluster.stars["x"]).value
    assert np.abs(np.mean(np.exp(1j * angle))) < 4 / len(r) ** 0.5


def test_heavy_stars_are_not_segregated():
    cluster = make_cluster(1e5 * u.Msun, age=5 * u.Myr)
    r = np.hypot(cluster.stars["x"], cluster.stars["y"]) / cluster.half_light_radius
    heavy = cluster.stars["initial_mass"] > 8 * u.Msun
    assert np.mean(r[heavy] < 1) == pytest.approx(0.5, abs=2 / heavy.sum() ** 0.5)


@pytest.mark.parametrize("angle", [0, 30, 120])
def test_ellipse(angle):
    """Quantiles along and across the major axis keep sqrt(a b) and the position angle, counter-clockwise from +x."""
    round_one, flat_one = (
        make_cluster(3e4 * u.Msun, ellipticity=ellipticity, position_angle=angle * u.deg) for ellipticity in (0.0, 0.5)
    )
    turn = np.exp(-1j * np.deg2rad(angle))
    z = (flat_one.stars["x"] + 1j * flat_one.stars["y"]).value * turn
    r = np.hypot(round_one.stars["x"], round_one.stars["y"]).value
    major, minor = (np.percentile(np.abs(part), 50) for part in (z.real, z.imag))
    assert minor / major == pytest.approx(0.5, rel=0.03)
    one = np.percentile(np.abs(round_one.stars["x"].value), 50)
    assert np.sqrt(major * minor) == pytest.approx(one, rel=0.03)
    assert np.mean(np.hypot(z.real * 0.5**0.5, z.imag / 0.5**0.5) < np.median(r)) == pytest.approx(0.5, abs=0.01)


def test_size_is_an_angle_or_a_length():
    angle, length = make_cluster(), make_cluster(half_light_radius=3 * u.pc)
    assert angle.half_light_radius == 0.12 * u.arcsec
    assert length.half_light_radius.to_value(u.arcsec) == pytest.approx(3 / 4.5e6 * 206264.806, rel=1e-6)
    assert make_cluster(half_light_radius=120 * u.mas).half_light_radius.to_value(u.arcsec) == pytest.approx(0.12)
    ratio = (length.half_light_radius / angle.half_light_radius).value
    np.testing.assert_allclose(length.stars["x"].value, angle.stars["x"].value * ratio)


def test_magnitude_is_the_sum_of_stars(cluster):
    for band in ("F336W", "F814W"):
        total = -2.5 * np.log10(np.sum(10 ** (-0.4 * cluster.stars[band].value)))
        assert cluster.magnitude(band).to_value(u.mag) == pytest.approx(total, abs=1e-9)
        assert cluster.magnitude(f"WFC3_UVIS_{band}") == cluster.magnitude(band)
    assert cluster.color("F336W", "F814W") == cluster.magnitude("F336W") - cluster.magnitude("F814W")
    assert np.isfinite(cluster.magnitude("NIRCAM_F115W"))  # any band, with or without a column


@pytest.mark.parametrize("age", [10, 100, 3162])
def test_mean_light_is_that_of_the_population(age):
    bands, n = ("F336W", "F438W", "F814W"), 40
    clusters = [make_cluster(1e4 * u.Msun, age=age * u.Myr, rng=seed) for seed in range(n)]
    flux = 10 ** (-0.4 * np.array([[cluster.magnitude(band).value for band in bands] for cluster in clusters]))
    ssp = IsochroneGrid.default().ssp_magnitudes(age * u.Myr, passbands=bands).value + 5 * np.log10(4.5e5) - 10
    error = flux.std(axis=0, ddof=1) / n**0.5
    assert np.all(np.abs(flux.mean(axis=0) - 10 ** (-0.4 * ssp)) < 4 * error)
    assert np.all(error / flux.mean(axis=0) < 0.1)


def test_distance_dims_by_its_modulus():
    near, far = make_cluster(distance=4.5 * u.Mpc), make_cluster(distance=9000 * u.kpc)
    assert (far.magnitude("F438W") - near.magnitude("F438W")).value == pytest.approx(5 * np.log10(2))
    np.testing.assert_array_equal(near.stars["x"], far.stars["x"])
    assert make_cluster(half_light_radius=3 * u.pc, distance=9 * u.Mpc).half_light_radius.value == pytest.approx(0.06875, rel=1e-3)


def test_dust_dims_by_its_curve():
    clear, dusty = make_cluster(), make_cluster(a_v=1.2 * u.mag)
    for band in ("F275W", "F336W", "F438W", "F555W", "F814W"):
        dimming = (dusty.magnitude(band) - clear.magnitude(band)).value
        assert dimming == pytest.approx(1.2 * band_extinction([band])[0])
    assert (dusty.magnitude("BESSELL_V") - clear.magnitude("BESSELL_V")).value == pytest.approx(1.2, abs=0.03)


def test_metallicity_and_imf_matter():
    default, rich, heavy = make_cluster(), make_cluster(metallicity=0.15), make_cluster(imf="salpeter")
    assert len({cluster.magnitude("F814W").value for cluster in (default, rich, heavy)}) == 3
    assert len(heavy.stars) > 1.1 * len(default.stars)  # more dwarfs for the same mass


def test_clusters_follow_the_generator():
    same = [make_cluster(rng=rng) for rng in (7, np.random.default_rng(7), np.random.SeedSequence(7))]
    for cluster in same[1:]:
        np.testing.assert_array_equal(cluster.stars["x"], same[0].stars["x"])
        np.testing.assert_array_equal(cluster.stars["initial_mass"], same[0].stars["initial_mass"])
    assert make_cluster(rng=8).mass != same[0].mass
    assert make_cluster(rng=None).mass != make_cluster(rng=None).mass


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"mass": 2e4}, TypeError, "mass must be a Quantity such as 1"),
    ({"age": 20.0}, TypeError, "age must be a Quantity"),
    ({"half_light_radius": 0.1}, TypeError, "half_light_radius must be a Quantity"),
    ({"a_v": 0.6}, TypeError, "a_v must be a Quantity"),
    ({"distance": 4.5}, TypeError, "distance must be a Quantity"),
    ({"position_angle": 30.0}, TypeError, "position_angle must be a Quantity"),
    ({"mass": 2e4 * u.pc}, u.UnitsError, "mass must have a unit that converts to 'solMass'"),
    ({"age": 20 * u.Msun}, u.UnitsError, "age must have a unit that converts to 'Myr'"),
    ({"half_light_radius": 1 * u.s}, u.UnitsError, "half_light_radius must have a unit that converts to 'arcsec'"),
    ({"a_v": 1 * u.pc}, u.UnitsError, "a_v must have a unit"),
    ({"mass": -1 * u.Msun}, ValueError, "mass must be one positive number, such as 1 solMass, not -1"),
    ({"mass": 0 * u.Msun}, ValueError, "mass must be one positive number"),
    ({"mass": np.nan * u.Msun}, ValueError, "mass must be one positive number"),
    ({"mass": [1, 2] * u.Msun}, ValueError, "mass must be one positive number"),
    ({"age": -20 * u.Myr}, ValueError, "age must be one positive number"),
    ({"half_light_radius": -1 * u.pc}, ValueError, "half_light_radius must be one positive number"),
    ({"distance": np.inf * u.Mpc}, ValueError, "distance must be one positive number"),
    ({"a_v": -0.1 * u.mag}, ValueError, "a_v must be one number, 0 mag or more"),
    ({"a_v": np.nan * u.mag}, ValueError, "a_v must be one number, 0 mag or more"),
    ({"a_v": [0, 1] * u.mag}, ValueError, "a_v must be one number, 0 mag or more"),
    ({"foreground_a_v": 0.1}, TypeError, "foreground_a_v must be a Quantity"),
    ({"foreground_a_v": -1 * u.mag}, ValueError, "foreground_a_v must be one number, 0 mag or more"),
    ({"a_v_spread": np.inf * u.mag}, ValueError, "a_v_spread must be one number, 0 mag or more"),
    ({"a_v_spread": 0.1 * u.mag}, ValueError, "a_v must be positive where there is an a_v_spread of 0.1 mag"),
    ({"extinction": "spectra"}, ValueError, "extinction must be 'pivot' or 'integrated', not 'spectra'"),
    ({"extinction": "integrated", "r_v": 2.5}, ValueError, "tabulated for extinction_law='F99' with r_v=3.1"),
    ({"extinction": "integrated", "foreground_law": "G23"}, ValueError, "and the same for the foreground"),
    ({"extinction_law": "F09"}, ValueError, "law is 'F09'"),
    ({"binary_fraction": -0.1}, ValueError, "binary_fraction must lie in 0 to 1"),
    ({"mass_ratio": 2}, ValueError, "mass_ratio must lie in 0 to 1"),
    ({"age": 1 * u.Myr}, ValueError, "age is 1 Myr .*the isochrones reach from 3.98107 Myr .* to 12589.3 Myr"),
    ({"age": 3.7 * u.Myr}, ValueError, "age is 3.7 Myr .*the isochrones reach from 3.98107 Myr"),
    ({"age": 14 * u.Gyr}, ValueError, "age is 14000 Myr .*the isochrones reach from 3.98107 Myr .* to 12589.3 Myr"),
    ({"metallicity": -2.0}, ValueError, "metallicity is -2 dex, but the isochrones reach"),
    ({"imf": "scalo"}, ValueError, "imf is 'scalo', but must be one of"),
    ({"profile": "sersic"}, ValueError, "profile must be one of"),
    ({"gamma": 1.2}, ValueError, "gamma must lie in"),
    ({"ellipticity": 1.0}, ValueError, r"ellipticity must be 1 - b/a in \[0, 1\)"),
])
def test_broken_clusters(arguments, error, message):
    with pytest.raises(error, match=message):
        make_cluster(**arguments)


def test_unknown_bands_are_named(cluster):
    with pytest.raises(ValueError, match="F999W"):
        cluster.magnitude("F999W")


def test_one_band_by_its_name():
    assert make_cluster(bands="F438W").stars.colnames[-1] == "F438W"


@pytest.mark.parametrize(("arguments", "message"), [
    ({"shape": (-1, 64)}, r"shape must be two whole numbers of pixels"),
    ({"position": (np.nan, 3)}, r"position must be \(x, y\) in pixels"),
    ({"position": 31.5}, r"position must be \(x, y\) in pixels"),
])
def test_nowhere_to_render(cluster, arguments, message):
    with pytest.raises(ValueError, match=message):
        cluster.render(M83, **arguments)


def test_rendered_flux_and_centroid(cluster):
    """All of the light in the image, where the stars are."""
    for shape, position in [((128, 128), None), ((121, 140), (63.8, 60.3))]:
        image = cluster.render(M83, shape, position=position)
        assert image.bands == M83.bands and image.unit == RATE and image.shape == shape
        y, x = np.indices(shape)
        centre = ((shape[1] - 1) / 2, (shape[0] - 1) / 2) if position is None else position
        for band in M83.bands:
            pixels = image[band].data.astype(float)
            flux = 10 ** (0.4 * (M83.zero_point(band) - cluster.magnitude(band)).value)
            assert pixels.sum() / flux == pytest.approx(1, abs=1e-4)  # the halo reaches over the edges
            light = 10 ** (-0.4 * cluster.stars[band].value)
            for axis, name, middle in ((x, "x", centre[0]), (y, "y", centre[1])):
                expected = middle + np.average(cluster.stars[name].value, weights=light) / 0.04
                assert (pixels * axis).sum() / pixels.sum() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("shape", [(40, 40), (41, 36)])
def test_rendered_cluster_against_galsim(shape):
    """The same stars by GalSim: every pixel within a thousandth of the peak."""
    cluster, psfs = make_cluster(300 * u.Msun, age=6 * u.Myr, ellipticity=0.3, rng=3), builtin_psf(M83)
    image = cluster.render(M83, shape, position=(19.3, 20.8)).to_array()
    for i, band in enumerate(M83.bands):
        flux = 10 ** (0.4 * (M83.zero_point(band).value - cluster.stars[band].value))
        x, y = (19.3 + cluster.stars["x"].value / 0.04, 20.8 + cluster.stars["y"].value / 0.04)
        stars = galsim.Sum([galsim.DeltaFunction(flux=f).shift(*place) for f, *place in zip(flux, x, y, strict=True)])
        kernel = galsim.Image(psfs[band].data.copy(), scale=1 / psfs[band].oversampling)
        reference = galsim.ImageD(shape[1], shape[0], scale=1)
        galsim.Convolve(stars, galsim.InterpolatedImage(kernel, x_interpolant="lanczos15", flux=1)).drawImage(
            reference, offset=(-(shape[1] - 1) / 2, -(shape[0] - 1) / 2)
        )
        assert np.abs(image[i] - reference.array).max() < 1e-3 * reference.array.max()


def test_psf_for_each_band(cluster):
    psf = builtin_psf(M83)
    with pytest.raises(ValueError, match=r"psf must have an entry for each band.*none for \['F814W'\]"):
        cluster.render(M83, psf={band: psf[band] for band in ("F336W", "F438W")})


def test_observation_has_the_detectors_noise(cluster):
    detector, clear = Detector.from_instrument(M83), cluster.render(M83).to_array()
    observed = cluster.observe(M83, rng=5)
    sigma = np.sqrt(detector.variance(clear))
    deviation = []
    for i, band in enumerate(M83.bands):
        np.testing.assert_allclose(observed[band].uncertainty.array, sigma[i], rtol=1e-5)
        deviation.append((observed[band].data - clear[i]) / sigma[i])
    assert np.abs(np.mean(deviation)) < 4 / np.size(deviation) ** 0.5
    assert np.std(deviation) == pytest.approx(1, abs=0.03)
    again, other = cluster.observe(M83, rng=5), cluster.observe(M83, rng=6)
    np.testing.assert_array_equal(again.to_array(), observed.to_array())
    assert np.mean(other.to_array() != observed.to_array()) > 0.99


def test_observation_before_a_background(cluster):
    """Given as an image or an array, it shines and adds its noise."""
    behind = np.stack([np.full((64, 64), rate) for rate in (0.5, 1.0, 2.0)])
    image = MultiBandImage.from_arrays(M83.bands, behind, RATE)
    first, second = (cluster.observe(M83, background=background, rng=1) for background in (image, behind * RATE))
    np.testing.assert_allclose(first.to_array(), second.to_array())
    variance = Detector.from_instrument(M83).variance(cluster.render(M83).to_array() + behind)
    for i, band in enumerate(M83.bands):
        np.testing.assert_allclose(first[band].uncertainty.array ** 2, variance[i], rtol=1e-5)
        assert np.median(first[band].data) == pytest.approx(behind[i, 0, 0], rel=0.15)


@pytest.mark.parametrize(("background", "error", "message"), [
    (np.zeros((3, 64, 64)), TypeError, "background must be a Quantity"),
    (np.zeros((3, 64, 64)) * u.mag, u.UnitsError, "background must have a unit"),
    (np.zeros((3, 32, 64)) * RATE, ValueError, r"background must have the shape \(3, 64, 64\)"),
    (MultiBandImage({"F814W": np.zeros((64, 64)) * RATE}), ValueError, "background must have the bands"),
    (MultiBandImage({b: np.zeros((64, 64)) * RATE for b in M83.bands[::-1]}), ValueError, "background must have the bands"),
])
def test_broken_backgrounds(cluster, background, error, message):
    with pytest.raises(error, match=message):
        cluster.observe(M83, background=background)


def test_spectrum(cluster):
    spectrum = cluster.spectrum()
    assert len(spectrum.flux) == 5 and spectrum.flux.unit.is_equivalent(u.erg / u.s / u.cm**2 / u.AA)
    assert np.all(np.diff(spectrum.spectral_axis) > 0)
    bright = make_cluster(2e4 * u.Msun, a_v=0.6 * u.mag, distance=0.45 * u.Mpc).spectrum()
    np.testing.assert_allclose((bright.flux / spectrum.flux).value, 100)


def test_binaries_share_a_place_and_add_their_light():
    single, double = make_cluster(), make_cluster(binary_fraction=0.5, mass_ratio=0.3)
    assert "system" not in single.stars.colnames
    stars = double.stars
    system, counts = np.unique(stars["system"], return_counts=True)
    assert set(counts) == {1, 2} and np.mean(counts == 2) == pytest.approx(0.5, abs=0.03)
    pairs = np.flatnonzero(np.diff(stars["system"]) == 0)
    for name in ("x", "y"):
        np.testing.assert_array_equal(stars[name][pairs], stars[name][pairs + 1])
    ratio = stars["initial_mass"][pairs + 1] / stars["initial_mass"][pairs]
    assert ratio.max() <= 1 and ratio.min() >= 0.3
    assert double.mass.to_value(u.Msun) == pytest.approx(5e3, abs=120)
    # heavier systems, and therefore fewer
    assert len(system) == pytest.approx(len(single.stars) / (1 + 0.5 * 0.65), rel=0.08)
    light = np.bincount(stars["system"], 10 ** (-0.4 * stars["F814W"].value))
    assert double.magnitude("F814W").value == pytest.approx(-2.5 * np.log10(light.sum()), abs=1e-9)


def test_a_companion_may_outlive_its_primary():
    stars = make_cluster(age=1 * u.Gyr, binary_fraction=1.0).stars
    _, counts = np.unique(stars["system"], return_counts=True)
    assert 0 < np.sum(counts == 1) < 0.2 * len(counts)


def test_dust_of_another_galaxy():
    bar = make_cluster(a_v=1 * u.mag, extinction_law="G03_SMCBar")
    steep = make_cluster(a_v=1 * u.mag, r_v=2.2)
    clear = make_cluster()
    assert (bar.magnitude("F336W") - clear.magnitude("F336W")).value == pytest.approx(band_extinction(["F336W"], law="G03_SMCBar")[0])
    assert (steep.magnitude("F336W") - clear.magnitude("F336W")).value == pytest.approx(band_extinction(["F336W"], 2.2)[0])


def test_foreground_dust_is_not_part_of_a_v():
    cluster = make_cluster(a_v=0.5 * u.mag, extinction_law="G03_SMCBar", foreground_a_v=0.3 * u.mag)
    assert cluster.a_v == 0.5 * u.mag and cluster.foreground_a_v == 0.3 * u.mag
    expected = 0.5 * band_extinction(["F336W"], law="G03_SMCBar")[0] + 0.3 * band_extinction(["F336W"])[0]
    assert (cluster.magnitude("F336W") - make_cluster().magnitude("F336W")).value == pytest.approx(expected)


def test_dust_beyond_the_reach_of_f99():
    far = "NIRCAM_F444W"
    clear = make_cluster(a_v=0 * u.mag).magnitude(far)
    with pytest.raises(ValueError, match="NIRCAM_F444W lies outside F99"):
        make_cluster(a_v=0 * u.mag, foreground_a_v=0.3 * u.mag).magnitude(far)
    ratio = band_extinction([far], law="G23")[0]
    foreground = make_cluster(a_v=0 * u.mag, foreground_a_v=0.3 * u.mag, foreground_law="G23")
    assert (foreground.magnitude(far) - clear).value == pytest.approx(0.3 * ratio)
    both = make_cluster(a_v=1 * u.mag, extinction_law="G23", foreground_a_v=0.3 * u.mag, foreground_law="G23")
    assert (both.magnitude(far) - clear).value == pytest.approx(1.3 * ratio)


@pytest.mark.parametrize("kwargs", [{}, {"binary_fraction": 0.3}])
def test_spread_of_dust(kwargs):
    cluster = make_cluster(2e4 * u.Msun, a_v=0.8 * u.mag, a_v_spread=0.4 * u.mag, **kwargs)
    a_v = cluster.stars["a_v"].to_value(u.mag)
    assert a_v.min() > 0 and a_v.mean() == pytest.approx(0.8, abs=0.02) and a_v.std() == pytest.approx(0.4, abs=0.02)
    dust = cluster.stars["F438W"].value - band_extinction(["F438W"])[0] * a_v
    if not kwargs:  # the stars are those without a spread
        np.testing.assert_allclose(dust, make_cluster(2e4 * u.Msun).stars["F438W"].value)
    else:
        same = np.flatnonzero(np.diff(cluster.stars["system"]) == 0)
        np.testing.assert_array_equal(a_v[same], a_v[same + 1])


def test_integrated_extinction_of_each_star():
    clear = make_cluster(age=30 * u.Myr)
    cluster = make_cluster(age=30 * u.Myr, a_v=1.5 * u.mag, foreground_a_v=0.5 * u.mag, extinction="integrated")
    dimming = cluster.stars["F275W"].value - clear.stars["F275W"].value
    stars = clear.stars
    np.testing.assert_allclose(dimming, 2 * integrated_extinction(stars["log_teff"], stars["log_g"], 2.0, ["F275W"])[:, 0])
    pivot = make_cluster(age=30 * u.Myr, a_v=2 * u.mag)
    assert abs(cluster.magnitude("F336W") - pivot.magnitude("F336W")) < 0.02 * u.mag


def test_off_means_off():
    """The options of dust and binaries draw nothing when they are off."""
    off = make_cluster(
        a_v=0.6 * u.mag, foreground_a_v=0 * u.mag, a_v_spread=0 * u.mag, binary_fraction=0, mass_ratio=0.5, extinction_law="F99", r_v=3.1
    )
    on = make_cluster(a_v=0.6 * u.mag)
    assert off.stars.colnames == on.stars.colnames
    for name in on.stars.colnames:
        np.testing.assert_array_equal(off.stars[name], on.stars[name])


def test_a_cluster_may_be_dead():
    """A single heavy star that is gone."""
    seed = next(i for i in range(1000) if make_cluster(1 * u.Msun, age=10 * u.Gyr, rng=i).mass > 2 * u.Msun)
    cluster = make_cluster(1 * u.Msun, age=10 * u.Gyr, rng=seed)
    assert len(cluster.stars) == 0 and cluster.surviving_mass == 0 * u.Msun
    assert cluster.magnitude("F814W") == np.inf * u.mag
    assert not cluster.render(M83, (16, 16)).to_array().any()


def test_clusters_travel_between_processes():
    cluster = make_cluster(a_v=0.5 * u.mag, extinction_law="G03_SMCBar", foreground_a_v=0.1 * u.mag)
    copy = pickle.loads(pickle.dumps(cluster))
    assert copy.magnitude("F438W") == cluster.magnitude("F438W")


def test_repr(cluster):
    assert repr(cluster).startswith("<SyntheticCluster mass=2e+04 solMass, age=20 Myr, half_light_radius=0.12 arcsec, a_v=0.6 mag")


def own_grid(lowest):
    """The default isochrones of two ages above a mass, with magnitudes of their own that are 5 - 2.5 log L."""
    nodes = {}
    for log_age in (8.0, 8.05):
        stars = IsochroneGrid.default().knots(log_age)
        above = stars.initial_mass >= lowest
        columns = [getattr(stars, name)[above] for name in COLUMNS]
        nodes[0.0, log_age] = Isochrone(*columns, magnitudes=5 - 2.5 * stars.log_luminosity[above, None])
    return IsochroneGrid(nodes, 0.02, "a test", magnitude_systems={"DECAM_g": "AB"})


def test_bands_of_the_isochrones_alone():
    """A band that only the isochrones know; how dust dims it nobody knows."""
    cluster = make_cluster(age=1e8 * u.yr, isochrones=own_grid(0.0), bands=("g", "F814W"), a_v=0 * u.mag, rng=1)
    modulus = 5 * np.log10(cluster.distance.to_value(u.pc) / 10)
    assert np.allclose(cluster.stars["g"].value, 5 - 2.5 * cluster.stars["log_luminosity"] + modulus, atol=1e-6)
    assert cluster.stars.meta["magnitude_systems"] == {"g": "AB", "F814W": "Vega"}
    with pytest.raises(ValueError, match="how dust dims DECAM_g is not known"):
        make_cluster(age=1e8 * u.yr, isochrones=own_grid(0.0), a_v=1 * u.mag).magnitude("g")


def test_broad_band_spectrum_of_the_bands_that_the_isochrones_bring():
    """F814W is that of ACS in all that a cluster tells if its isochrones bring that of ACS."""
    default = IsochroneGrid.default()
    nodes = {}
    for log_age in (8.0, 8.05):
        stars = default.knots(log_age)
        _, magnitudes = default.magnitudes(log_age, 0.0, ["ACS_WFC_F814W"])
        nodes[0.0, log_age] = Isochrone(*(getattr(stars, name) for name in COLUMNS), magnitudes=magnitudes)
    grid = IsochroneGrid(nodes, 0.02, "a test", magnitude_systems={"ACS_WFC_F814W": "Vega"})
    short, full = (make_cluster(age=1e8 * u.yr, isochrones=grid, bands=(band,)).spectrum() for band in ("F814W", "ACS_WFC_F814W"))
    assert short.spectral_axis[0] == full.spectral_axis[0] and short.flux[0] == full.flux[0]


def test_stars_below_the_isochrones_are_dark():
    whole = make_cluster(age=1e8 * u.yr, rng=1)
    cut = make_cluster(age=1e8 * u.yr, isochrones=own_grid(0.3), rng=1)
    assert cut.mass == whole.mass and cut.surviving_mass.value == pytest.approx(whole.surviving_mass.value, rel=1e-4)
    assert cut.stars["initial_mass"].min() > 0.29 * u.Msun
    assert abs(cut.magnitude("F814W") - whole.magnitude("F814W")) < 0.02 * u.mag
    with pytest.warns(AstropyUserWarning, match="the isochrones begin at .* count as dark"):
        make_cluster(age=1e8 * u.yr, isochrones=own_grid(1.5), rng=1)


def test_masses_positions_and_dust_have_streams_of_their_own():
    """Another profile or a spread of the dust leaves the masses as they are, and the former the dust."""
    plain, king = make_cluster(), make_cluster(profile="king")
    np.testing.assert_array_equal(plain.stars["initial_mass"], king.stars["initial_mass"])
    assert np.all(plain.stars["x"] != king.stars["x"])
    spread, spread_king = (make_cluster(a_v=1 * u.mag, a_v_spread=0.5 * u.mag, profile=profile) for profile in ("eff", "king"))
    np.testing.assert_array_equal(plain.stars["initial_mass"], spread.stars["initial_mass"])
    np.testing.assert_array_equal(plain.stars["x"], spread.stars["x"])
    np.testing.assert_array_equal(spread.stars["a_v"], spread_king.stars["a_v"])


def test_ages_half_a_step_beyond_the_isochrones():
    """Posteriors reach so far; the last isochrone stands in, and the cluster says so."""
    for age, end in ((3.78 * u.Myr, 10**6.6), (13.2 * u.Gyr, 10**10.1)):
        cluster = SyntheticCluster(1e3 * u.Msun, age, 0.1 * u.arcsec, distance=4.5 * u.Mpc, rng=1)
        assert cluster.age.to_value(u.yr) == pytest.approx(end)
