# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Artificial clusters in images: their light and noise arrive whole, everything else stays as it was.
"""

import hashlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, NDData, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS
from fake_net import Net
from photutils.psf import GriddedPSFModel

from clustercnn import ClusterInjector, SyntheticCluster, __version__
from clustercnn.images import MultiBandImage
from clustercnn.instruments import Instrument
from clustercnn.parameters import Parameter, ParameterSpace
from clustercnn.psf import as_psf, builtin_psf
from clustercnn.simulation import InjectionResult, Renderer
from clustercnn.simulation.injection import FURTHER_COLUMNS, UNREAD_COLUMNS
from clustercnn.simulation.scenes import PARAMETERS
from clustercnn.stellar import band_extinction
from clustercnn.survey import make_catalog

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


@pytest.mark.parametrize(("kind", "unit", "level"), [
    (StdDevUncertainty, None, 0.04), (StdDevUncertainty, 1e3 * RATE, 4e-5), (VarianceUncertainty, None, 0.04**2),
    (VarianceUncertainty, (u.electron / u.min) ** 2, (60 * 0.04) ** 2), (InverseVariance, None, 0.04**-2),
])
def test_uncertainty_grows_by_the_photons(kind, unit, level):
    """It stays what it was, standard deviation or else, in its own unit."""
    images = make_images(uncertainty=kind(np.full((120, 110), level), unit=None if unit is None else u.Unit(unit)))
    cluster = make_cluster(mass=2e4 * u.Msun)
    result = ClusterInjector(images, instrument=M83, psf=PSF).inject([cluster], [(50.2, 60)], rng=1)
    rendered = cluster.render(M83, (120, 110), psf=PSF, position=(50.2, 60)).to_array().clip(0)
    for i, band in enumerate(M83.bands):
        uncertainty = result.images[band].uncertainty
        assert type(uncertainty) is kind and uncertainty.unit == images[band].uncertainty.unit
        sigma = uncertainty.represent_as(StdDevUncertainty).quantity.to_value(RATE)
        np.testing.assert_allclose(sigma, np.sqrt(0.04**2 + rendered[i] / EXPOSURE[i]), rtol=1e-4)


def test_pixels_without_information_stay_so():
    """An inverse variance of 0, an infinite variance."""
    for kind, value in [(InverseVariance, 0.0), (VarianceUncertainty, np.inf)]:
        images = make_images(uncertainty=kind(np.full((120, 110), value)))
        result = ClusterInjector(images, instrument=M83, psf=PSF).inject([make_cluster()], [(50, 60)], rng=1)
        assert np.all(result.images["F438W"].uncertainty.array == value)


def test_uncertainties_that_say_nothing():
    images = make_images(uncertainty=UnknownUncertainty(np.ones((120, 110))))
    with pytest.raises(TypeError, match="uncertainties of the kind UnknownUncertainty cannot grow by photon noise; give StdDev"):
        ClusterInjector(images, instrument=M83, psf=PSF).inject([make_cluster()], [(50, 60)])


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


def test_headers_that_contradict_the_instrument():
    images = make_images()
    images["F438W"].meta["EXPTIME"] = 600.0
    with pytest.warns(AstropyUserWarning, match="EXPTIME of F438W is 600 s, not 1880 s"):
        ClusterInjector(images, instrument=M83)


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
    assert isinstance(truth, QTable) and truth["id"].tolist() == [1, 2]
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
    with pytest.warns(AstropyUserWarning, match=r"^1 of 1 clusters leave no light on the image of 110 x 120 pixels: .* number 0 at \(5000"):
        result = ClusterInjector(images, instrument=M83, psf=PSF).inject([make_cluster()], [(5000, -300)], rng=3)
    np.testing.assert_array_equal(result.images.to_array(), images.to_array())
    assert len(result.truth) == 1


def test_clusters_of_another_field():
    """Positions near the image, over its edge too, are not counted."""
    injector = ClusterInjector(make_images(wcs=make_wcs()), instrument=M83, psf=PSF)
    sky = make_wcs().pixel_to_world([50, 9000, -2, 50], [60, 60, 60, -4000])
    with pytest.warns(AstropyUserWarning, match=r"^2 of 4 clusters leave no light .* such as number 1 at \(9000.0, 60.0\)"):
        injector.inject([make_cluster()] * 4, sky, rng=3)


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
    """Images keep theirs; so do their uncertainties."""
    cluster = make_cluster()
    reference = ClusterInjector(make_images(), instrument=M83, psf=PSF).inject([cluster], [(50, 60)], rng=4).images.to_array()
    unit_per_rate = {u.electron: EXPOSURE, u.adu: EXPOSURE / M83.gain("F438W").value, 1e-3 * RATE: [1e3] * 3}
    for unit, factor in unit_per_rate.items():
        images = MultiBandImage({
            band: CCDData(np.full((120, 110), 0.01 * f), unit=unit, uncertainty=StdDevUncertainty(np.full((120, 110), 0.04 * f)))
            for band, f in zip(M83.bands, factor, strict=True)
        })
        result = ClusterInjector(images, instrument=M83, psf=PSF).inject([cluster], [(50, 60)], rng=4)
        assert result.images.unit == unit
        np.testing.assert_allclose(result.images.to_array() / np.reshape(factor, (3, 1, 1)), reference, rtol=1e-5)
        for band, f in zip(M83.bands, factor, strict=True):
            sigma = result.images[band].uncertainty.array / f
            assert sigma[0, 0] == pytest.approx(0.04) and sigma.max() > 0.05


@pytest.mark.parametrize(("kind", "result_kind"), [(">f4", "<f4"), ("<f8", "<f8"), ("int16", "<f4")])
def test_kinds_of_numbers(kind, result_kind):
    """Whole numbers become floats, others keep their width, in the byte order of the machine."""
    images = MultiBandImage({band: CCDData(np.full((60, 60), 3, dtype=kind), unit=u.electron) for band in M83.bands})
    pixels = ClusterInjector(images, instrument=M83, psf=PSF).inject([make_cluster()], [(30, 30)], rng=1).images["F814W"].data
    assert pixels.dtype == np.dtype(result_kind) and pixels.dtype.isnative
    added = pixels.astype(float) - 3  # electrons are whole
    np.testing.assert_allclose(added, np.rint(added), atol=1e-3)
    assert added.sum() == pytest.approx(expected_flux(make_cluster())[2] * EXPOSURE[2], rel=0.02)


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
    table["age"] = table["age"].value
    with pytest.raises(TypeError, match="age must be a Quantity"):
        injector.inject(table, [(30, 40), (70, 80), (20, 90)], distance=DISTANCE)


def shaped_table():
    """Two wide clusters that are more than their four parameters, with what a survey would know of them besides."""
    return QTable({
        "name": ["NGC 1", "NGC 2"], "id": [7, 3], "age": [20, 30] * u.Myr, "a_v": [0.1, 0.2] * u.mag, "mass": [3e4, 2e4] * u.Msun,
        "half_light_radius": [0.3, 0.3] * u.arcsec, "metallicity": [0.1, 0.0], "profile": ["plummer", "king"], "gamma": [2.6, 2.6],
        "ellipticity": [0.8, 0.5], "position_angle": [90, 20] * u.deg, "F438W": [1, 2] * u.mag, "x_centroid": [1.0, 2.0],
        "saturated": [True, True], "sky_centroid": SkyCoord([1, 2] * u.deg, [3, 4] * u.deg),
    })


def test_columns_come_along():
    """All that the table says but what the truth says itself."""
    table = shaped_table()
    truth = ClusterInjector(make_images((300, 300)), instrument=M83, psf=PSF, distance=DISTANCE).inject(table, [(80, 90), (200, 210)], 1).truth
    made = ["id", "x_centroid", "y_centroid", "age", "a_v", "mass", "half_light_radius", *M83.bands]
    assert truth.colnames == [*made, "name", "metallicity", "profile", "gamma", "ellipticity", "position_angle"]
    for name in truth.colnames:
        if name not in made or name == "id":
            np.testing.assert_array_equal(truth[name], table[name])
    assert truth["x_centroid"].tolist() == [80, 200] and np.all(truth["F438W"] > 10 * u.mag)
    truth["name"][0] = "M 83"
    assert table["name"][0] == "NGC 1" and len(table.colnames) == 15


@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
@pytest.mark.parametrize("kind", [Table, QTable])
def test_a_truth_is_a_table_of_clusters_at_their_positions(tmp_path, suffix, kind):
    """From a file too, of which Table.read makes a plain table: the same elongated clusters once more."""
    images = make_images((300, 300), level=0.0, wcs=make_wcs())
    injector = ClusterInjector(images, instrument=M83, psf=PSF, distance=DISTANCE)
    truth = injector.inject(shaped_table(), [(80, 90), (200, 210)], rng=1).truth
    truth.write(tmp_path / f"truth.{suffix}")
    read = kind.read(tmp_path / f"truth.{suffix}")
    again = injector.inject(read, read, rng=2)
    assert again.truth.colnames == truth.colnames and set(read.colnames) == set(truth.colnames)
    np.testing.assert_allclose(images.pixel_positions(again.truth), images.pixel_positions(truth))
    for name in ("id", "name", "profile", "ellipticity", "position_angle", "metallicity"):
        assert np.all(again.truth[name] == truth[name])
    light = again.images.to_array().astype(float).sum(axis=0)[40:140, 30:130]
    y, x = np.indices(light.shape) - 50
    assert np.average(y**2, weights=light) > 4 * np.average(x**2, weights=light)  # along y, as the first of the table
    again.truth.write(tmp_path / f"again.{suffix}")
    # a catalogue of the same sources
    catalog = make_catalog(again.images, Net(), positions=again.truth)
    assert catalog["id"].tolist() == [7, 3] and catalog["name"].tolist() == ["NGC 1", "NGC 2"]


def test_a_truth_is_a_list_of_positions():
    injector = ClusterInjector(make_images(wcs=make_wcs()), instrument=M83, psf=PSF, distance=DISTANCE)
    result = injector.inject(SMALL, [(30, 40), (70, 80)], rng=1)
    assert make_catalog(result.images, Net(), positions=result.truth)["id"].tolist() == [1, 2]
    assert injector.inject(SMALL, result.truth, rng=2).truth["id"].tolist() == [1, 2]


def test_plain_tables_of_positions():
    injector = ClusterInjector(make_images(wcs=make_wcs()), instrument=M83, psf=PSF)
    sky = make_wcs().pixel_to_world([30.3], [80.9])
    for table in (Table({"x_centroid": [30.3] * u.pix, "y_centroid": [80.9] * u.pix}), Table({"ra": sky.ra, "dec": sky.dec})):
        truth = injector.inject([make_cluster()], Table(table), rng=1).truth
        np.testing.assert_allclose([truth["x_centroid"][0], truth["y_centroid"][0]], [30.3, 80.9], atol=1e-6)


@pytest.mark.parametrize("ids", [[0, 1], [2, 2], [1.0, 2.0], ["a", "b"], np.ma.array([1, 2], mask=[False, True])])
def test_ids_that_tell_nothing_apart(ids):
    table = SMALL.sample(2, rng=2)
    table["id"] = ids
    with pytest.raises(ValueError, match="id of clusters must be different whole numbers from 1 on; rename or remove the column"):
        ClusterInjector(make_images(), instrument=M83, psf=PSF, distance=DISTANCE).inject(table, [(30, 40), (70, 80)])


def test_every_parameter_of_a_cluster_is_read_or_refused():
    parameters = set(inspect.signature(SyntheticCluster).parameters)
    assert parameters == {*PARAMETERS, *FURTHER_COLUMNS, *UNREAD_COLUMNS}
    injector, table = ClusterInjector(make_images(), instrument=M83, psf=PSF, distance=DISTANCE), SMALL.sample(1, rng=2)
    for name in UNREAD_COLUMNS:
        with pytest.raises(ValueError, match=rf"clusters have the columns \['{name}'\], .*: rename or remove them, or pass a list of Syn"):
            injector.inject(QTable({**table, name: ["any"]}), [(30, 40)])


@pytest.mark.parametrize("further", [
    {"foreground_a_v": 0.7 * u.mag}, {"distance": 9 * u.Mpc}, {"r_v": 5.0, "extinction_law": "CCM89", "foreground_law": "G23"},
    {"imf": "salpeter"}, {"a_v_spread": 0.5 * u.mag}, {"extinction": "integrated"}, {"binary_fraction": 1.0, "mass_ratio": 0.9},
])
def test_parameters_of_a_table_are_those_of_its_clusters(further):
    """Magnitudes are what SyntheticCluster has with the same parameters and random numbers."""
    values = {"age": 20 * u.Myr, "a_v": 1 * u.mag, "mass": 5e3 * u.Msun, "half_light_radius": 0.08 * u.arcsec, **further}
    table = QTable({name: value[None] if isinstance(value, u.Quantity) else [value] for name, value in values.items()})
    keywords = {} if "distance" in further else {"distance": DISTANCE}
    injector = ClusterInjector(make_images(), instrument=M83, psf=PSF)
    truth = injector.inject(table, [(50, 60)], rng=3, **keywords).truth
    cluster = SyntheticCluster(**values, **keywords, rng=np.random.default_rng(3))
    plain = SyntheticCluster(**{name: values[name] for name in PARAMETERS}, distance=DISTANCE, rng=np.random.default_rng(3))
    assert truth["F336W"][0] == cluster.magnitude("F336W") != plain.magnitude("F336W")
    assert all(truth[name][0] == value for name, value in further.items())


def test_dust_of_another_law():
    """Clusters that are drawn have the injector's, unless the table says another."""
    table = QTable({"age": [20, 20] * u.Myr, "a_v": [1, 1] * u.mag, "mass": [5e3, 5e3] * u.Msun, "half_light_radius": [0.08, 0.08] * u.arcsec})
    named = QTable({**table, "extinction_law": ["F99", "G23"]})
    keywords = {"instrument": M83, "psf": PSF, "distance": DISTANCE}
    plain, foreign = ClusterInjector(make_images(), **keywords), ClusterInjector(make_images(), **keywords, extinction_law="G03_SMCBar")
    one, other, own = (
        injector.inject(clusters, [(50, 60), (60, 50)], rng=3).truth for injector, clusters in ((plain, table), (foreign, table), (foreign, named))
    )
    for i, band in enumerate(M83.bands):
        smc, galactic, gordon = (band_extinction(M83.passbands, law=law)[i] * u.mag for law in ("G03_SMCBar", "F99", "G23"))
        assert u.allclose(other[band] - one[band], smc - galactic)
        assert u.allclose(own[band] - one[band], u.Quantity([0 * u.mag, gordon - galactic]))
    again = plain.inject(other, [(50, 60), (60, 50)], rng=3).truth  # a truth tells its law
    assert u.allclose(again["F336W"], other["F336W"]) and "extinction_law" not in one.colnames
    with pytest.raises(ValueError, match="law is 'F09'"):
        ClusterInjector(make_images(), **keywords, extinction_law="F09")


