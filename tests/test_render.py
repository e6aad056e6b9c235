# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Stars to pixels: flux, positions and shapes against exact results and against GalSim.
"""

import galsim
import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.nddata import NDData
from hypothesis import given
from hypothesis import strategies as st
from photutils.psf import GriddedPSFModel

from clustercnn.images import MultiBandImage
from clustercnn.instruments import Instrument
from clustercnn.parameters import ParameterSpace
from clustercnn.profiles import get_profile
from clustercnn.psf import as_psf, builtin_psf
from clustercnn.simulation import ClusterInjector, GalaxyDisc, MockStream, Renderer, SyntheticCluster
from clustercnn.simulation.background import star_rates
from clustercnn.simulation.render import MANY_STARS, band_psfs
from clustercnn.simulation.scenes import GAMMAS, ClusterScenes, Scenes

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
PSFS = builtin_psf(M83)
OF_THE_PEAK = 1e-3


def gaussian_psf(sigma, radius=8, **keywords):
    """A Gaussian of sigma native pixels."""
    x = np.arange(-4 * radius, 4 * radius + 1) / 4
    wave = np.exp(-0.5 * (x / sigma) ** 2)
    return as_psf(np.outer(wave, wave), **keywords)


SHARP = gaussian_psf(0.7)
SMALL = Renderer([SHARP], (24, 24))


def render(renderer, x, y, flux=1.0, stamp=None, n_stamps=1, **keywords):
    """Stamps of plain arrays as float64; one flux per star, or (bands, stars)."""
    x, y = (torch.tensor(np.atleast_1d(axis), dtype=torch.float64) for axis in (x, y))
    flux = torch.tensor(np.broadcast_to(flux, (renderer.n_bands, len(x))).copy())
    stamp = torch.zeros(len(x), dtype=torch.int64) if stamp is None else torch.as_tensor(stamp)
    return renderer(x, y, flux, stamp, n_stamps, **keywords).numpy().astype(float)


def one(renderer, x, y, flux=1.0):
    """The first band of a single stamp."""
    return render(renderer, x, y, flux)[0, 0]


def centroid(image):
    y, x = np.indices(image.shape[-2:])
    return np.array([(image * axis).sum(axis=(-2, -1)) for axis in (x, y)]) / image.sum(axis=(-2, -1))


def galsim_image(profile, x, y, flux, shape, method="auto"):
    """The same stars by GalSim; `auto` convolves with the pixel."""
    stars = galsim.Sum([galsim.DeltaFunction(flux=f).shift(dx, dy) for f, dx, dy in zip(flux, x, y, strict=True)])
    image = galsim.ImageD(shape[1], shape[0], scale=1)
    middle = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    galsim.Convolve(stars, profile).drawImage(image, method=method, offset=(-middle[0], -middle[1]))
    return image.array


def galsim_psf(psf):
    """A kernel as GalSim interpolates it."""
    image = galsim.Image(psf.data.copy(), scale=1 / psf.oversampling)
    return galsim.InterpolatedImage(image, x_interpolant="lanczos15", flux=1)


def worst(image, reference):
    """Largest difference over the peak of the reference."""
    return np.abs(image - reference).max() / reference.max()


@pytest.mark.parametrize("shape", [(80, 80), (81, 84)])
@pytest.mark.parametrize("band", M83.bands)
def test_flux_and_centroid_at_any_phase(band, shape):
    n = 60
    shift = np.random.default_rng(1).uniform(-0.5, 0.5, (2, n))
    shift[:, :5] = [[0, 0.5, 0.5, 0.25, -0.5], [0, 0.5, 0, -0.25, 0.5]]
    x, y = shape[1] // 2 + shift[0], shape[0] // 2 + shift[1]
    stamps = render(Renderer([PSFS[band]], shape), x, y, stamp=np.arange(n), n_stamps=n)[:, 0]
    assert np.abs(stamps.sum(axis=(1, 2)) - 1).max() < 1e-5
    assert np.abs(centroid(stamps) - [x, y]).max() < 1e-3  # pixels; the bar is 0.01
    assert stamps.min() > -1e-6


@given(st.floats(8, 15), st.floats(8, 15), st.floats(1e-3, 1e6))
def test_flux_and_centroid_anywhere(x, y, flux):
    image = one(SMALL, x, y, flux)
    assert image.sum() / flux == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(centroid(image), [x, y], atol=1e-3)


@pytest.mark.parametrize("shape", [(32, 32), (33, 33), (32, 47)])
@pytest.mark.parametrize("band", ["F336W", "F814W"])
def test_single_star_against_galsim(band, shape):
    renderer, reference = Renderer([PSFS[band]], shape), galsim_psf(PSFS[band])
    for dx, dy in [(0, 0), (0.5, 0.5), (0.3, 0.8), (-0.21, 0.49), (0.75, 0.05)]:
        x, y = shape[1] // 2 + dx, shape[0] // 2 + dy
        assert worst(one(renderer, x, y), galsim_image(reference, [x], [y], [1.0], shape)) < OF_THE_PEAK


@pytest.mark.parametrize(("n_stars", "shape", "bands"), [
    (100, (41, 40), M83.bands), (100, (64, 64), M83.bands), (10_000, (41, 40), M83.bands), (100_000, (32, 33), ["F438W"]),
])
def test_clusters_against_galsim(n_stars, shape, bands):
    """Few stars and many, the brightest as in a population, at any phase, some of them over the edge."""
    rng = np.random.default_rng(n_stars)
    x, y = (shape[1] / 2 + 0.3 + 3 * axis for axis in get_profile("eff", gamma=2.4).sample(n_stars, rng))
    flux = rng.pareto(1.2, n_stars) + 0.1
    renderer = Renderer([PSFS[band] for band in bands], shape, many_stars=n_stars > MANY_STARS)
    image = render(renderer, x, y, np.tile(flux, (len(bands), 1)))[0]
    for i, band in enumerate(bands):
        reference = galsim_image(galsim_psf(PSFS[band]), x, y, flux, shape)
        assert worst(image[i], reference) < OF_THE_PEAK
        assert image[i].sum() == pytest.approx(reference.sum(), rel=1e-4)


@pytest.mark.parametrize("band", M83.bands)
def test_stars_near_and_over_the_edge_against_galsim(band):
    """In shares of the star's own peak, whether that is in the image or not."""
    renderer, reference, shape = Renderer([PSFS[band]], (40, 36)), galsim_psf(PSFS[band]), (40, 36)
    peak = one(renderer, 18, 20).max()
    for x, y in [(0, 0), (-0.5, 20.2), (35.5, 39.5), (-4.3, -5.1), (41.2, 12), (17, -14.7)]:
        assert np.abs(one(renderer, x, y) - galsim_image(reference, [x], [y], [1.0], shape)).max() < OF_THE_PEAK * peak


