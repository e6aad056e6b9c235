# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The stream: sample i depends on the seed and i alone, and its labels say what is in its pixels.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.modeling.models import Gaussian2D
from astropy.utils.exceptions import AstropyUserWarning
from scipy import stats
from small_stream import FIELD, M83, PSF, SPACE, dark, make_stream

from clustercnn.instruments import Instrument
from clustercnn.parameters import Parameter, ParameterSpace
from clustercnn.profiles import get_profile
from clustercnn.psf import as_psf
from clustercnn.simulation import NEGATIVES, BackgroundFields, Detector, GalaxyDisc, MosaicBackground
from clustercnn.simulation.background import star_rates
from clustercnn.simulation.population import StarTables
from clustercnn.simulation.scenes import GAMMAS, ClusterScenes
from clustercnn.stellar import IsochroneGrid
from clustercnn.stellar.extinction import band_extinction


@pytest.fixture(name="stream", scope="module")
def fixture_stream():
    """A stream of small stamps with seed 1; streams have no state."""
    return make_stream()


@pytest.fixture(name="samples", scope="module")
def fixture_samples(stream):
    """Its first 320 samples; read only."""
    return stream.batch(0, 320)


def assert_same(first, second):
    assert list(first) == list(second)
    for name in first:
        np.testing.assert_array_equal(first[name].numpy(), second[name].numpy(), err_msg=name)


def part(batch, start, stop):
    return {name: values[start:stop] for name, values in batch.items()}


class Batches(torch.utils.data.Dataset):
    """Batches of 9 samples."""

    def __init__(self, stream):
        self.stream = stream

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return self.stream.batch(9 * i, 9)


def test_what_a_batch_is(samples):
    assert {name: tuple(values.shape) for name, values in samples.items()} == {
        "pixels": (320, 3, 24, 24), "parameters": (320, 4), "is_cluster": (320,), "visibility": (320,), "depth": (320, 3),
        "psf": (320, 3, 3),
    }
    assert all(values.dtype == torch.float32 and values.device.type == "cpu" for values in samples.values())
    assert torch.isfinite(samples["pixels"]).all()
    # apart in memory, as collating and pinning need it
    assert all(values.is_contiguous() for values in samples.values())


@pytest.mark.parametrize(("start", "size"), [(0, 1), (5, 3), (31, 2), (32, 32), (17, 80), (300, 20), (63, 1)])
def test_a_sample_does_not_depend_on_its_batch(stream, samples, start, size):
    assert_same(stream.batch(start, size), part(samples, start, start + size))


def test_a_sample_does_not_depend_on_what_came_before(samples):
    fresh = make_stream()
    assert_same(fresh.batch(150, 4), part(samples, 150, 154))
    assert_same(fresh.batch(10, 4), part(samples, 10, 14))


# Workers are forked; from Python 3.12 on that warns where torch has started threads.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_sample_does_not_depend_on_workers(stream, samples, workers):
    loader = torch.utils.data.DataLoader(Batches(stream), batch_size=None, num_workers=workers, generator=torch.Generator())
    batches = list(loader)
    assert len(batches) == 5
    for i, batch in enumerate(batches):
        assert_same(batch, part(samples, 9 * i, 9 * i + 9))


def test_a_sample_does_not_depend_on_threads(stream, samples):
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            assert_same(stream.batch(64, 32), part(samples, 64, 96))
    finally:
        torch.set_num_threads(threads)


def test_far_samples(stream):
    """Validation takes samples that training never reaches."""
    far = stream.batch(2**40, 3)
    assert_same(far, stream.batch(2**40, 3))
    assert not torch.equal(far["pixels"], stream.batch(0, 3)["pixels"])


def test_samples_differ(samples):
    pixels = samples["pixels"].numpy()
    assert len({stamp.tobytes() for stamp in pixels}) == 320
    parameters = samples["parameters"].numpy()
    assert len(np.unique(parameters[np.isfinite(parameters[:, 0]), 0])) == np.isfinite(parameters[:, 0]).sum()