def test_red_bands_take_the_law_that_reaches_them():
    red = Instrument.from_name("JWST/NIRCam/LW", bands=("F277W", "F444W"), exposure=1000 * u.s, read_noise=10 * u.electron)
    keywords = {"instrument": red, "psf": dict.fromkeys(red.bands, PSF["F336W"]), "distance": DISTANCE}
    images = MultiBandImage.from_arrays(red.bands, np.zeros((2, 60, 60)), RATE)
    with pytest.raises(ValueError, match="NIRCAM_F444W lies outside F99.*extinction_law='G23'"):
        ClusterInjector(images, **keywords).inject(SMALL, [(30, 30)], rng=1)
    truth = ClusterInjector(images, **keywords, extinction_law="G23").inject(SMALL, [(30, 30)], rng=1).truth
    assert np.isfinite(truth["F444W"][0])


def test_boxes_have_few_sizes(monkeypatch):
    """Since renderers are kept, which see what fresh ones of just the needed size see; but not where each place has a PSF of its own."""
    cluster, fresh = make_cluster(mass=500 * u.Msun), Renderer(list(PSF.values()), (45, 45))
    x, y = (20.3 + cluster.stars[name].value / 0.04 for name in "xy")
    rate = np.array([10 ** (0.4 * (M83.zero_point(band).value - cluster.star_magnitudes(band))) for band in M83.bands])
    expected = fresh(*map(torch.from_numpy, (x, y, rate)), torch.zeros(len(x), dtype=torch.int64), 1)[0].numpy()
    wide = [cluster.rates(M83, (64, 64), PSF, (20.3, 20.3)) for _ in range(2)]
    np.testing.assert_array_equal(*wide)
    assert np.abs(wide[0][:, :45, :45] - expected).max() < 1e-3 * expected.max()
    shapes, rates = [], SyntheticCluster.rates
    monkeypatch.setattr(SyntheticCluster, "rates", lambda self, *given: shapes.append(given[1]) or rates(self, *given))
    corners = NDData(np.array([PSF["F336W"].data] * 4), meta={"grid_xypos": [(0, 0), (110, 0), (0, 120), (110, 120)], "oversampling": 4})
    for psf in (PSF, {**PSF, "F814W": GriddedPSFModel(corners)}):
        ClusterInjector(make_images(), instrument=M83, psf=psf).inject([make_cluster(i) for i in range(4)], [(50, 60)] * 4, rng=1)
    assert all(side % 32 == 0 for side, _ in shapes[:4]) and any(side % 32 for side, _ in shapes[4:])