@pytest.mark.parametrize("sigma", [0.4, 0.5])
def test_sharp_psfs_against_galsim(sigma):
    """With power at more than one cycle per pixel, at any phase."""
    psf, shape = gaussian_psf(sigma), (24, 25)
    renderer, reference = Renderer([psf], shape), galsim_psf(psf)
    assert renderer.fine == (4 if sigma == 0.4 else 2)
    for x, y in np.random.default_rng(1).uniform(11.5, 12.5, (12, 2)):
        assert worst(one(renderer, x, y), galsim_image(reference, [x], [y], [1.0], shape)) < OF_THE_PEAK


def test_grids_agree():
    """Stars, smooth light and blur on grids of half and of quarter pixels."""
    rng = np.random.default_rng(3)
    x, y, flux, stamp = rng.uniform(-5, 40, 50), rng.uniform(-5, 40, 50), rng.random((3, 50)), np.repeat([0, 1], 25)
    half, quarter = (Renderer([PSFS[band] for band in M83.bands], (35, 34), many_stars=many) for many in (False, True))
    keywords = {"smooth": smooth_light(half, get_profile("plummer"), 3.0, [[17.0, 16.2], [12.0, 20.0]], 9 * rng.random((2, 3)))}
    keywords["blur"] = torch.tensor([0.0, 0.5])
    images = [render(renderer, x, y, flux, stamp, 2, **keywords) for renderer in (half, quarter)]
    assert (half.fine, quarter.fine) == (2, 4) and worst(*images) < OF_THE_PEAK


def wide_grid():
    """A PSF that widens from the left to the right of a detector of 1000 x 500 pixels."""
    places = [(x, y) for y in (0, 500) for x in (0, 1000)]
    kernels = [gaussian_psf(0.7 + x / 2000).data for x, _ in places]
    return GriddedPSFModel(NDData(np.array(kernels) * 16, meta={"grid_xypos": places, "oversampling": 4}))