def test_seeds(samples):
    first = part(samples, 0, 8)
    for same in (1, np.random.SeedSequence(1)):
        assert_same(make_stream(same).batch(0, 8), first)
    for other in (2, np.random.SeedSequence(1).spawn(1)[0], np.random.default_rng(1), None):
        batch = make_stream(other).batch(0, 8)
        assert np.mean(batch["pixels"].numpy() != first["pixels"].numpy()) > 0.9
    generators = [make_stream(np.random.default_rng(3)) for _ in range(2)]
    assert_same(generators[0].batch(0, 3), generators[1].batch(0, 3))


def test_labels(samples):
    is_cluster = samples["is_cluster"].numpy()
    assert set(is_cluster) == {0.0, 1.0}
    assert is_cluster.mean() == pytest.approx(0.6, abs=4 * (0.24 / 320) ** 0.5)
    positive = is_cluster == 1
    for name in ("parameters", "visibility"):
        assert np.all(np.isfinite(samples[name].numpy()[positive]))
        assert np.all(np.isnan(samples[name].numpy()[~positive]))
    assert np.all(samples["visibility"].numpy()[positive] > 0)
    unit = SPACE.to_unit(samples["parameters"].numpy()[positive])
    assert np.all((unit >= -1e-6) & (unit <= 1 + 1e-6))
    assert np.all(unit.min(axis=0) < 0.05) and np.all(unit.max(axis=0) > 0.95)
    # flat in each coordinate: standard deviation 1 / sqrt(12)
    np.testing.assert_allclose(unit.mean(axis=0), 0.5, atol=4 * (1 / 12 / positive.sum()) ** 0.5)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_only_one_class(fraction):
    batch = make_stream(positive_fraction=fraction).batch(0, 40)
    assert torch.all(batch["is_cluster"] == fraction)
    assert torch.isnan(batch["visibility"]).all() == (fraction == 0)


def test_a_plain_field_is_background_and_noise():
    """Mean and scatter of stamps without any source are those of the detector."""
    flat = BackgroundFields([np.full((3, 24, 24), 0.02)])
    pixels = make_stream(background=flat, positive_fraction=0.0, negatives={"field": 1.0}).batch(0, 64)["pixels"].numpy()
    variance = Detector.from_instrument(M83).variance(np.full((3, 1, 1), 0.02))[:, 0, 0]
    n = 64 * 24 * 24
    assert np.all(np.abs(pixels.mean(axis=(0, 2, 3)) - 0.02) < 4 * np.sqrt(variance / n))
    np.testing.assert_allclose(pixels.var(axis=(0, 2, 3)), variance, rtol=0.05)


def test_depth_and_correlation_vary_from_stamp_to_stamp(samples):
    """The same clusters, exposed by up to half a dex longer or shorter, with smoother noise."""
    field = BackgroundFields([np.full((3, 24, 24), 0.02)])
    settings = {"background": field, "positive_fraction": 0.0, "negatives": {"field": 1.0}}
    plain, varied = (make_stream(**settings, **more).batch(0, 64)["pixels"].numpy() for more in ({}, {"depth_scatter": 0.5}))
    spread = [np.log10(pixels.var(axis=(2, 3))).std(axis=0) for pixels in (plain, varied)]
    assert np.all(spread[0] < 0.05) and np.all((0.2 < spread[1]) & (spread[1] < 0.6))  # 0.29 dex of photons, 0.58 of the reads
    smooth = make_stream(**settings, noise_correlation=0.2).batch(0, 64)["pixels"].numpy() - 0.02
    correlation = (smooth[..., 1:] * smooth[..., :-1]).mean(axis=(1, 2, 3)) / smooth.var(axis=(1, 2, 3))
    assert -0.1 < correlation.min() < 0.1 < 0.4 < correlation.max() < 0.65
    deep = make_stream(depth_scatter=0.5, noise_correlation=0.2)
    batch = deep.batch(0, 40)
    np.testing.assert_array_equal(batch["parameters"].numpy(), samples["parameters"].numpy()[:40])
    ratio = (batch["visibility"] / samples["visibility"][:40]).numpy()
    ratio = ratio[np.isfinite(ratio)]
    assert ratio.std() > 0.1 and np.all((ratio > 0.3) & (ratio < 3.2))
    assert_same(deep.batch(30, 5), part(batch, 30, 35))
    assert not samples["depth"].any() and 0.4 < batch["depth"].abs().max() <= 0.5 and abs(batch["depth"].mean()) < 0.12
    assert (deep.contract["depth_scatter"], deep.contract["noise_correlation"]) == (0.5, 0.2)


