# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What is not a cluster: each kind is what its name says, and as bright as clusters are.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from astropy import units as u
from small_stream import M83, SPACE, dark, make_stream

from clustercnn.psf import builtin_psf
from clustercnn.simulation import NEGATIVE_KINDS, NEGATIVES, Detector, Renderer
from clustercnn.simulation.background import star_rates
from clustercnn.simulation.negatives import draw_negatives
from clustercnn.simulation.scenes import ClusterScenes
from clustercnn.simulation.visibility import aperture_weights

MIDDLE = (31.5, 31.5)


@pytest.fixture(name="clusters", scope="module")
def fixture_clusters():
    """Scenes of clusters of the paper's space; read only."""
    return ClusterScenes(SPACE, M83, star_rates(M83, 4.5 * u.Mpc))


@dataclass
class Drawn:
    """One negative as arrays."""

    x: np.ndarray
    y: np.ndarray
    rate: np.ndarray  # (n_stars, n_bands)
    centre: np.ndarray
    smooth_rate: np.ndarray
    radius: float


def scenes(kind, clusters, n=60, centre=MIDDLE, seed=0):
    """Negatives of one kind, one by one."""
    drawn = draw_negatives(kind, clusters, np.tile(centre, (n, 1)), np.random.default_rng(seed))
    x, y, rate, stamp = (values.double().numpy() for values in (drawn.x, drawn.y, drawn.rate.T, drawn.stamp))
    return [
        Drawn(x[stamp == i], y[stamp == i], rate[stamp == i], drawn.centre[i], drawn.smooth_rate[i], drawn.radius[i]) for i in range(n)
    ]


def test_shares():
    assert set(NEGATIVES) == {"field", "star", "blend", "off_centre"} == set(NEGATIVE_KINDS) - {"galaxy", "spiral", "association"}
    assert sum(NEGATIVES.values()) == pytest.approx(1)
    assert NEGATIVES["field"] == NEGATIVES["star"] == pytest.approx(NEGATIVES["blend"] + NEGATIVES["off_centre"])


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
def test_none_of_a_kind(kind, clusters):
    """Chunks of a stream in which a rare kind does not occur."""
    drawn = draw_negatives(kind, clusters, np.empty((0, 2)), np.random.default_rng(0))
    assert len(drawn.x) == 0 and drawn.centre.shape == (0, 2)


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
def test_scenes_are_whole_and_reproducible(kind, clusters):
    for first, again in zip(scenes(kind, clusters, 20), scenes(kind, clusters, 20), strict=True):
        np.testing.assert_array_equal(first.rate, again.rate)
        np.testing.assert_array_equal(first.x, again.x)
        assert first.rate.shape == (len(first.x), 3) and first.smooth_rate.shape == (3,)
        assert np.all(np.isfinite(first.rate)) and np.all(first.rate >= 0) and np.all(first.smooth_rate >= 0)


def test_a_field_adds_nothing(clusters):
    for scene in scenes("field", clusters, 3):
        assert len(scene.x) == 0 and not scene.smooth_rate.any()


def test_a_star_stands_at_the_centre(clusters):
    for scene in scenes("star", clusters, centre=(30.9, 32.2)):
        assert (scene.x.item(), scene.y.item()) == pytest.approx((30.9, 32.2), abs=1e-5)
        assert scene.rate.max() > 0 and not scene.smooth_rate.any()


def test_a_blend_is_a_few_stars_close_together(clusters):
    blends = scenes("blend", clusters, 200)
    assert {len(scene.x) for scene in blends} == {2, 3, 4, 5, 6}
    distance = np.concatenate([np.hypot(scene.x - 31.5, scene.y - 31.5) for scene in blends])
    assert 5.5 < distance.max() < 6
    assert np.mean(distance < 3) == pytest.approx(0.25, abs=0.06)  # evenly over the area
    assert all(not scene.smooth_rate.any() for scene in blends)