def test_psfs_that_depend_on_the_position():
    """An injected cluster is seen through the PSF of its place: against GalSim, and against the PSF taken there by hand."""
    grid = dict.fromkeys(M83.bands, wide_grid())
    cluster = SyntheticCluster(5000 * u.Msun, 20 * u.Myr, 0.1 * u.arcsec, distance=4.5 * u.Mpc, rng=1)
    shape, images = (40, 41), []
    for place in [(20.3, 19.8), (800.0, 250.0)]:
        psf = as_psf(grid["F438W"], position=place)
        x, y = (middle + cluster.stars[name].value / 0.04 for middle, name in ((20.3, "x"), (19.8, "y")))
        flux = 10 ** (0.4 * (M83.zero_point("F438W").value - cluster.star_magnitudes("F438W")))
        ours = cluster.rates(M83, shape, dict.fromkeys(M83.bands, psf), (20.3, 19.8))[1]
        bright = np.argsort(-flux)[:1000]
        stars = one(Renderer([psf], shape), x[bright], y[bright], flux[bright])
        reference = galsim_image(galsim_psf(psf), x[bright], y[bright], flux[bright], shape, method="no_pixel")  # which is in it
        assert worst(stars, reference) < OF_THE_PEAK
        images.append(ours)
    np.testing.assert_allclose(cluster.rates(M83, shape, grid, (20.3, 19.8))[1], images[0], rtol=1e-6)
    assert images[0].max() > 1.5 * images[1].max()
    dark = MultiBandImage.from_arrays(M83.bands, np.zeros((3, 60, 1000), dtype=np.float32), u.electron / u.s)
    bright = SyntheticCluster(3e5 * u.Msun, 20 * u.Myr, 0.1 * u.arcsec, distance=4.5 * u.Mpc, rng=1)
    injected = ClusterInjector(dark, instrument=M83, psf=grid).inject([bright, bright], [(100, 30), (900, 30)], rng=1).images
    peaks = injected["F438W"].data[30, [100, 900]]
    narrow, wide = (as_psf(grid["F438W"], position=place) for place in ((100, 30), (900, 30)))
    expected = [bright.rates(M83, (61, 61), dict.fromkeys(M83.bands, psf), (30, 30))[1, 30, 30] for psf in (narrow, wide)]
    np.testing.assert_allclose(peaks, expected, rtol=4 / np.sqrt(min(expected) * M83.exposure("F438W").value))


@pytest.mark.parametrize("shape", [(32, 32), (31, 40)])
def test_analytic_psf_against_galsim(shape):
    """Core and halo as formulae in GalSim: no interpolation that both could share."""
    parameters = galsim.GSParams(folding_threshold=1e-4, kvalue_accuracy=1e-7, maxk_threshold=1e-6)
    core, halo = galsim.Gaussian(sigma=0.8, flux=0.8), galsim.Gaussian(sigma=2.0, flux=0.2)
    x = np.arange(-44, 45) / 4
    waves = {s: np.exp(-0.5 * (x / s) ** 2) / s for s in (0.8, 2.0)}
    psf = as_psf(0.8 * np.outer(waves[0.8], waves[0.8]) + 0.2 * np.outer(waves[2.0], waves[2.0]))
    renderer = Renderer([psf], shape)
    for x, y in [(15, 15), (15.5, 14.5), (14.7, 16.2)]:
        reference = galsim_image((core + halo).withGSParams(parameters), [x], [y], [1.0], shape)
        assert worst(one(renderer, x, y), reference) < 1e-4


def test_the_pixel_is_applied_once():
    """An effective PSF, which holds the pixel already, gives the same star as the optical one."""
    from scipy.special import erf

    edges = np.arange(-32, 33) / 4
    wave = erf((edges + 0.5) / (0.8 * 2**0.5)) - erf((edges - 0.5) / (0.8 * 2**0.5))
    effective = as_psf(np.outer(wave, wave), pixel_integrated=True)
    optical = gaussian_psf(0.8)
    for x, y in [(12, 12), (12.5, 11.7)]:
        images = [one(Renderer([psf], (24, 24)), x, y) for psf in (effective, optical)]
        assert worst(*images) < 1e-4


def test_one_psf_per_band():
    psfs = [gaussian_psf(0.7), gaussian_psf(1.5)]
    stamps = render(Renderer(psfs, (25, 30)), [12.2, 8.0], [13.4, 9.1], [[1.0, 2.0], [5.0, 0.0]])
    assert stamps.shape == (1, 2, 25, 30)
    np.testing.assert_allclose(stamps[0, 0], one(Renderer(psfs[:1], (25, 30)), [12.2, 8.0], [13.4, 9.1], [1.0, 2.0]), atol=1e-6)
    np.testing.assert_allclose(stamps[0, 1], one(Renderer(psfs[1:], (25, 30)), 12.2, 13.4, 5.0), atol=1e-6)


def test_positions_are_x_along_columns():
    image = one(Renderer([SHARP], (20, 40)), 30, 5)
    assert np.unravel_index(image.argmax(), image.shape) == (5, 30)