def real_mosaic():
    """Pixels that hold their noise, as of an observed image."""
    rates = np.full((3, 120, 130), 0.05)
    return Detector.from_instrument(M83).expose(rates, 1).astype(np.float32), rates[0, 0, 0]


def test_streams_before_a_real_mosaic():
    """Plain fields are the mosaic's own pixels; a cluster adds its own photons and their noise, and nothing else."""
    mosaic, rate = real_mosaic()
    background = MosaicBackground(dict(zip(M83.bands, mosaic * u.electron / u.s, strict=True)), instrument=M83)
    fields = make_stream(background=background, positive_fraction=0.0, negatives={"field": 1.0}).batch(0, 32)["pixels"].numpy()
    assert set(fields.ravel()) <= set(mosaic.ravel())
    clusters = make_stream(background=background, positive_fraction=1.0)
    on_mosaic, alone = clusters.batch(0, 64), make_stream(background=dark(24, 24), positive_fraction=1.0).batch(0, 64)
    np.testing.assert_array_equal(on_mosaic["parameters"].numpy(), alone["parameters"].numpy())
    assert_same(clusters.batch(40, 3), part(on_mosaic, 40, 43))
    # What the mosaic holds, crowding and noise, is the noise of the visibility: close to that before a smooth field of the same rate.
    smooth = make_stream(background=BackgroundFields([np.full((3, 30, 30), rate)]), positive_fraction=1.0).batch(0, 64)
    ratio = (on_mosaic["visibility"] / smooth["visibility"]).numpy()
    assert np.median(ratio) == pytest.approx(1, abs=0.15) and np.percentile(np.abs(np.log(ratio)), 90) < 0.5
    added = on_mosaic["pixels"].numpy().mean(axis=(2, 3)) - rate
    expected = alone["pixels"].numpy().mean(axis=(2, 3))
    exposure = np.array([M83.exposure(band).value for band in M83.bands])
    noise = np.sqrt(2 * Detector.from_instrument(M83).variance(np.full((3, 1, 1), rate))[:, 0, 0] + 2 * expected.clip(0) / exposure) / 24
    assert np.std((added - expected) / noise) < 1.3


@pytest.mark.parametrize("settings", [{"depth_scatter": 0.1}, {"noise_correlation": 0.1}, {"neighbour_fraction": 0.1}])
def test_real_mosaics_have_one_depth(settings):
    mosaic, _ = real_mosaic()
    background = MosaicBackground(dict(zip(M83.bands, mosaic * u.electron / u.s, strict=True)))
    with pytest.raises(ValueError, match="neighbour_fraction, depth_scatter, noise_correlation and psf_scatter must be 0 before a background"):
        make_stream(background=background, **settings)


