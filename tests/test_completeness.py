# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The artificial-cluster test: what is there is found, chance is told, and an interrupted run ends as if it had not been.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from photutils.detection import DAOStarFinder
from photutils.segmentation import SourceFinder

from clustercnn import ClusterInjector, __version__
from clustercnn.images import MultiBandImage
from clustercnn.instruments import Instrument
from clustercnn.parameters import Parameter, ParameterSpace
from clustercnn.plotting import plot_completeness
from clustercnn.psf import as_psf
from clustercnn.simulation import recovered_fraction
from clustercnn.survey import PhotutilsFinder, find_clusters

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
RATE = u.electron / u.s
DISTANCE = 4.5 * u.Mpc
WAVE = np.exp(-0.5 * (np.arange(-20, 21) / 4) ** 2)
PSF = dict.fromkeys(M83.bands, as_psf(np.outer(WAVE, WAVE)))  # small, hence fast
SMALL = ParameterSpace([
    Parameter("age", 10 * u.Myr, 50 * u.Myr), Parameter("a_v", 0 * u.mag, 1 * u.mag, "linear"),
    Parameter("mass", 1e3 * u.Msun, 5e3 * u.Msun), Parameter("half_light_radius", 0.05 * u.arcsec, 0.1 * u.arcsec),
])


def make_images(shape=(120, 110), level=0.01, **keywords):
    return MultiBandImage({band: CCDData(np.full(shape, level), unit=RATE, **keywords) for band in M83.bands})


def make_injector(images=None, **keywords):
    return ClusterInjector(make_images() if images is None else images, instrument=M83, psf=PSF, distance=DISTANCE, **keywords)


def nothing(images):
    """A finder, as photutils' are: None for nothing."""


def brightest(images):
    """A finder of all pixels that stand out."""
    y, x = np.nonzero(images["F814W"].data > 0.5)
    return QTable({"x_centroid": x.astype(float), "y_centroid": y.astype(float)})


def assert_same(one, other):
    assert one.colnames == other.colnames and len(one) == len(other)
    for name in one.colnames:
        if name == "sky_centroid":
            assert np.all(one[name].ra == other[name].ra) and np.all(one[name].dec == other[name].dec)
        else:
            np.testing.assert_array_equal(np.asarray(one[name]), np.asarray(other[name]), err_msg=name)
            assert one[name].unit == other[name].unit if hasattr(one[name], "unit") else True


@pytest.mark.parametrize(("share", "offset", "recovered"), [(1.0, 0.5, 8), (1.0, 5.0, 0), (0.0, 0.0, 0), (0.5, 0.5, 4)])
def test_recovered(monkeypatch, share, offset, recovered):
    """With finders that know where the clusters are, or miss them."""
    images, places = make_images((300, 300)), []
    inject = ClusterInjector.inject

    def remember(self, clusters, positions, *arguments, **keywords):
        places[:] = [positions]
        return inject(self, clusters, positions, *arguments, **keywords)

    def finder(seen):
        assert isinstance(seen, MultiBandImage) and seen.shape == (300, 300)
        if seen is images:
            return None
        found = places[0][: round(share * len(places[0]))]
        return QTable({"x_centroid": found[:, 0] + offset, "y_centroid": found[:, 1]})

    monkeypatch.setattr(ClusterInjector, "inject", remember)
    truth = make_injector(images).completeness(SMALL, 8, finder, n_per_image=4, rng=1, progress=False)
    assert len(truth) == 8 and truth["id"].tolist() == list(range(1, 9))
    assert truth["recovered"].dtype == bool and truth["recovered"].sum() == recovered and not truth["preexisting"].any()
    np.testing.assert_array_equal(images.to_array(), np.float32(0.01))
    xy = images.pixel_positions(truth)
    assert xy.min() >= -0.5 and xy.max() <= 299.5


def test_goes_on_until_all_are_injected():
    """Also with ages that lie half a step beyond the isochrones; the last image holds the rest."""
    calls = []

    def finder(images):
        calls.append(images)
        return QTable({"x_centroid": [], "y_centroid": []})

    space = ParameterSpace([Parameter("age", 10**6.58 * u.yr, 10**6.6 * u.yr), *SMALL.parameters[1:]])
    injector, keywords = make_injector(), {"n_per_image": 3, "rng": 2, "progress": False}
    truth = injector.completeness(space, 7, finder, **keywords)
    assert len(truth) == 7 and len(calls) == 4 and not truth["recovered"].any()  # once without clusters
    assert sum(images is injector.images for images in calls) == 1
    assert_same(injector.completeness(space, 7, finder, **keywords), truth)
    # the first ones do not depend on how many follow
    for shorter in (6, 4):
        assert_same(injector.completeness(space, shorter, finder, **keywords), truth[:shorter])