def test_one_distance_alone():
    table = QTable({**SMALL.sample(2, rng=2), "distance": [4, 5] * u.Mpc})
    injector = ClusterInjector(make_images(), instrument=M83, psf=PSF, distance=DISTANCE)
    with pytest.raises(ValueError, match="distance must be given once, but clusters have a column distance too"):
        injector.inject(table, [(30, 40), (70, 80)], distance=DISTANCE)
    truth = injector.inject(table, [(30, 40), (70, 80)]).truth
    assert u.allclose(truth["distance"], table["distance"]) and "distance" not in truth.meta


def test_masked_parameters():
    """Refused; columns that could be masked and are not do no harm."""
    injector = ClusterInjector(make_images(), instrument=M83, psf=PSF, distance=DISTANCE)
    table = Table(SMALL.sample(2, rng=2), masked=True)
    assert u.allclose(injector.inject(table, [(30, 40), (70, 80)], rng=1).truth["age"], table["age"].quantity)
    table["age"].mask[1] = True
    with pytest.raises(ValueError, match="clusters must not be masked, but age is in row 1"):
        injector.inject(table, [(30, 40), (70, 80)], rng=1)


@pytest.mark.parametrize(("clusters", "message"), [
    (make_cluster(), r"not a SyntheticCluster: make it a list, \[cluster\]"),
    (SMALL.sample(1, rng=1)[0], r"not a Row: take a slice of the table, such as table\[:1\]"),
    (dict(SMALL.sample(1, rng=1)), "not a dict: make it a QTable"), (None, "not a NoneType"), (["NGC 1"], "but number 0 is a str"),
])
def test_what_are_no_clusters(clusters, message):
    with pytest.raises(TypeError, match=f"^clusters must be .*, a table or a ParameterSpace, {message}"):
        ClusterInjector(make_images(), instrument=M83, psf=PSF, distance=DISTANCE).inject(clusters, [(30, 40)])