def test_off_centre_clusters_stay_away(clusters):
    """At least 4 pixels from the stamp's centre, wherever the jitter puts the middle of the scene."""
    for jitter in [(0, 0), (0.5, 0.5), (-0.5, 0.5)]:
        off = scenes("off_centre", clusters, 150, (31.5 + jitter[0], 31.5 + jitter[1]))
        distance = np.array([np.hypot(scene.centre[0] - 31.5, scene.centre[1] - 31.5) for scene in off])
        assert 4 <= distance.min() < 6 and 20 < distance.max() < 26
    angle = np.array([np.arctan2(scene.centre[1] - 31.5, scene.centre[0] - 31.5) for scene in off])
    assert np.abs(np.exp(1j * angle).mean()) < 4 / 150**0.5
    assert all(np.median(np.hypot(scene.x - scene.centre[0], scene.y - scene.centre[1])) < 2 * scene.radius for scene in off)


def test_stars_come_in_all_colours(clusters):
    color = np.array([-2.5 * np.log10(scene.rate[0, 1] / scene.rate[0, 2]) for scene in scenes("star", clusters, 200)])
    color += (M83.zero_point("F438W") - M83.zero_point("F814W")).value
    assert np.percentile(color, 5) < 0.7 and np.percentile(color, 95) > 2.5


def colors(all_scenes):
    """F438W - F814W."""
    rates = np.array([scene.rate.sum(axis=0) for scene in all_scenes])
    return -2.5 * np.log10(rates[:, 1] / rates[:, 2]) + (M83.zero_point("F438W") - M83.zero_point("F814W")).value


def moments(scene):
    """Sides of the light's ellipse within the half-light radius, the longer one first."""
    weight = scene.rate[:, 0] / scene.rate[:, 0].sum()
    offset = np.stack([scene.x - scene.centre[0], scene.y - scene.centre[1]])
    return np.sqrt(np.linalg.eigvalsh(np.einsum("in,jn,n->ij", offset, offset, weight)))[::-1]


def test_galaxies_are_ellipses_of_sersic_light(clusters):
    """Centred, of half-light radii 0.1 to 3 arcsec along the major axis, round to edge on."""
    galaxies = scenes("galaxy", clusters, 200, (30.9, 32.2))
    extents, ratios = [], []
    for scene in galaxies:
        share = scene.rate[:, 0] / scene.rate[:, 0].sum()
        assert np.hypot(np.sum(share * scene.x) - 30.9, np.sum(share * scene.y) - 32.2) < 0.01 * scene.x.std()
        _, axes = np.linalg.eigh(np.cov(np.stack([scene.x, scene.y])))
        u_, v_ = axes.T @ np.stack([scene.x - 30.9, scene.y - 32.2])
        major, minor = moments(scene)
        radius = np.hypot(v_, u_ * major / minor)  # along the major axis
        order = np.argsort(radius)
        extents.append(radius[order][np.searchsorted(np.cumsum(share[order]), 0.5)] * 0.04)
        ratios.append(minor / major)
    assert 0.095 < min(extents) < 0.12 and 2.7 < max(extents) < 3.3
    assert 0.14 < min(ratios) < 0.3 and max(ratios) > 0.93
    half = np.array([np.log10(extent) > -0.25 for extent in extents])
    assert np.mean(half) == pytest.approx(0.5, abs=0.12)


def test_galaxies_are_red_or_blue(clusters):
    color = colors(scenes("galaxy", clusters, 300))
    assert np.percentile(color, 10) < 1.3 and np.percentile(color, 90) > 2.6


def test_galaxies_are_smooth(clusters):
    """The points that stand for them do not show: against five times as many, in shares of the peak."""
    psf = builtin_psf(M83)
    renderer, worst = Renderer([psf[band] for band in M83.bands], (64, 64)), []

    def render(scene):
        x, y = torch.from_numpy(scene.x), torch.from_numpy(scene.y)
        return renderer(x, y, torch.from_numpy(scene.rate.T.copy()), torch.zeros(len(x), dtype=torch.int64), 1)[0].numpy()

    for seed in range(12):
        few = render(*scenes("galaxy", clusters, 1, seed=seed))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("clustercnn.simulation.negatives.GALAXY_POINTS", 100.0)
            many = render(*scenes("galaxy", clusters, 1, seed=seed))
        many *= few.sum() / many.sum()
        worst.append(np.abs(few - many).max() / many.max())
    assert np.median(worst) < 0.006 and max(worst) < 0.06