def test_distance_is_the_injectors():
    given = ClusterInjector(make_images(), instrument=M83, psf=PSF)
    truth = make_injector().completeness(SMALL, n=3, finder=nothing, rng=1, progress=False)
    assert len(truth) == 3 and not truth["recovered"].any()
    same = given.completeness(SMALL, n=3, finder=nothing, rng=1, progress=False, distance=DISTANCE)
    assert u.allclose(truth["F438W"], same["F438W"])
    with pytest.raises(ValueError, match="distance must be given .* here or to ClusterInjector"):
        given.completeness(SMALL, n=3, finder=nothing, progress=False)
    with pytest.raises(TypeError, match="distance must be a Quantity"):
        ClusterInjector(make_images(), instrument=M83, psf=PSF, distance=4.5)


@pytest.mark.parametrize(("prior", "finder", "message"), [
    (SMALL, DAOStarFinder(1, 2), r"finder must be a function of images, not a DAOStarFinder: wrap it, .*PhotutilsFinder\(DAOStarFinder"),
    (SMALL, SourceFinder(5, progress_bar=False), r"wrap it, clustercnn.survey.PhotutilsFinder\(SourceFinder"),
    (SMALL, None, "finder must be a function of images, such as clustercnn.survey.find_clusters, not a NoneType"),
    (SMALL.sample(3, rng=1), nothing, r"prior must be a ParameterSpace, such as ParameterSpace.paper\(\), not a QTable; .* by inject"),
])
def test_what_only_others_take(prior, finder, message):
    with pytest.raises(TypeError, match=message):
        make_injector().completeness(prior, 3, finder, progress=False)


@pytest.mark.filterwarnings("ignore:No sources were found")  # in the field without clusters
def test_finders_of_photutils_in_their_wrapper():
    images = MultiBandImage({band: np.random.default_rng(8).normal(0.01, 0.01, (120, 110)).astype(np.float32) * RATE for band in M83.bands})
    truth = make_injector(images).completeness(SMALL, 3, PhotutilsFinder(DAOStarFinder(20, 2.5)), rng=1, progress=False)
    assert truth["recovered"].any() and not truth["preexisting"].any()


def test_priors_of_the_distance():
    """Each cluster has its own, whatever the injector says."""
    space = ParameterSpace([*SMALL.parameters, Parameter("distance", 20 * u.Mpc, 30 * u.Mpc)])
    truth = make_injector().completeness(space, 4, nothing, n_per_image=2, rng=1, progress=False)
    assert np.all(truth["distance"] >= 20 * u.Mpc) and len(np.unique(truth["distance"])) == 4 and "distance" not in truth.meta


def test_provenance(tmp_path):
    """That of the whole test, not of an image; also in a table that was broken off."""
    path, keywords = tmp_path / "test.ecsv", {"n_per_image": 3, "rng": 4, "progress": False}
    expected = {"creator": f"clustercnn {__version__}", "distance": "4.5 Mpc", "seed": "4"}
    assert make_injector().completeness(SMALL, 5, nothing, **keywords).meta == expected
    for n in (4, 5, 5):
        truth = make_injector().completeness(SMALL, n, nothing, checkpoint=path, **keywords)
        assert truth.meta == expected and truth["id"].tolist() == list(range(1, n + 1))
    assert QTable.read(path).meta.items() >= expected.items()


def test_numbers_below_one():
    for keywords in ({"n": 0}, {"n": 3, "n_per_image": 0}):
        with pytest.raises(ValueError, match="n and n_per_image must be at least 1"):
            make_injector().completeness(SMALL, finder=nothing, progress=False, **keywords)


def test_what_was_there_before():
    """A finder that finds everywhere recovers all, and the table says what that is worth."""
    y, x = np.mgrid[:120:2, :110:2]
    everywhere = QTable({"x_centroid": x.ravel().astype(float), "y_centroid": y.ravel().astype(float)})
    truth = make_injector().completeness(SMALL, 5, lambda images: everywhere, rng=1, progress=False)
    assert truth["recovered"].all() and truth["preexisting"].all()


