# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Artificial clusters in images: their light and noise arrive whole, everything else stays as it was.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty
from astropy.table import QTable, Table
from astropy.wcs import WCS

from clustercnn import ClusterInjector, SyntheticCluster
from clustercnn.images import MultiBandImage
from clustercnn.instruments import Instrument
from clustercnn.parameters import Parameter, ParameterSpace
from clustercnn.psf import as_psf, builtin_psf
from clustercnn.simulation import InjectionResult, recovered_fraction

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
RATE = u.electron / u.s
DISTANCE = 4.5 * u.Mpc
WAVE = np.exp(-0.5 * (np.arange(-20, 21) / 4) ** 2)
PSF = dict.fromkeys(M83.bands, as_psf(np.outer(WAVE, WAVE)))  # small, hence fast
SMALL = ParameterSpace([
    Parameter("age", 10 * u.Myr, 50 * u.Myr), Parameter("a_v", 0 * u.mag, 1 * u.mag, "linear"),
    Parameter("mass", 1e3 * u.Msun, 5e3 * u.Msun), Parameter("half_light_radius", 0.05 * u.arcsec, 0.1 * u.arcsec),
])


def make_wcs(scale=0.04):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 204.25, -29.87
    wcs.wcs.crpix = 40, 50
    wcs.wcs.cdelt = -scale / 3600, scale / 3600
    return wcs


def make_images(shape=(120, 110), bands=M83.bands, unit=RATE, level=0.01, **keywords):
    return MultiBandImage({band: CCDData(np.full(shape, level), unit=unit, **keywords) for band in bands})


def make_cluster(rng=1, mass=5e3 * u.Msun, **keywords):
    return SyntheticCluster(mass, 20 * u.Myr, 0.08 * u.arcsec, distance=DISTANCE, rng=rng, **keywords)


def expected_flux(cluster):
    """Electron/s in each band."""
    return np.array([10 ** (0.4 * (M83.zero_point(band) - cluster.magnitude(band)).value) for band in M83.bands])


EXPOSURE = np.array([M83.exposure(band).value for band in M83.bands])


def test_light_is_added_with_its_photon_noise():
    cluster, images = make_cluster(), make_images()
    injector = ClusterInjector(images, instrument=M83, psf=PSF)
    flux, added = expected_flux(cluster), []
    for seed in range(16):
        result = injector.inject([cluster], [(51.3, 60.8)], rng=seed)
        added.append((result.images.to_array().astype(float) - 0.01).sum(axis=(1, 2)))
    error = np.sqrt(flux / EXPOSURE)  # Poisson
    assert np.all(np.abs(np.mean(added, axis=0) - flux) < 4 * error / 16**0.5)
    np.testing.assert_allclose(np.std(added, axis=0, ddof=1), error, rtol=0.7)


def test_pixels_are_those_of_the_cluster():
    """The mean of many injections is the rendered cluster at the same place."""
    cluster, injector = make_cluster(mass=2e4 * u.Msun), ClusterInjector(make_images((60, 50), level=0.0), instrument=M83, psf=PSF)
    mean = np.mean([injector.inject([cluster], [(20.4, 33.7)], rng=i).images.to_array() for i in range(8)], axis=0)
    rendered = cluster.render(M83, (60, 50), psf=PSF, position=(20.4, 33.7)).to_array()
    sigma = np.sqrt(rendered.clip(1e-7) / EXPOSURE[:, None, None] / 8)
    bright = rendered > 0.05
    assert bright.sum() > 100
    assert np.abs(((mean - rendered) / sigma)[bright]).max() < 5


def test_input_is_untouched():
    data = np.random.default_rng(0).random((3, 60, 60)).astype(np.float32)
    images = MultiBandImage.from_arrays(M83.bands, data.copy(), RATE, variance=np.ones_like(data))
    result = ClusterInjector(images, instrument=M83, psf=PSF).inject([make_cluster()], [(30, 30)], rng=1)
    assert isinstance(result, InjectionResult) and result.images is not images
    for i, band in enumerate(M83.bands):
        np.testing.assert_array_equal(images[band].data, data[i])
        np.testing.assert_array_equal(images[band].uncertainty.array, 1)
        assert np.any(result.images[band].data != data[i])
        # far from the cluster nothing changes
        np.testing.assert_array_equal(result.images[band].data[:5], data[i, :5])