def test_neighbours():
    """Of stamps that are dark otherwise, that share has a cluster beyond 4 pixels from the centre; truths stay, visibilities fall."""
    settings = {"background": dark(64, 64), "shape": (64, 64), "psf": None}
    bright_and_small = {"age": (10 * u.Myr, 30 * u.Myr), "a_v": (0 * u.mag, 0.5 * u.mag), "mass": (1e5 * u.Msun, 3e5 * u.Msun),
                        "half_light_radius": (0.04 * u.arcsec, 0.06 * u.arcsec)}
    space = ParameterSpace([replace(SPACE[name], lower=low, upper=high) for name, (low, high) in bright_and_small.items()])
    crowded = make_stream(space=space, negatives={"field": 1.0}, positive_fraction=0.0, neighbour_fraction=0.3, **settings).batch(0, 320)
    light = crowded["pixels"].mean(1).clamp_min(0)
    y, x = torch.meshgrid(torch.arange(64.0) - 31.5, torch.arange(64.0) - 31.5, indexing="ij")
    bright = light.flatten(1).amax(1) > 0.05
    assert abs(bright.float().mean() - 0.3) < 4 * (0.3 * 0.7 / 320) ** 0.5
    light[light < 0.3 * light.amax((1, 2), keepdim=True)] = 0  # the core of the neighbour
    middle = [(light * place).sum((1, 2)) / light.sum((1, 2)) for place in (x, y)]
    distance = torch.hypot(*middle)[bright]
    assert distance.min() > 4 and distance.max() < 25 and abs(distance.median() - 14.4) < 4
    alone, beside = (make_stream(positive_fraction=1.0, neighbour_fraction=share, **settings).batch(0, 96) for share in (0.0, 1.0))
    assert torch.equal(alone["parameters"], beside["parameters"])
    assert (beside["visibility"] <= alone["visibility"] * 1.0001).all() and (beside["visibility"] < 0.9 * alone["visibility"]).float().mean() > 0.5
    with pytest.raises(ValueError, match=r"neighbour_fraction must lie in 0..1, not 1.5"):
        make_stream(neighbour_fraction=1.5)


def test_neighbours_do_not_depend_on_the_batch():
    """Through PSFs of their own, too."""
    stream = make_stream(neighbour_fraction=0.5, psf_scatter=0.6, background=dark(60, 60))
    batch = stream.batch(0, 40)
    assert_same(stream.batch(30, 5), part(batch, 30, 35))
    alone = make_stream(psf_scatter=0.6, background=dark(60, 60)).batch(0, 40)
    brighter = batch["pixels"].sum((1, 2, 3)) - alone["pixels"].sum((1, 2, 3)) > 1.0
    assert 5 <= brighter.sum() <= 30


def test_unknown_device():
    with pytest.raises(ValueError, match=r"device must be one of \('cpu', 'cuda'\), not 'mps'"):
        make_stream(device="mps")


def test_purposes_have_generators_of_their_own(samples):
    """Other negatives leave clusters and backgrounds as they are, another background the noise of photons aside."""
    others = make_stream(negatives={"star": 1.0}).batch(0, 64)
    positive = samples["is_cluster"][:64] == 1
    np.testing.assert_array_equal(others["parameters"].numpy(), samples["parameters"].numpy()[:64])
    np.testing.assert_allclose(others["visibility"].numpy(), samples["visibility"].numpy()[:64], rtol=1e-4)
    assert positive.any() and not positive.all()


def test_stars_at_the_edge_of_their_profile(stream):
    """The largest random number below 1, of any slope, whose root is 1 in float32 on some machines: no place lies beyond the truncation."""
    slopes = torch.arange(len(GAMMAS))
    edge, largest = (stream._clusters._radius(slopes, torch.full((len(GAMMAS),), value)).numpy() for value in (1.0, 1 - 2**-24))
    np.testing.assert_allclose(edge, 8, rtol=1e-6)
    assert np.all(largest <= edge) and largest.min() > 7.9999


def test_wide_clusters_do_not_wrap_around():
    """Small stamps inside clusters of an arcsecond have the light that is inside larger ones."""
    wide = ParameterSpace([*SPACE.parameters[:3], Parameter("half_light_radius", 0.99 * u.arcsec, 1 * u.arcsec, "log")])
    settings = {"space": wide, "positive_fraction": 1.0}
    small, large = (make_stream(background=dark(n, n), shape=(n, n), **settings).batch(0, 32)["pixels"] for n in (24, 96))
    inside = large[..., 36:60, 36:60].sum(dim=(2, 3))
    bright = inside > 20
    assert bright.sum() > 20
    ratio = (small.sum(dim=(2, 3)) / inside)[bright]
    assert abs(ratio.median() - 1) < 0.01