def test_provenance():
    injector, creator = ClusterInjector(make_images(), instrument=M83, psf=PSF, distance=4500 * u.kpc), f"clustercnn {__version__}"
    for rng in (5, np.random.SeedSequence(5), np.random.default_rng(5)):
        assert injector.inject(SMALL, [(30, 40)], rng).truth.meta == {"creator": creator, "distance": "4.5 Mpc", "seed": "5"}
    first = injector.inject(SMALL, [(30, 40)])  # without a seed the one that the system gave tells the clusters
    assert injector.inject(SMALL, [(30, 40)], int(first.truth.meta["seed"])).truth["mass"] == first.truth["mass"]
    ready = [make_cluster(), SyntheticCluster(5e3 * u.Msun, 20 * u.Myr, 0.08 * u.arcsec, distance=9 * u.Mpc)]
    assert injector.inject(ready, [(30, 40), (70, 80)], 5).truth.meta == {"creator": creator, "seed": "5"}


def test_ages_at_the_ends_of_the_papers_space():
    """It reaches half a step beyond the isochrones: the nearest one stands in, and the truth says so."""
    table = QTable({
        "age": [10**6.58, 10**10.12] * u.yr, "a_v": [0, 0] * u.mag, "mass": [1e3, 1e3] * u.Msun, "half_light_radius": [0.1, 0.1] * u.arcsec,
    })
    truth = ClusterInjector(make_images(), instrument=M83, psf=PSF).inject(table, [(30, 40), (70, 80)], rng=1, distance=DISTANCE).truth
    np.testing.assert_allclose(np.log10(truth["age"].to_value(u.yr)), [6.6, 10.1])