@pytest.mark.parametrize("kind", [StdDevUncertainty, InverseVariance])
def test_uncertainty_grows_by_the_photons(kind):
    images = make_images(uncertainty=kind(np.full((120, 110), 0.04 if kind is StdDevUncertainty else 0.04**-2)))
    cluster = make_cluster(mass=2e4 * u.Msun)
    result = ClusterInjector(images, instrument=M83, psf=PSF).inject([cluster], [(50.2, 60)], rng=1)
    rendered = cluster.render(M83, (120, 110), psf=PSF, position=(50.2, 60)).to_array().clip(0)
    for i, band in enumerate(M83.bands):
        sigma = result.images[band].uncertainty
        assert isinstance(sigma, StdDevUncertainty)
        np.testing.assert_allclose(sigma.array, np.sqrt(0.04**2 + rendered[i] / EXPOSURE[i]), rtol=1e-4)


def test_mask_wcs_and_header_come_along():
    mask = np.zeros((120, 110), dtype=bool)
    mask[60, 50] = mask[3, 4] = True
    images = make_images(mask=mask, wcs=make_wcs(), meta={"TARGET": "M83"})
    images["F438W"].data[7, 8] = np.nan
    result = ClusterInjector(images, instrument=M83, psf=PSF).inject([make_cluster()], [(50, 60)], rng=1)
    for band in M83.bands:
        np.testing.assert_array_equal(result.images[band].mask, mask)
        assert result.images[band].meta["TARGET"] == "M83"
    assert result.images.wcs is images.wcs or result.images.wcs.wcs.compare(images.wcs.wcs)
    # what lies under the mask is kept
    assert all(np.isclose(result.images[band].data[3, 4], 0.01) for band in M83.bands)
    pixels = result.images.to_array(nan="mask")
    assert np.all(np.isnan(pixels[:, mask])) and np.isnan(pixels[1, 7, 8]) and np.isfinite(pixels[0, 7, 8])


def test_sky_positions():
    images = make_images(wcs=make_wcs())
    sky = make_wcs().pixel_to_world([30.3, 70.1], [80.9, 25.5])
    truth = ClusterInjector(images, instrument=M83, psf=PSF).inject([make_cluster(), make_cluster(2)], sky, rng=1).truth
    np.testing.assert_allclose(images.pixel_positions(truth), [[30.3, 80.9], [70.1, 25.5]], atol=1e-6)
    assert isinstance(truth["sky_centroid"], SkyCoord) and truth["sky_centroid"].separation(sky).max() < 1e-4 * u.arcsec
    with pytest.raises(ValueError, match="no WCS"):
        ClusterInjector(make_images(), instrument=M83, psf=PSF).inject([make_cluster()], sky[:1])


def test_truth():
    clusters = [make_cluster(), make_cluster(2, mass=2e3 * u.Msun, a_v=0.7 * u.mag)]
    truth = ClusterInjector(make_images(), instrument=M83, psf=PSF).inject(clusters, [(30, 40), (70, 80)], rng=1).truth
    assert isinstance(truth, QTable) and truth["id"].tolist() == [0, 1]
    for name, unit in [("age", u.Myr), ("a_v", u.mag), ("mass", u.Msun), ("half_light_radius", u.arcsec)]:
        assert truth[name].unit == unit
        assert u.allclose(truth[name], u.Quantity([getattr(cluster, name) for cluster in clusters]))
    for band in M83.bands:
        assert u.allclose(truth[band], u.Quantity([cluster.magnitude(band) for cluster in clusters]))