def test_labels_say_what_is_in_the_pixels():
    """Light of clusters against the mean light of a population of the label's age, mass and A_V."""
    small = ParameterSpace([*SPACE.parameters[:3], Parameter("half_light_radius", 0.04 * u.arcsec, 0.06 * u.arcsec, "log")])
    stream = make_stream(space=small, background=dark(48, 48), shape=(48, 48), positive_fraction=1.0)
    batch = stream.batch(0, 192)
    values = small.from_coordinates(batch["parameters"].numpy())
    tables = StarTables(M83.passbands)
    age = tables.nearest_age(np.log10(values["age"].to_value(u.yr)))
    light = tables.mean_luminosity(age) * values["mass"].to_value(u.Msun)[:, None]
    light *= star_rates(M83, 4.5 * u.Mpc) * 10 ** (-0.4 * values["a_v"].to_value(u.mag)[:, None] * band_extinction(M83.passbands))
    sums = batch["pixels"].numpy().sum(axis=(2, 3))
    noise = np.sqrt(Detector.from_instrument(M83).variance(np.zeros((3, 1, 1)))[:, 0, 0] * 48**2)
    for band in range(3):
        bright = light[:, band] > 20 * noise[band]
        assert bright.sum() > 50
        ratio = np.log10(sums[bright, band] / light[bright, band])
        assert abs(np.median(ratio)) < 0.04 and np.percentile(np.abs(ratio), 68) < 0.25  # dex


def test_visibility_follows_the_pixels():
    """Of clusters alone in the dark: close to the signal-to-noise ratio in the aperture of the noisy pixels."""
    batch = make_stream(background=dark(24, 24), positive_fraction=1.0).batch(0, 128)
    y, x = np.indices((24, 24)) - 11.5
    inside = np.hypot(x, y) < 4
    signal = (batch["pixels"].numpy() * inside).sum(axis=(2, 3))
    detector = Detector.from_instrument(M83)
    variance = signal.clip(0) / detector.exposure + inside.sum() * detector.variance(np.zeros((3, 1, 1)))[:, 0, 0]
    expected = np.sqrt((signal.clip(0) ** 2 / variance).sum(axis=1))
    bright = expected > 20
    assert bright.sum() > 40
    np.testing.assert_allclose(batch["visibility"].numpy()[bright], expected[bright], rtol=0.15)


def test_sources_lie_within_half_a_pixel():
    """Light-weighted centres of bright single stars."""
    stream = make_stream(background=dark(33, 33), shape=(32, 33), positive_fraction=0.0, negatives={"star": 1.0})
    pixels = stream.batch(0, 256)["pixels"].numpy().sum(axis=1)
    bright = pixels[pixels.sum(axis=(1, 2)) > 300]
    assert len(bright) > 15
    y, x = np.indices((32, 33))
    for axis, middle in ((x, 16), (y, 15.5)):
        shift = (bright * axis).sum(axis=(1, 2)) / bright.sum(axis=(1, 2)) - middle
        assert 0.2 < np.abs(shift).max() < 0.55


def test_dust_of_another_r_v():
    """The same clusters behind another dust: their light changes by what the curves say."""
    plain, dusty = (make_stream(background=dark(24, 24), positive_fraction=1.0, r_v=r_v) for r_v in (None, 2.0))
    assert (plain.contract["population"]["r_v"], dusty.contract["population"]["r_v"]) == (None, 2.0)
    first, second = plain.batch(0, 96), dusty.batch(0, 96)
    a_v = SPACE.from_coordinates(first["parameters"].numpy())["a_v"].value
    light, dimmer = (batch["pixels"].numpy().sum(axis=(2, 3)) for batch in (first, second))
    change = band_extinction(M83.passbands, 2.0) - band_extinction(M83.passbands)
    noise = np.sqrt(Detector.from_instrument(M83).variance(np.zeros((3, 1, 1)))[:, 0, 0] * 24**2)
    for band in range(3):
        bright = light[:, band] > 200 * noise[band]
        assert bright.sum() > 10
        dimming = -2.5 * np.log10(dimmer[bright, band] / light[bright, band])
        np.testing.assert_allclose(dimming, a_v[bright] * change[band], atol=0.03)