@pytest.mark.parametrize("band", ["F336W", "F814W"])
def test_nothing_wraps_around(band):
    """Stars at, over and beyond the edges light what they light in a larger image, and nothing else."""
    psf, margin = PSFS[band], 48
    small, large = Renderer([psf], (40, 36)), Renderer([psf], (40 + 2 * margin, 36 + 2 * margin))
    places = [(0, 0), (-0.5, 20), (35.5, 39.5), (-8.3, -5.1), (50.2, 12), (17, -25), (36 + 27, 40 + 27), (-31.5, 20)]
    for x, y in places:
        inside = one(large, x + margin, y + margin)[margin:-margin, margin:-margin]
        assert np.abs(one(small, x, y) - inside).max() < 2e-6  # of the star's flux


def test_stars_beyond_reach_leave_no_trace():
    reach = SMALL.reach
    far = [(-reach - 0.01, 12), (12, -reach - 5), (23 + reach + 0.01, 12), (12, 1e6), (-1e9, 3)]
    for x, y in far:
        assert np.all(one(SMALL, x, y, 1e6) == 0)
    near = one(SMALL, 12.3, 11.9)
    with_far = one(SMALL, *np.transpose([(12.3, 11.9), *far]), [1.0] + [1e6] * len(far))
    np.testing.assert_array_equal(with_far, near)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_light_adds(a, b):
    first, second = one(SMALL, 10.2, 12.9), one(SMALL, 13.7, 9.5)
    both = one(SMALL, [10.2, 13.7], [12.9, 9.5], [a, b])
    np.testing.assert_allclose(both, a * first + b * second, atol=2e-7 * (a + b))


def smooth_light(renderer, profile, radius, centre, rate):
    """Of equal profiles with radius in pixels at several places (n, 2), rates (n, n_bands)."""
    frequency = renderer.radial_frequency.numpy().astype(float) * radius
    near = frequency < 6.0  # there is no light at shorter waves
    radial = torch.zeros(len(frequency))
    radial[near] = torch.tensor(profile.transform(frequency[near]), dtype=torch.float32)
    centre, rate = torch.tensor(centre), torch.as_tensor(rate, dtype=torch.float32)
    return radial.repeat(len(centre), 1), centre, rate


def test_a_batch_is_its_stamps():
    """Stars, smooth light and blur of several stamps, one of them without stars, in one go and one at a time."""
    rng = np.random.default_rng(8)
    renderer = Renderer([SHARP, gaussian_psf(1.1)], (26, 31))
    stamp = np.array([0, 3, 1, 0, 3, 3, 1, 0])  # in any order
    x, y, flux = rng.uniform(-2, 28, 8), rng.uniform(-2, 28, 8), rng.random((2, 8))
    place = np.array([12.0, 15.5, 14.2, 9.9])
    smooth = smooth_light(renderer, get_profile("plummer"), 2.0, np.stack([place, place[::-1]], axis=1), rng.random((4, 2)))
    blur = torch.tensor([0.0, 0.3, 0.1, 2.0])
    together = render(renderer, x, y, flux, stamp, 4, smooth=smooth, blur=blur)
    for i in range(4):
        own = stamp == i
        alone = render(renderer, x[own], y[own], flux[:, own], smooth=[part[i : i + 1] for part in smooth], blur=blur[i : i + 1])
        np.testing.assert_allclose(together[i], alone[0], atol=1e-6)


def test_what_comes_out():
    nothing = SMALL(*torch.zeros(2, 0), torch.zeros(1, 0), torch.zeros(0, dtype=torch.int64), 3)
    assert nothing.dtype == torch.float32 and nothing.shape == (3, 1, 24, 24) and nothing.is_contiguous()
    assert not nothing.any()


@pytest.mark.parametrize("radius", [1.0, 7.0, 30.0])
def test_smooth_light_is_the_limit_of_many_stars(radius):
    """A sunflower of equal stars on the profile's quantiles; that of a wide profile, much wider than the stamp, does not wrap around."""
    profile, n = get_profile("eff", gamma=2.6), 60_000
    renderer = Renderer([PSFS["F438W"]], (48, 50), smooth_reach=radius * profile.truncation)
    place = np.arange(n) + 0.5
    r, angle = radius * profile.radius(place / n), place * np.pi * (3 - 5**0.5)
    stars = one(renderer, 24.3 + r * np.cos(angle), 23.6 + r * np.sin(angle), np.full(n, 1 / n))
    smooth = render(renderer, [], [], smooth=smooth_light(renderer, profile, radius, [[24.3, 23.6]], [[1.0]]))[0, 0]
    assert worst(smooth, stars) < OF_THE_PEAK
    assert smooth.sum() == pytest.approx(stars.sum(), rel=1e-3)