@pytest.mark.parametrize("position", [(0, 0), (109.4, 60), (-3, 50), (50, 125), (-0.5, 119.5)])
def test_over_the_edge(position):
    """What lies inside the image is there, and nothing comes back on the other side."""
    cluster = make_cluster(mass=2e4 * u.Msun)
    result = ClusterInjector(make_images(level=0.0), instrument=M83, psf=PSF).inject([cluster], [position], rng=3)
    inside = cluster.render(M83, (120, 110), psf=PSF, position=position).to_array().astype(float)
    added = result.images.to_array().astype(float)
    error = np.sqrt(inside.sum(axis=(1, 2)) / EXPOSURE)
    assert np.all(np.abs((added - inside).sum(axis=(1, 2))) < 5 * error + 1e-6)
    y, x = np.indices((120, 110))
    assert not added[:, np.hypot(x - position[0], y - position[1]) > 40].any()


def test_far_outside_nothing_happens():
    images = make_images()
    result = ClusterInjector(images, instrument=M83, psf=PSF).inject([make_cluster()], [(5000, -300)], rng=3)
    np.testing.assert_array_equal(result.images.to_array(), images.to_array())
    assert len(result.truth) == 1


@pytest.mark.parametrize("keywords", [{"ellipticity": 0.85}, {"profile": "king"}, {"gamma": 1.8}])
def test_wide_clusters_are_not_cut(keywords):
    """However far the stars reach."""
    cluster = SyntheticCluster(3e4 * u.Msun, 20 * u.Myr, 0.3 * u.arcsec, distance=DISTANCE, rng=1, **keywords)
    result = ClusterInjector(make_images((500, 500), level=0.0), instrument=M83, psf=PSF).inject([cluster], [(250, 250)], rng=1)
    flux = expected_flux(cluster)
    added = result.images.to_array().astype(float).sum(axis=(1, 2))
    assert np.all(np.abs(added - flux) < 4.5 * np.sqrt(flux / EXPOSURE))


def test_large_psfs_are_not_cut():
    x = np.arange(-240, 241) / 4
    halo = as_psf((1 + (x[:, None] ** 2 + x**2) / 4) ** -1.2)
    cluster = make_cluster(mass=1e5 * u.Msun)
    injector = ClusterInjector(make_images((240, 240), level=0.0), instrument=M83, psf=dict.fromkeys(M83.bands, halo))
    added = injector.inject([cluster], [(120, 120)], rng=1).images.to_array().astype(float).sum(axis=(1, 2))
    flux = expected_flux(cluster)
    np.testing.assert_allclose(added, flux, rtol=2e-3)  # from 32 pixels on there would be 20 per cent


def test_other_units():
    """Images in electrons and adu turn into rates; so do their uncertainties."""
    cluster = make_cluster()
    reference = ClusterInjector(make_images(), instrument=M83, psf=PSF).inject([cluster], [(50, 60)], rng=4).images.to_array()
    rate_per_unit = {u.electron: 1 / EXPOSURE, u.adu: M83.gain("F438W").value / EXPOSURE}
    for unit, factor in rate_per_unit.items():
        images = MultiBandImage({
            band: CCDData(np.full((120, 110), 0.01 / f), unit=unit, uncertainty=StdDevUncertainty(np.full((120, 110), 0.04 / f)))
            for band, f in zip(M83.bands, factor, strict=True)
        })
        result = ClusterInjector(images, instrument=M83, psf=PSF).inject([cluster], [(50, 60)], rng=4)
        assert result.images.unit == RATE
        np.testing.assert_allclose(result.images.to_array(), reference, rtol=1e-5)
        for band in M83.bands:
            assert result.images[band].uncertainty.array[0, 0] == pytest.approx(0.04)


def test_bands_in_another_order():
    cluster = make_cluster()
    ordered, turned = (
        ClusterInjector(make_images(bands=bands), instrument=M83, psf=PSF).inject([cluster], [(50, 60)], rng=4)
        for bands in (M83.bands, M83.bands[::-1])
    )
    for band in M83.bands:
        np.testing.assert_array_equal(ordered.images[band].data, turned.images[band].data)