@pytest.mark.parametrize("age", [1e5, 10**6.57, 10**10.13])
def test_ages_without_isochrones_are_refused(age):
    table = QTable({"age": [age] * u.yr, "a_v": [0] * u.mag, "mass": [1e3] * u.Msun, "half_light_radius": [0.1] * u.arcsec})
    with pytest.raises(ValueError, match="^age is .* Myr .* the isochrones reach from 3.98107 Myr .* to 12589.3 Myr"):
        ClusterInjector(make_images(), instrument=M83, psf=PSF).inject(table, [(30, 40)], distance=DISTANCE)


def test_tables_must_be_complete():
    table = SMALL.sample(1, rng=2)
    table.remove_columns(["a_v", "mass"])
    with pytest.raises(ValueError, match=r"clusters must have the columns .* but lack \['a_v', 'mass'\]"):
        ClusterInjector(make_images(), instrument=M83, psf=PSF).inject(table, [(30, 40)], distance=DISTANCE)


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


def test_clusters_from_a_prior():
    injector = ClusterInjector(make_images(), instrument=M83, psf=PSF, distance=DISTANCE)
    truth = injector.inject(SMALL, [(30, 40), (70, 80)], rng=1).truth
    assert len(truth) == 2 and np.all((truth["age"] >= 10 * u.Myr) & (truth["age"] <= 50 * u.Myr))
    assert u.allclose(injector.inject(SMALL, [(30, 40), (70, 80)], rng=1).truth["mass"], truth["mass"])