def test_clusters_keep_to_good_pixels_and_know_their_background():
    mask = np.zeros((120, 110), dtype=bool)
    mask[:, :50] = True
    images = make_images(mask=mask)
    for band, level in zip(M83.bands, (0.01, 0.02, 0.03), strict=True):
        images[band].data[60:, 50:] = level
        images[band].data[:10] = 0.0  # beyond the exposures
    truth = make_injector(images).completeness(SMALL, 60, nothing, rng=3, progress=False)
    x, y = truth["x_centroid"], truth["y_centroid"]
    assert 49.5 <= x.min() < 53 and x.max() > 106 and 9.5 <= y.min() < 18
    deep = y > 76
    for band, level in zip(M83.bands, (0.01, 0.02, 0.03), strict=True):
        background = truth[f"background_{band}"]
        assert background.unit == RATE and u.allclose(background[deep], level * RATE)
        assert u.allclose(background[(y < 44) & (y > 26)], 0.01 * RATE)
    with pytest.raises(ValueError, match="no whole and unmasked place in the mosaic"):
        make_injector(make_images(mask=np.ones((120, 110), dtype=bool))).completeness(SMALL, 3, nothing, progress=False)


def make_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 204.25, -29.87
    wcs.wcs.crpix = 40, 50
    wcs.wcs.cdelt = -0.04 / 3600, 0.04 / 3600
    return wcs


@pytest.mark.parametrize("stops", [[1], [2, 1, 3]])
def test_interrupted_runs_go_on(tmp_path, stops):
    """Whenever it breaks, the table is identical in the end, and no image is done twice."""
    path, injector = tmp_path / "test.ecsv", make_injector(make_images(wcs=make_wcs()))
    keywords = {"n": 20, "n_per_image": 3, "rng": 4, "progress": False}
    whole = injector.completeness(SMALL, finder=brightest, **keywords)
    assert 0 < whole["recovered"].sum()
    calls = []

    def breaking(images):
        if images is not injector.images:
            calls.append(images)
            if len(calls) in np.cumsum(stops):
                raise KeyboardInterrupt
        return brightest(images)

    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            injector.completeness(SMALL, finder=breaking, checkpoint=path, **keywords)
    assert_same(injector.completeness(SMALL, finder=breaking, checkpoint=path, **keywords), whole)
    assert len(calls) == 7 + len(stops)
    assert [file.name for file in tmp_path.iterdir()] == ["test.ecsv"]
    assert_same(injector.completeness(SMALL, finder=breaking, checkpoint=path, **keywords), whole)  # nothing is left to do
    assert len(calls) == 7 + len(stops)


def test_a_finished_run_may_be_extended(tmp_path):
    path, keywords = tmp_path / "test.ecsv", {"finder": brightest, "n_per_image": 3, "rng": 4, "progress": False}
    injector = make_injector()
    whole = injector.completeness(SMALL, n=8, **keywords)
    for n in (4, 8):
        assert_same(injector.completeness(SMALL, n=n, checkpoint=path, **keywords), whole[:n])
    with pytest.raises(ValueError, match="n must be at least the 8 clusters that .* holds already, not 5"):
        injector.completeness(SMALL, n=5, checkpoint=path, **keywords)


@pytest.mark.parametrize("change", [{"rng": 5}, {"n_per_image": 4}, {"tolerance": 3 * u.pix}, {"distance": 5 * u.Mpc}])
def test_checkpoints_of_another_test(tmp_path, change):
    path, keywords = tmp_path / "test.ecsv", {"n": 3, "finder": nothing, "n_per_image": 3, "rng": 4, "progress": False}
    make_injector().completeness(SMALL, checkpoint=path, **keywords)
    with pytest.raises(ValueError, match="belongs to a test with other settings, images, PSF or seed"):
        make_injector().completeness(SMALL, checkpoint=path, **{**keywords, **change})


def test_checkpoints_of_other_images_another_psf_or_other_dust(tmp_path):
    path, keywords = tmp_path / "test.ecsv", {"n": 3, "finder": nothing, "n_per_image": 3, "rng": 4, "progress": False}
    make_injector().completeness(SMALL, checkpoint=path, **keywords)
    builtin = ClusterInjector(make_images(), instrument=M83, distance=DISTANCE)
    for other in (make_injector(make_images(level=0.02)), builtin, make_injector(extinction_law="G03_SMCBar")):
        with pytest.raises(ValueError, match="belongs to a test with other settings, images, PSF or seed"):
            other.completeness(SMALL, checkpoint=path, **keywords)