def test_injections_follow_the_generator():
    injector, table = ClusterInjector(make_images(), instrument=M83, psf=PSF), SMALL.sample(2, rng=1)

    def pixels(seed):
        return injector.inject(table, [(30, 40), (70, 80)], rng=seed, distance=DISTANCE).images.to_array()

    np.testing.assert_array_equal(pixels(1), pixels(1))
    assert np.any(pixels(1) != pixels(2))


def test_clusters_from_a_table():
    table = SMALL.sample(3, rng=2)
    injector = ClusterInjector(make_images(), instrument=M83, psf=PSF)
    truth = injector.inject(table, [(30, 40), (70, 80), (20, 90)], rng=1, distance=DISTANCE).truth
    for name in ("age", "a_v", "half_light_radius"):
        assert u.allclose(truth[name], table[name])
    assert np.abs(truth["mass"] - table["mass"]).max() < 60 * u.Msun
    with pytest.raises(ValueError, match=r"distance must be given .* such as distance=4.5 \* u.Mpc"):
        injector.inject(table, [(30, 40), (70, 80), (20, 90)])
    with pytest.raises(TypeError, match="age must be a Quantity"):
        injector.inject(Table(table), [(30, 40), (70, 80), (20, 90)], distance=DISTANCE)


def test_ages_at_the_ends_of_the_papers_space():
    """It reaches half a step beyond the isochrones: the nearest one stands in, and the truth says so."""
    table = QTable({
        "age": [10**6.58, 10**10.12] * u.yr, "a_v": [0, 0] * u.mag, "mass": [1e3, 1e3] * u.Msun, "half_light_radius": [0.1, 0.1] * u.arcsec,
    })
    truth = ClusterInjector(make_images(), instrument=M83, psf=PSF).inject(table, [(30, 40), (70, 80)], rng=1, distance=DISTANCE).truth
    np.testing.assert_allclose(np.log10(truth["age"].to_value(u.yr)), [6.6, 10.1])


def test_no_clusters():
    images = make_images(wcs=make_wcs())
    result = ClusterInjector(images, instrument=M83, psf=PSF).inject([], np.zeros((0, 2)), rng=1)
    assert len(result.truth) == 0 and result.truth["mass"].unit == u.Msun
    np.testing.assert_array_equal(result.images.to_array(), images.to_array())


@pytest.mark.parametrize(("images", "message"), [
    (make_images(bands=("F336W", "F438W")), r"images must have the bands .* not \('F336W', 'F438W'\)"),
    (make_images(bands=("F336W", "F438W", "F555W")), "images must have the bands"),
    (make_images(wcs=make_wcs(0.05)), "images have 0.05 arcsec / pix, but the instrument 0.04 arcsec / pix"),
])
def test_images_must_be_the_instruments(images, message):
    with pytest.raises(ValueError, match=message):
        ClusterInjector(images, instrument=M83, psf=PSF)


def test_as_many_positions_as_clusters():
    with pytest.raises(ValueError, match="positions must be as many as the clusters, 1, not 2"):
        ClusterInjector(make_images(), instrument=M83, psf=PSF).inject([make_cluster()], [(1, 2), (3, 4)])


def test_default_psf_is_the_built_in_one():
    injector = ClusterInjector(make_images(), instrument=M83)
    assert {band: psf.data.shape for band, psf in injector.psf.items()} == {b: p.data.shape for b, p in builtin_psf(M83).items()}


@pytest.mark.parametrize(("share", "offset", "recovered"), [(1.0, 0.5, 8), (1.0, 5.0, 0), (0.0, 0.0, 0), (0.5, 0.5, 4)])
def test_completeness(monkeypatch, share, offset, recovered):
    """With finders that know where the clusters are, or miss them."""
    images, places = make_images((300, 300)), []
    inject = ClusterInjector.inject

    def remember(self, clusters, positions, *arguments, **keywords):
        places[:] = [positions]
        return inject(self, clusters, positions, *arguments, **keywords)

    def finder(seen):
        assert isinstance(seen, MultiBandImage) and seen.shape == (300, 300)
        found = places[0][: round(share * len(places[0]))]
        return QTable({"x_centroid": found[:, 0] + offset, "y_centroid": found[:, 1]})

    monkeypatch.setattr(ClusterInjector, "inject", remember)
    injector = ClusterInjector(images, instrument=M83, psf=PSF)
    truth = injector.completeness(SMALL, 8, finder, distance=DISTANCE, n_per_image=4, rng=1, progress=False)
    assert len(truth) == 8 and truth["id"].tolist() == list(range(8))
    assert truth["recovered"].dtype == bool and truth["recovered"].sum() == recovered
    np.testing.assert_array_equal(images.to_array(), np.float32(0.01))
    xy = images.pixel_positions(truth)
    assert xy.min() >= -0.5 and xy.max() <= 299.5