def test_tables_may_say_more():
    """The slope, the shape, the orientation of each cluster."""
    table = QTable({
        "age": [20] * u.Myr, "a_v": [0] * u.mag, "mass": [3e4] * u.Msun, "half_light_radius": [0.3] * u.arcsec,
        "profile": ["plummer"], "ellipticity": [0.8], "position_angle": [90] * u.deg,
    })
    injector = ClusterInjector(make_images((300, 300), level=0.0), instrument=M83, psf=PSF, distance=DISTANCE)
    light = injector.inject(table, [(150, 150)], rng=1).images.to_array().astype(float).sum(axis=0)
    y, x = np.indices(light.shape) - 150
    assert np.average(y**2, weights=light) > 4 * np.average(x**2, weights=light)


def test_images_of_any_kind(tmp_path):
    """NDData, CCDData, FITS files and MultiBandImage give the same."""
    pixels, cluster, results = np.full((60, 60), 0.01, dtype=np.float32), make_cluster(), []
    CCDData(pixels, unit=RATE).write(tmp_path / "band.fits")
    for image in (NDData(pixels, unit=RATE), CCDData(pixels, unit=RATE), pixels * RATE, str(tmp_path / "band.fits")):
        injector = ClusterInjector(dict.fromkeys(M83.bands, image), instrument=M83, psf=PSF)
        results.append(injector.inject([cluster], [(30, 30)], rng=1).images.to_array())
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_saturation():
    """Where a pixel rises above the limit, and only there; per exposure and per second are the same limit."""
    images, clusters = make_images(), [make_cluster(mass=1e5 * u.Msun), make_cluster(2, mass=300 * u.Msun)]
    injector, places = ClusterInjector(images, instrument=M83, psf=PSF), [(40, 40), (80, 90)]
    plain = injector.inject(clusters, places, rng=1)
    assert "saturated" not in plain.truth.colnames and plain.images["F438W"].mask is None
    limit = 900 * u.electron  # in one of three exposures
    result = injector.inject(clusters, places, rng=1, saturation=limit)
    assert result.truth["saturated"].tolist() == [True, False]
    for band in M83.bands:
        data = plain.images[band].data
        np.testing.assert_array_equal(result.images[band].data, data)
        in_one = (data + M83.sky(band).value) * M83.exposure(band).value / 3
        np.testing.assert_array_equal(result.images[band].mask, in_one > 900)
    assert result.images["F814W"].mask.any() and images["F814W"].mask is None
    rates = {band: limit * 3 / M83.exposure(band) for band in M83.bands}
    again = injector.inject(clusters, places, rng=1, saturation=rates)
    np.testing.assert_array_equal(again.images["F814W"].mask, result.images["F814W"].mask)


def test_saturated_before_is_not_the_clusters_fault():
    mask = np.zeros((120, 110), dtype=bool)
    mask[5, 6] = True
    images = make_images(level=10.0, mask=mask)
    injector = ClusterInjector(images, instrument=M83, psf=PSF)
    result = injector.inject([make_cluster()], [(50, 60)], rng=1, saturation=5 * RATE)
    assert result.truth["saturated"].tolist() == [False]
    np.testing.assert_array_equal(result.images["F814W"].mask, mask)
    assert result.images["F814W"].mask is not images["F814W"].mask