@pytest.mark.parametrize("profile", [get_profile("plummer"), get_profile("king", concentration=1.2)])
def test_stars_follow_the_profile_asked_for(profile):
    clusters = ClusterScenes(SPACE, M83, star_rates(M83, 4.5 * u.Mpc), profiles=[profile])
    coordinates = SPACE.from_unit(np.random.default_rng(1).random((20, 4)))
    scenes = clusters.clusters(coordinates, np.zeros((20, 2)), *np.random.default_rng(2).spawn(2))
    radius = torch.hypot(scenes.x, scenes.y).numpy() / scenes.radius[scenes.stamp.numpy()]
    assert len(radius) > 2000 and stats.kstest(radius, profile.enclosed).pvalue > 0.01
    assert clusters.reach == pytest.approx(SPACE["half_light_radius"].upper.value / 0.04 * profile.truncation)


def test_clusters_of_another_population():
    """The keywords reach the stars: the light of the tables is that of the population asked for."""
    settings = {"metallicity": IsochroneGrid.default().metallicities[-1], "imf": "salpeter", "profiles": [get_profile("plummer")]}
    stream = make_stream(background=dark(24, 24), **settings)
    expected = StarTables(M83.passbands, settings["metallicity"], imf="salpeter", midpoints=True)
    np.testing.assert_array_equal(stream._clusters.tables.mean_luminosity(30), expected.mean_luminosity(30))
    population = stream.contract["population"]
    assert population["metallicity"] == settings["metallicity"] and population["isochrones"] is None
    assert population["profiles"] == ["PlummerProfile(truncation=8.0)"] and "2.35" in population["imf"]
    with pytest.raises(ValueError, match="profiles must hold at least one"):
        make_stream(background=dark(24, 24), profiles=[])


def test_contract_goes_through_json(stream):
    contract = stream.contract
    assert json.loads(json.dumps(contract)) == contract
    assert contract["bands"] == list(M83.bands) and contract["unit"] == "electron / s"
    assert contract["stamp_shape"] == [24, 24] and contract["pixel_scale"] == 0.04 and contract["distance_mpc"] == 4.5
    assert contract["visibility_aperture_radius_pixels"] == 4 and contract["seed"] == 1
    assert contract["zero_points"]["F814W"] == M83.zero_point("F814W").value
    assert contract["exposure"] == {"F336W": 1890, "F438W": 1880, "F814W": 1203}
    assert contract["background"] == "BackgroundFields"
    assert all(0 < light["1"] < light["2"] < light["4"] <= 1 for light in contract["light_within_pixels"].values())
    assert contract["negatives"] == NEGATIVES and contract["positive_fraction"] == 0.6
    assert ParameterSpace.from_dict(contract["parameter_space"]) == SPACE
    assert Instrument.from_dict(contract["instrument"]) == M83


@pytest.mark.parametrize("rng", [
    None, 3, np.int64(3), [3, 4], np.random.SeedSequence(7), np.random.SeedSequence(7).spawn(3)[2].spawn(2)[1],
    np.random.SeedSequence(np.array([5, 6])).spawn(1)[0], np.random.default_rng(7),
], ids=repr)
def test_contract_identifies_the_stream(rng):
    stream = make_stream(rng)
    contract = json.loads(json.dumps(stream.contract))
    again = make_stream(np.random.SeedSequence(contract["seed"], spawn_key=contract["spawn_key"]))
    assert again.contract == contract
    assert_same(again.batch(0, 2), stream.batch(0, 2))