def test_smooth_light_is_the_mean_of_drawn_stars():
    """Twenty drawings of 2000 stars: the mean of every pixel within its standard error."""
    renderer, profile, n = Renderer([SHARP], (24, 24)), get_profile("eff", gamma=3.0), 40_000
    x, y = profile.sample(n, np.random.default_rng(2))
    stamps = render(renderer, 11.5 + 2 * x, 11.5 + 2 * y, np.full(n, 1 / 2000), np.repeat(np.arange(20), 2000), 20)[:, 0]
    smooth = render(renderer, [], [], smooth=smooth_light(renderer, profile, 2.0, [[11.5, 11.5]], [[1.0]]))[0, 0]
    error = stamps.std(axis=0, ddof=1) / 20**0.5
    deviation = ((stamps.mean(axis=0) - smooth) / error)[4:-4, 4:-4]
    assert np.abs(deviation).max() < 6 and 0.8 < deviation.std() < 1.4


@pytest.mark.parametrize("radius", [1.0, 3.0, 10.0])
def test_tabulated_smooth_light(radius):
    """The tables of the stream against transforms computed afresh."""
    renderer = Renderer([PSFS[band] for band in M83.bands], (64, 64))
    profiles = [get_profile("eff", gamma=GAMMAS[0]), get_profile("eff", gamma=GAMMAS[-1]), get_profile("king", concentration=1.2)]
    clusters = ClusterScenes(ParameterSpace.paper(), M83, star_rates(M83, 4.5 * u.Mpc), profiles=profiles)
    for i, profile in enumerate(profiles):
        scenes = Scenes.of_stars(np.zeros(0), np.zeros(0), np.zeros((0, 3)), np.zeros(0, dtype=int), np.array([[31.7, 31.2]]), "cpu")
        scenes.smooth_rate[:], scenes.radius[:], scenes.profile[:] = [1.0, 2.0, 3.0], radius, i
        exact = render(renderer, [], [], smooth=smooth_light(renderer, profile, radius, [[31.7, 31.2]], [[1.0, 2.0, 3.0]]))[0]
        assert worst(clusters.render(scenes, renderer)[0].numpy(), exact) < OF_THE_PEAK


def test_blur_widens_the_psf():
    narrow, wide = gaussian_psf(0.8), gaussian_psf((0.8**2 + 0.5) ** 0.5)
    x, y = [11.3, 11.3], [12.8, 12.8]
    blurred = render(Renderer([narrow], (24, 24)), x, y, stamp=[0, 1], n_stamps=2, blur=torch.tensor([0.5, 0.0]))[:, 0]
    assert worst(blurred[0], one(Renderer([wide], (24, 24)), 11.3, 12.8)) < OF_THE_PEAK
    np.testing.assert_allclose(blurred[1], one(Renderer([narrow], (24, 24)), 11.3, 12.8), atol=1e-7)


@pytest.mark.parametrize(("psf", "error", "message"), [
    (SHARP, TypeError, r"psf must be a dict of band -> PSF, such as psf=\{'F336W': as_psf\(kernel\), ...\}, not a PSF"),
    (np.ones((5, 5)), TypeError, "psf must be a dict of band -> PSF.* not a ndarray"),
    ({}, ValueError, r"psf must have an entry for each band of the instrument, but has none for \['F336W', 'F438W', 'F814W'\]"),
    ({"F336W": SHARP, "F438W": SHARP}, ValueError, r"none for \['F814W'\]"),
    (dict.fromkeys(M83.bands, np.ones((5, 5))), TypeError, r"as_psf\(kernel\).*but that of F336W is a ndarray"),
])
def test_what_is_no_psf_is_refused_everywhere(psf, error, message):
    images = MultiBandImage.from_arrays(M83.bands, np.zeros((3, 40, 40)), u.electron / u.s)
    brightness = 22 * u.mag / u.arcsec**2
    for use in (
        lambda: band_psfs(psf, M83),
        lambda: MockStream(ParameterSpace.paper(), M83, psf=psf),
        lambda: GalaxyDisc(M83, brightness, distance=4.5 * u.Mpc, psf=psf),
        lambda: ClusterInjector(images, instrument=M83, psf=psf),
    ):
        with pytest.raises(error, match=message):
            use()


def test_streams_need_one_psf():
    with pytest.raises(TypeError, match=r"psf of F336W depends on the position: choose one, psf=\{'F336W': as_psf\(model, position="):
        MockStream(ParameterSpace.paper(), M83, psf=dict.fromkeys(M83.bands, wide_grid()))