def spiral_parts(scene):
    """Distance from the centre in pixels, angle, and light in the first band of the points of a spiral."""
    x, y = scene.x - scene.centre[0], scene.y - scene.centre[1]
    return np.hypot(x, y), np.arctan2(y, x), scene.rate[:, 0]


def extent(scene):
    """Radius of half of the light, pixels."""
    distance, _, light = spiral_parts(scene)
    order = np.argsort(distance)
    return distance[order][np.searchsorted(np.cumsum(light[order]), 0.5 * light.sum())]


def test_spirals_have_two_arms(clusters):
    """Seen face on the light goes up and down twice along circles, and the place of its maximum winds with the logarithm of the radius."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clustercnn.simulation.negatives.FLATTEST_SPIRAL", 1.0)  # face on
        spirals = scenes("spiral", clusters, 60, (30.9, 32.2))
    found = []
    for scene in spirals:
        if extent(scene) < 20:  # small ones have little light in the rings
            continue
        distance, angle, light = spiral_parts(scene)
        waves = []
        for radius in (14.0, 18.0, 22.0):
            ring = np.abs(distance - radius) < 1.0
            limit = 3 * np.median(light[ring])  # without the knots
            amplitudes = [np.mean(np.minimum(light[ring], limit) * np.exp(1j * m * angle[ring])) for m in range(4)]
            waves.append(amplitudes[2])
            others = np.abs([amplitudes[1], amplitudes[3]])
            assert np.abs(amplitudes[2]) > 2 * others.max()
            assert np.abs(amplitudes[2]) > 0.1 * np.abs(amplitudes[0])
        turns = np.diff(np.unwrap(np.angle(waves))) / np.diff(np.log([14.0, 18.0, 22.0]))
        assert turns[0] == pytest.approx(turns[1], rel=0.35)
        pitch = np.degrees(np.arctan(2 / np.abs(turns.mean())))
        assert 8 < pitch < 40
        found.append(np.sign(turns.mean()))
    assert len(found) > 20 and 0.2 < np.mean(np.array(found) > 0) < 0.8  # of either hand


def test_extents_of_spirals(clusters):
    """Discs of half-light radii of 0.3 to 3 arcsec, less what the bulge draws in; axis ratios of their inner light down to 0.3."""
    spirals = scenes("spiral", clusters, 150)
    sizes = np.array([extent(scene) for scene in spirals]) * 0.04
    assert 0.15 < sizes.min() < 0.4 and 1.2 < sizes.max() < 3 and np.median(sizes) == pytest.approx(0.8, rel=0.25)
    ratios = np.array([minor / major for major, minor in (moments(scene) for scene, size in zip(spirals, sizes, strict=True) if size < 0.5)])
    assert 0.25 < ratios.min() < 0.5 and ratios.max() > 0.9


def test_spirals_are_red_within_and_blue_in_their_knots(clusters):
    """Centre against outskirts, and the bluest point of the outskirts against those around it."""
    redder, bluer = [], []
    for scene in scenes("spiral", clusters, 100):
        distance, _, _ = spiral_parts(scene)
        color = scene.rate[:, 2] / scene.rate[:, 0]
        inner, outer = distance < 1.5, (distance > 8) & (distance < 20)
        redder.append(scene.rate[inner, 2].sum() / scene.rate[inner, 0].sum() / np.median(color[outer]))
        bluer.append(color[outer].min() / np.median(color[outer]))
    assert np.median(redder) > 1.1 and np.mean(np.array(redder) > 1) > 0.7
    assert np.median(bluer) < 0.8


def test_associations_are_loose_and_young(clusters):
    loose = scenes("association", clusters, 200)
    numbers = np.array([len(scene.x) for scene in loose])
    assert numbers.min() >= 10 and numbers.max() <= 100 and np.median(numbers) == pytest.approx(10**1.5, rel=0.25)
    extent = np.array([2 * np.hypot(scene.x - 31.5, scene.y - 31.5).max() for scene in loose])
    assert extent.min() > 8 and extent.max() < 64 and 18 < np.median(extent) < 36
    # no core: half of an ellipse's stars lie beyond 0.7 of its extent
    assert np.mean([np.median(np.hypot(scene.x - 31.5, scene.y - 31.5)) / e * 2 for scene, e in zip(loose, extent)]) > 0.55
    # hot stars in the ultraviolet, whatever supergiants there are
    rates = np.concatenate([scene.rate for scene in loose])
    color = -2.5 * np.log10(rates[:, 0] / rates[:, 1]) + (M83.zero_point("F336W") - M83.zero_point("F438W")).value
    assert np.median(color) < -0.5
    # all of them above 8 Msun: absolute magnitudes, dust included
    magnitude = M83.zero_point("F438W").value - 2.5 * np.log10(rates[:, 1]) - 28.27
    assert np.percentile(magnitude, 50) < 0.5


@pytest.mark.parametrize("kind", ["galaxy", "spiral", "association"])
def test_streams_of_further_kinds(kind):
    batch = make_stream(negatives={**NEGATIVES, kind: 10.0}, positive_fraction=0.5).batch(0, 32)
    assert bool(torch.isfinite(batch["pixels"]).all()) and 0 < batch["is_cluster"].sum() < 32


def test_blends_share_the_light_of_a_cluster(clusters):
    """However many stars there are, and however they share it: against single stars of the same targets."""
    total = [np.log10(scene.rate.sum()) for kind in ("star", "blend") for scene in scenes(kind, clusters, 400)]
    assert abs(np.mean(total[:400]) - np.mean(total[400:])) < 4 * np.std(total) * (2 / 400) ** 0.5


def test_unknown_kind(clusters):
    with pytest.raises(ValueError, match="kind must be one of .*'off_centre'.*, not 'nebula'"):
        draw_negatives("nebula", clusters, np.array([MIDDLE]), np.random.default_rng(0))


@pytest.mark.parametrize("negatives", [{}, {"star": 0.0}, {"star": -1.0, "field": 2.0}, {"star": np.nan}, {"star": np.inf}])
def test_broken_shares(negatives):
    with pytest.raises(ValueError, match="negatives must have shares of 0 or more, not all 0, such as"):
        make_stream(negatives=negatives)


def test_streams_refuse_unknown_kinds():
    with pytest.raises(ValueError, match=r"negatives must be of the kinds .*'association'\), not \['nebula'\]"):
        make_stream(negatives={"nebula": 1.0, "star": 1.0})


@pytest.mark.parametrize("kind", ["star", "blend", "galaxy", "spiral"])
def test_about_as_bright_as_clusters(kind):
    """Aperture signal-to-noise ratios of negatives and positives: alone they must tell little."""
    weights = aperture_weights((24, 24), 11.5, 11.5, 4.0)
    detector = Detector.from_instrument(M83)
    dark_variance = detector.variance(np.zeros((3, 1, 1)))[:, 0, 0] * weights.sum()

    def significance(**settings):
        pixels = make_stream(background=dark(24, 24), **settings).batch(0, 320)["pixels"].numpy()
        signal = (pixels * weights).sum(axis=(2, 3)).clip(0)
        return np.sqrt((signal**2 / (signal / detector.exposure + dark_variance)).sum(axis=1))

    positives = significance(positive_fraction=1.0)
    negatives = significance(positive_fraction=0.0, negatives={kind: 1.0})
    assert abs(np.log10(np.median(positives) / np.median(negatives))) < 0.5
    auc = np.mean(positives[:, None] > negatives)
    assert 0.4 < auc < 0.75, auc