@pytest.mark.parametrize(("saturation", "error", "message"), [
    (70000, TypeError, "saturation must be a Quantity"), (5 * u.mag, u.UnitsError, "saturation must have a unit"),
    (-1 * RATE, ValueError, "saturation must be one positive number"),
    ({"F336W": 5 * RATE}, ValueError, r"saturation must have an entry for each band .* none for \['F438W', 'F814W'\]"),
])
def test_broken_limits(saturation, error, message):
    with pytest.raises(error, match=message):
        ClusterInjector(make_images(), instrument=M83, psf=PSF).inject([make_cluster()], [(5, 6)], saturation=saturation)


@pytest.fixture(name="mosaic", scope="module")
def fixture_mosaic(tmp_path_factory):
    """FITS files of three bands with noise, WCS, a hole, and uncertainties; read only."""
    folder, rng = tmp_path_factory.mktemp("mosaic"), np.random.default_rng(3)
    paths = {band: str(folder / f"{band}.fits") for band in M83.bands}
    for path in paths.values():
        pixels = rng.normal(0.01, 0.01, (120, 110)).astype(np.float32)
        pixels[:8, :9] = np.nan
        sigma = VarianceUncertainty(np.full((120, 110), 1e-4, dtype=np.float32))
        CCDData(pixels, unit=RATE, wcs=make_wcs(), mask=np.isnan(pixels), uncertainty=sigma, meta={"TARGNAME": "M83"}).write(path)
    return paths


def hashes(paths):
    return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths.values()]


@pytest.mark.parametrize("saturation", [None, 1 * RATE])
def test_on_disk_as_in_memory(mosaic, tmp_path, saturation):
    """Every pixel, mask, uncertainty and coordinate; and the files that came in are not touched."""
    before, injector = hashes(mosaic), ClusterInjector(mosaic, instrument=M83, psf=PSF, distance=DISTANCE)
    places, keywords = make_wcs().pixel_to_world([30.3, 100.1], [80.9, 115.5]), {"rng": 5, "saturation": saturation}
    table = SMALL.sample(2, rng=1)
    table["mass"][0] = 1e5 * u.Msun
    in_memory = injector.inject(table, places, **keywords)
    out = tmp_path / "with_clusters.fits"
    on_disk = injector.inject(table, places, out=out, **keywords)
    assert hashes(mosaic) == before and [path.name for path in tmp_path.iterdir()] == [out.name]
    assert str(on_disk.truth) == str(in_memory.truth)
    for images in (on_disk.images, MultiBandImage.read(out)):
        assert images.bands == M83.bands and images.unit == RATE and images["F438W"].meta["TARGNAME"] == "M83"
        assert images.wcs.pixel_to_world(3, 4).separation(make_wcs().pixel_to_world(3, 4)) < 1e-6 * u.arcsec
        for band in M83.bands:
            for name in ("data", "mask"):
                np.testing.assert_array_equal(getattr(images[band], name), getattr(in_memory.images[band], name))
            assert isinstance(images[band].uncertainty, VarianceUncertainty)
            np.testing.assert_array_equal(images[band].uncertainty.array, in_memory.images[band].uncertainty.array)
    if saturation is not None:
        assert in_memory.truth["saturated"][0] and in_memory.images["F814W"].mask.sum() > 72
    with fits.open(out, checksum=True) as hdus:
        hdus.verify("exception")


class Broken(SyntheticCluster):
    """A cluster that cannot be rendered."""

    def rates(self, *_):
        return 1 / 0


def test_files_appear_whole_or_not_at_all(mosaic, tmp_path):
    out = tmp_path / "with_clusters.fits"
    injector = ClusterInjector(mosaic, instrument=M83, psf=PSF)
    with pytest.raises(ZeroDivisionError):  # in the middle
        injector.inject([make_cluster(), Broken(5e3 * u.Msun, 20 * u.Myr, 0.08 * u.arcsec, distance=DISTANCE)], [(30, 30), (60, 60)], out=out)
    assert not list(tmp_path.iterdir())
    injector.inject([make_cluster()], [(30, 30)], out=out)
    first = out.read_bytes()
    with pytest.raises(OSError, match="exists; pass overwrite=True"):
        injector.inject([make_cluster()], [(60, 60)], out=out)
    assert out.read_bytes() == first
    injector.inject([make_cluster()], [(60, 60)], out=out, overwrite=True)
    assert out.read_bytes() != first
    whole = MultiBandImage({band: CCDData(np.ones((60, 60), dtype="int16"), unit=u.adu) for band in M83.bands})
    with pytest.raises(ValueError, match="images must hold floats to be written with clusters, but F336W holds int16"):
        ClusterInjector(whole, instrument=M83, psf=PSF).inject([make_cluster()], [(30, 30)], out=tmp_path / "whole.fits")