def test_default_background_is_a_pool_of_discs(monkeypatch):
    """Of the stream's distance, PSF, dust and seed; a small pool stands in for it."""
    asked = []

    def discs(instrument, rng=None, **settings):
        asked.append((instrument, rng.generate_state(2).tolist(), settings))
        return BackgroundFields([FIELD])

    monkeypatch.setattr(BackgroundFields, "discs", discs)
    for seed in (1, 1, 2):
        make_stream(seed, background=None, distance=3 * u.Mpc)
    (instrument, state, settings), again, other = asked
    assert instrument == M83 and settings == {"distance": 3 * u.Mpc, "psf": PSF, "extinction_law": "F99"}
    assert state == again[1] != other[1]
    make_stream(background=None, extinction_law="G23")
    assert asked[-1][2]["extinction_law"] == "G23"


def test_noise_must_come_from_somewhere():
    """As instruments without sky and read noise do not make it; a mosaic behind has its own."""
    sky = {"F336W": 1, "F438W": 0, "F814W": 0}
    silent = Instrument("silent", M83.bands, pixel_scale=M83.pixel_scale, exposure=1000 * u.s,
                        sky={band: rate * u.electron / u.s for band, rate in sky.items()})
    with pytest.warns(AstropyUserWarning, match="^silent has neither sky nor read noise in F438W, F814W"):
        make_stream(instrument=silent, distance=4.5 * u.Mpc)


def test_discs_must_be_of_the_same_galaxy():
    discs = BackgroundFields.discs(M83, 1, (40, 50), rng=1, distance=15 * u.Mpc, psf=PSF)
    make_stream(background=discs, distance=15 * u.Mpc)
    with pytest.raises(ValueError, match="discs at 15 Mpc, but the clusters are at 4.5 Mpc"):
        make_stream(background=discs)
    coarse = Instrument.from_dict(M83.to_dict() | {"pixel_scale": 0.1})
    with pytest.raises(ValueError, match="discs through <Instrument .*0.04 arcsec / pix>, but the stream is of <Instrument .*0.1 arcsec / pix>"):
        make_stream(instrument=coarse, background=discs, distance=15 * u.Mpc)
    brighter = {band: zero_point + (band == "F814W") for band, zero_point in M83.to_dict()["zero_points"].items()}
    with pytest.raises(ValueError, match="passbands, pixel scale and zero points must be the same"):
        make_stream(instrument=Instrument.from_dict(M83.to_dict() | {"zero_points": brighter}), background=discs, distance=15 * u.Mpc)
    two = Instrument.from_name("HST/WFC3/UVIS/M83", ("F336W", "F438W"))
    with pytest.raises(ValueError, match="background must have the 2 bands of the instrument, not 3"):
        make_stream(instrument=two, background=discs, distance=15 * u.Mpc)


def test_dust_of_the_far_infrared():
    """The Fitzpatrick law ends at 3.3 um; another one dims clusters and discs as it says."""
    red = Instrument.from_name("JWST/NIRCam/LW", bands=("F277W", "F444W"), exposure=1000 * u.s, read_noise=10 * u.electron)
    psf = {band: as_psf(Gaussian2D(x_stddev=1, y_stddev=1), radius=8) for band in red.bands}
    with pytest.raises(ValueError, match="NIRCAM_F444W lies outside F99.*extinction_law='G23'"):
        make_stream(instrument=red, psf=psf, background=None, distance=4.5 * u.Mpc)
    disc = GalaxyDisc(red, 22 * u.mag / u.arcsec**2, a_v=0.5 * u.mag, distance=4.5 * u.Mpc, psf=psf, extinction_law="G23")
    background = BackgroundFields([disc.rates((40, 50), np.random.default_rng(1))])
    stream = make_stream(instrument=red, psf=psf, background=background, extinction_law="G23", distance=4.5 * u.Mpc)
    assert stream.contract["population"]["extinction_law"] == "G23" and "extinction_law" not in make_stream().contract["population"]
    np.testing.assert_allclose(stream._clusters.extinction, band_extinction(red.passbands, law="G23"))
    assert torch.isfinite(stream.batch(0, 4)["pixels"]).all()