@pytest.mark.filterwarnings("ignore:no candidate above")  # in the field without clusters
def test_heavier_clusters_are_found_more_often():
    """With the finder of the package, on a noisy field."""
    rng = np.random.default_rng(8)
    images = MultiBandImage({band: rng.normal(0.01, 0.01, (400, 400)).astype(np.float32) * RATE for band in M83.bands})
    space = ParameterSpace([
        Parameter("age", 10 * u.Myr, 100 * u.Myr), Parameter("a_v", 0 * u.mag, 3 * u.mag, "linear"),
        Parameter("mass", 30 * u.Msun, 1e4 * u.Msun), Parameter("half_light_radius", 0.05 * u.arcsec, 0.4 * u.arcsec),
    ])
    truth = make_injector(images).completeness(space, 160, find_clusters, n_per_image=40, rng=1, progress=False)
    mass = recovered_fraction(truth, "mass", np.geomspace(30, 1e4, 4) * u.Msun)
    assert mass["fraction_hi"][0] < mass["fraction_lo"][1] and mass["fraction_hi"][1] < mass["fraction_lo"][2]
    assert mass["fraction"][0] < 0.3 and mass["fraction"][2] > 0.6, mass
    dust = recovered_fraction(truth, "a_v", [0, 1, 2, 3] * u.mag)
    assert dust["fraction"][0] > dust["fraction"][2]
    axes = plot_completeness({"mass": mass, "a_v": dust})
    axes[0].figure.canvas.draw()


def test_recovered_fraction():
    truth = QTable({"mass": [1, 2, 3, 20, 30, 40, 500] * u.Msun, "recovered": [True, False, False, True, True, True, True]})
    table = recovered_fraction(truth, "mass", [1e-3, 1e-2, 0.1, 0.4] * (1e3 * u.Msun))
    assert table["lower"].unit == truth["mass"].unit
    np.testing.assert_allclose(table["upper"].value, [10, 100, 400])
    assert table["n"].tolist() == [3, 3, 0]
    np.testing.assert_allclose(table["fraction"], [1 / 3, 1, np.nan])
    np.testing.assert_allclose(table["error"], [(2 / 9 / 3) ** 0.5, 0, np.nan])
    # three of three is no proof of all
    assert np.all((0 < table["fraction_lo"][:2]) & (table["fraction_lo"][:2] < table["fraction"][:2]))
    assert 0.6 < table["fraction_lo"][1] < 0.8 and table["fraction_hi"][1] <= 1 and np.isnan(table["fraction_hi"][2])
    truth["mass"] = Masked(truth["mass"], mask=[True, *[False] * 6])
    assert recovered_fraction(truth, "mass", [1, 10] * u.Msun)["n"].tolist() == [2]
    with pytest.raises(TypeError, match="edges must be a Quantity"):
        recovered_fraction(truth, "mass", [1, 10])
    with pytest.raises(u.UnitsError, match="edges must have a unit"):
        recovered_fraction(truth, "mass", [1, 10] * u.Myr)
    with pytest.raises(ValueError, match="edges must be two or more ascending numbers"):
        recovered_fraction(truth, "mass", [10, 1] * u.Msun)


def test_binomial_intervals_cover():
    """68 % of the time, on average over the true fraction."""
    rng = np.random.default_rng(1)
    fraction = rng.random(400)
    index = np.repeat(np.arange(400), 25)
    truth = QTable({"mass": index * u.Msun, "recovered": rng.random(len(index)) < fraction[index]})
    curve = recovered_fraction(truth, "mass", (np.arange(401) - 0.5) * u.Msun)
    covered = (curve["fraction_lo"] <= fraction) & (fraction <= curve["fraction_hi"])
    assert np.mean(covered) == pytest.approx(0.683, abs=0.07)


def test_another_psf_is_another_test(tmp_path):
    images = MultiBandImage.from_arrays(M83.bands, np.ones((3, 60, 60), np.float32), u.electron / u.s)
    data = np.exp(-0.5 * (np.arange(-20, 21) / 4) ** 2)
    prior = ParameterSpace.paper()

    def run(oversampling):
        psf = dict.fromkeys(M83.bands, as_psf(np.outer(data, data), oversampling))
        injector = ClusterInjector(images, instrument=M83, distance=4.5 * u.Mpc, psf=psf)
        return injector.completeness(prior, 2, lambda images: None, n_per_image=np.int64(1), rng=1, checkpoint=tmp_path / "c.ecsv", progress=False)

    assert len(run(4)) == len(run(4)) == 2
    with pytest.raises(ValueError, match="belongs to a test with other settings, images, PSF or seed"):
        run(2)


def test_recovered_fraction_of_other_tables():
    with pytest.raises(ValueError, match=r"truth must be a table of artificial_cluster_test with a column 'mass', but lacks \['recovered'\]"):
        recovered_fraction(QTable({"mass": [1, 2] * u.Msun}), "mass", [0, 3] * u.Msun)


def test_recovered_fraction_along_columns_without_units():
    truth = QTable({"x_centroid": [5.0, 15.0, 16.0], "recovered": [True, False, True]})
    for edges in ([0, 10, 20], [0, 10, 20] * u.pix):
        assert recovered_fraction(truth, "x_centroid", edges)["fraction"].tolist() == [1.0, 0.5]
    with pytest.raises(ValueError, match="name must be a column of the truth"):
        recovered_fraction(truth, "colour", [0, 1])