BIG = """
import resource, sys
import numpy as np
from astropy import units as u
from clustercnn import ClusterInjector, SyntheticCluster
from clustercnn.instruments import Instrument
m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
cluster = SyntheticCluster(1e3 * u.Msun, 20 * u.Myr, 0.05 * u.arcsec, distance=4.5 * u.Mpc, rng=1)
injector = ClusterInjector({band: sys.argv[1] for band in m83.bands}, instrument=m83)
cluster.render(m83, (200, 200))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
limit = 70_000 * u.electron if sys.argv[3] == "saturation" else None
injector.inject([cluster] * 5, np.random.default_rng(1).random((5, 2)) * 4000, 1, saturation=limit, out=sys.argv[2])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in the units of Linux")
@pytest.mark.parametrize("way", ["plain", "saturation"])
def test_mosaics_on_disk_stay_there(tmp_path, way):
    """No more memory than the mapped pages of the input: 12 bytes per pixel, 3.2 GB for 16,384 x 16,384."""
    fits.PrimaryHDU(np.zeros((4000, 4000), dtype=np.float32), fits.Header({"BUNIT": "electron/s"})).writeto(tmp_path / "in.fits")
    command = [sys.executable, "-c", BIG, str(tmp_path / "in.fits"), str(tmp_path / "out.fits"), way]
    grown = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 3 * 4 * 4000**2 / 2**20 * 1.1 + 64  # in memory it would be twice as much


def test_no_compressed_output(tmp_path):
    # clusters are written into the file in place: into compressed bytes they would be lost
    images = MultiBandImage.from_arrays(M83.bands, np.zeros((3, 60, 60), np.float32), RATE)
    path = tmp_path / "clusters.fits.gz"
    path.write_text("old")
    cluster = SyntheticCluster(1e3 * u.Msun, 20 * u.Myr, 0.1 * u.arcsec, distance=DISTANCE, rng=1)
    with pytest.raises(ValueError, match="out must be a plain FITS file, such as clusters.fits, not 'clusters.fits.gz'"):
        ClusterInjector(images, instrument=M83, psf=PSF).inject([cluster], [(30, 30)], out=path, overwrite=True)
    assert path.read_text() == "old"


def test_half_precision_is_written_as_float32(tmp_path):
    images = MultiBandImage.from_arrays(M83.bands, np.full((3, 60, 60), 0.5, np.float16), RATE)
    cluster = SyntheticCluster(1e3 * u.Msun, 20 * u.Myr, 0.1 * u.arcsec, distance=DISTANCE, rng=1)
    injector = ClusterInjector(images, instrument=M83, psf=PSF)
    on_disk = injector.inject([cluster], [(30, 30)], rng=1, out=tmp_path / "out.fits").images
    in_memory = injector.inject([cluster], [(30, 30)], rng=1).images
    assert on_disk["F438W"].data.dtype == ">f4"
    np.testing.assert_allclose(on_disk.to_array(), in_memory.to_array(), rtol=2e-3)


def test_a_prior_of_more_than_four_parameters():
    further = Parameter("metallicity", -0.1 * u.dex, 0.1 * u.dex, "linear"), Parameter("gamma", 2.3 * u.one, 3 * u.one, "linear")
    prior = ParameterSpace([*SMALL.parameters, *further])
    images = MultiBandImage.from_arrays(M83.bands, np.zeros((3, 60, 60), np.float32), RATE)
    truth = ClusterInjector(images, instrument=M83, psf=PSF, distance=DISTANCE).inject(prior, [(30, 30), (20, 20)], rng=1).truth
    assert np.all(np.abs(truth["metallicity"]) < 0.1 * u.dex) and np.all(truth["gamma"] > 2.3)


def test_the_name_of_an_instrument_is_none():
    images = MultiBandImage.from_arrays(M83.bands, np.zeros((3, 60, 60), np.float32), RATE)
    with pytest.raises(TypeError, match="instrument must be an Instrument, such as Instrument.from_name.*not 'HST/WFC3/UVIS/M83'"):
        ClusterInjector(images, instrument="HST/WFC3/UVIS/M83")