def test_distance_dims():
    near, far = (make_stream(distance=d, positive_fraction=1.0).batch(0, 32) for d in (4.5 * u.Mpc, 9000 * u.kpc))
    np.testing.assert_array_equal(near["parameters"].numpy(), far["parameters"].numpy())
    assert torch.all(far["visibility"] < near["visibility"])


@pytest.mark.parametrize(("settings", "error", "message"), [
    ({"positive_fraction": 1.2}, ValueError, "positive_fraction must lie in 0..1, not 1.2"),
    ({"positive_fraction": np.nan}, ValueError, "positive_fraction must lie in 0..1"),
    ({"depth_scatter": -0.1}, ValueError, "depth_scatter must be 0 dex or more, not -0.1"),
    ({"depth_scatter": np.nan}, ValueError, "depth_scatter must be 0 dex or more, not nan"),
    ({"noise_correlation": 0.6}, ValueError, "noise_correlation must lie in 0..0.25, not 0.6"),
    ({"distance": 4.5}, TypeError, "distance must be a Quantity"),
    ({"distance": 4.5 * u.mag}, u.UnitsError, "distance must have a unit"),
    ({"background": BackgroundFields([np.zeros((2, 64, 64))])}, ValueError, "background must have the 3 bands .* not 2"),
    ({"background": BackgroundFields([np.zeros((1, 64, 64))])}, ValueError, "background must have the 3 bands .* not 1"),
])
def test_broken_streams(settings, error, message):
    with pytest.raises(error, match=message):
        make_stream(**settings)


@pytest.mark.parametrize(("parameters", "message"), [
    (SPACE.parameters[:3], r"space must have \['half_light_radius'\] too"),
    ([Parameter("age", 1 * u.Myr, 100 * u.Myr), *SPACE.parameters[1:]], "ages of the isochrones, 3.758 to 13335 Myr, but has 1 to 100 Myr"),
    ([Parameter("age", 10 * u.Myr, 20 * u.Gyr), *SPACE.parameters[1:]], "but has 10 to 20000 Myr"),
])
def test_broken_spaces(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_stream(space=ParameterSpace(parameters))


def test_broken_batches(stream):
    for start, size in [(-1, 4), (0, 0)]:
        with pytest.raises(ValueError, match="start must be 0 or more and size at least 1"):
            stream.batch(start, size)
    with pytest.raises(ValueError, match="no larger than the fields"):
        make_stream(shape=(64, 64)).batch(0, 1)


def test_a_stream_knows_its_parameters():
    space = ParameterSpace([*SPACE.parameters, Parameter("metallicity", -0.1 * u.dex, 0.1 * u.dex, "linear")])
    with pytest.raises(ValueError, match="mock clusters do not depend on .'metallicity'"):
        make_stream(space=space)
    with pytest.raises(TypeError, match="profiles must hold profiles, such as get_profile.*, not 'eff'"):
        make_stream(profiles=["eff"])
    with pytest.raises(TypeError, match="instrument must be an Instrument.*not 'HST/WFC3/UVIS/M83'"):
        make_stream(instrument="HST/WFC3/UVIS/M83")
    parsec = ParameterSpace([*SPACE.parameters[:3], Parameter("half_light_radius", 0.5 * u.pc, 15 * u.pc)])
    with pytest.raises(u.UnitsError, match="half_light_radius of space must have a unit that converts to 'arcsec', not 'pc'"):
        make_stream(space=parsec)
    for shape in (64, (64,), (0, 64), (64.7, 64)):
        with pytest.raises(ValueError, match="shape must be two whole numbers of pixels"):
            make_stream(shape=shape)


def test_other_instruments_need_a_distance():
    other = Instrument("other", M83.bands, pixel_scale=M83.pixel_scale, exposure=1 * u.ks, read_noise=3 * u.electron)
    with pytest.raises(TypeError, match="distance must be given, such as distance=20 .*: only the instrument HST/WFC3/UVIS/M83 brings one"):
        make_stream(instrument=other)
    assert make_stream(instrument=other, distance=20 * u.Mpc).distance == 20 * u.Mpc
    assert make_stream().distance == 4.5 * u.Mpc