def test_completeness_goes_on_until_all_are_injected():
    """Also with ages that lie half a step beyond the isochrones; the last image holds the rest."""
    calls = []

    def finder(images):
        calls.append(images)
        return QTable({"x_centroid": [], "y_centroid": []})

    space = ParameterSpace([Parameter("age", 10**6.58 * u.yr, 10**6.6 * u.yr), *SMALL.parameters[1:]])
    injector = ClusterInjector(make_images(), instrument=M83, psf=PSF)
    keywords = {"distance": DISTANCE, "n_per_image": 3, "rng": 2, "progress": False}
    truth = injector.completeness(space, 7, finder, **keywords)
    assert len(truth) == 7 and len(calls) == 3 and not truth["recovered"].any()
    assert u.allclose(injector.completeness(space, 7, finder, **keywords)["mass"], truth["mass"])


@pytest.mark.filterwarnings("ignore:between log age 7.55 and 7.6")  # an age that this seed draws
def test_completeness_as_in_the_contract():
    """The distance is the injector's; photutils' finders give None for nothing."""
    injector = ClusterInjector(make_images(), instrument=M83, psf=PSF, distance=DISTANCE)
    truth = injector.completeness(SMALL, n=3, finder=lambda images: None, rng=1, progress=False)
    assert len(truth) == 3 and not truth["recovered"].any()
    given = ClusterInjector(make_images(), instrument=M83, psf=PSF)
    same = given.completeness(SMALL, n=3, finder=lambda images: None, rng=1, progress=False, distance=DISTANCE)
    assert u.allclose(truth["F438W"], same["F438W"])
    # and the curves in one line
    for name in SMALL.names:
        curve = recovered_fraction(truth, name, SMALL[name].edges())
        assert curve["n"].sum() >= 2 and not curve["fraction"][curve["n"] > 0].any()
    with pytest.raises(ValueError, match="distance must be given .* here or to ClusterInjector"):
        given.completeness(SMALL, n=3, finder=lambda images: None, progress=False)
    with pytest.raises(TypeError, match="distance must be a Quantity"):
        ClusterInjector(make_images(), instrument=M83, psf=PSF, distance=4.5)
    for keywords in ({"n": 0}, {"n": 3, "n_per_image": 0}):
        with pytest.raises(ValueError, match="n and n_per_image must be at least 1"):
            injector.completeness(SMALL, finder=lambda images: None, progress=False, **keywords)


def test_recovered_fraction():
    truth = QTable({"mass": [1, 2, 3, 20, 30, 40, 500] * u.Msun, "recovered": [True, False, False, True, True, True, True]})
    table = recovered_fraction(truth, "mass", [1e-3, 1e-2, 0.1, 0.4] * (1e3 * u.Msun))
    assert table["lower"].unit == truth["mass"].unit
    np.testing.assert_allclose(table["upper"].value, [10, 100, 400])
    assert table["n"].tolist() == [3, 3, 0]
    np.testing.assert_allclose(table["fraction"], [1 / 3, 1, np.nan])
    np.testing.assert_allclose(table["error"], [(2 / 9 / 3) ** 0.5, 0, np.nan])
    with pytest.raises(TypeError, match="edges must be a Quantity"):
        recovered_fraction(truth, "mass", [1, 10])
    with pytest.raises(u.UnitsError, match="edges must have a unit"):
        recovered_fraction(truth, "mass", [1, 10] * u.Myr)
