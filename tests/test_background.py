# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What lies behind clusters: the disc's light against the stellar model, the cutting of stamps.
"""

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning

from clustercnn.instruments import Instrument
from clustercnn.psf import as_psf
from clustercnn.simulation import BackgroundFields, Detector, GalaxyDisc, Renderer
from clustercnn.simulation.background import star_rates
from clustercnn.stellar import IsochroneGrid, get_imf
from clustercnn.stellar.extinction import band_extinction

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
DISTANCE = 4.5 * u.Mpc
BRIGHTNESS = u.mag / u.arcsec**2
SHAPE = (96, 96)
WAVE = np.exp(-0.5 * (np.arange(-20, 21) / 4) ** 2)
PSF = dict.fromkeys(M83.bands, as_psf(np.outer(WAVE, WAVE)))  # small, hence fast


def stamp_of(background, shape, rng):
    """One stamp as an array."""
    return background.stamps(1, shape, rng)[0].numpy()


def disc(brightness=22.0, recent=1.0, a_v=0.0):
    return GalaxyDisc(M83, brightness * BRIGHTNESS, recent, a_v * u.mag, distance=DISTANCE, psf=PSF)


def constant_formation(recent):
    """Mean rates per pixel in each band for V = 22 mag / arcsec2, from simple stellar populations."""
    grid = IsochroneGrid.default()
    edges = np.concatenate([[0], 10 ** ((grid.log_ages[1:] + grid.log_ages[:-1]) / 2), [10 ** grid.log_ages[-1]]])
    weight = np.diff(edges) * np.where(grid.log_ages < 8.0, recent, 1.0)
    passbands = (*M83.passbands, "BESSELL_V")
    light = sum(
        w * 10 ** (-0.4 * grid.ssp_magnitudes(10**log_age * u.yr, 0.0, "kroupa", passbands).to_value(u.mag))
        for w, log_age in zip(weight, grid.log_ages, strict=True)
    )
    magnitudes = 22.0 - 2.5 * np.log10(light[:3] / light[3]) - 2.5 * np.log10(0.04**2)
    zero_points = [M83.zero_point(band).to_value(u.mag) for band in M83.bands]
    return 10 ** (-0.4 * (magnitudes - zero_points))


def test_rate_of_a_star():
    """Magnitude 0 at 10 pc; at 4.5 Mpc 28.27 mag fainter."""
    zero_points = [M83.zero_point(band).to_value(u.mag) for band in M83.bands]
    modulus = 5 * np.log10(4.5e6 / 10)
    np.testing.assert_allclose(-2.5 * np.log10(star_rates(M83, DISTANCE)), modulus - np.array(zero_points))
    np.testing.assert_allclose(star_rates(M83, 10 * u.pc) / star_rates(M83, 1 * u.kpc), 1e4)


def test_surface_brightness_of_an_old_disc():
    """Without young stars little is left to chance, and all bands have the light that was asked for."""
    mean = np.mean([disc(recent=0.0).rates(SHAPE, seed).mean(axis=(1, 2)) for seed in range(3)], axis=0)
    np.testing.assert_allclose(mean, constant_formation(0.0), rtol=0.03)


def test_surface_brightness_of_a_star_forming_disc():
    means = np.array([disc().rates(SHAPE, seed).mean(axis=(1, 2)) for seed in range(8)])
    error = means.std(axis=0, ddof=1) / 8**0.5
    expected = constant_formation(1.0)
    assert np.all(np.abs(means.mean(axis=0) - expected) < 4 * error)
    assert np.all(error / expected < 0.4)
    # the young are blue
    assert np.argmax(expected / constant_formation(0.0)) == 0


def test_brighter_discs_have_higher_medians():
    medians = [np.median(disc(brightness, a_v=0.3).rates(SHAPE, 5), axis=(1, 2)) for brightness in (25, 24, 23, 22, 21)]
    assert np.all(np.diff(medians, axis=0) > 0)
    # stamp medians of science.md in F814W: outskirts to the inner disc
    assert medians[0][2] < 0.003 and medians[-1][2] > 0.03


def test_dust_dims_the_blue_most():
    clear, dusty = (disc(recent=0.0, a_v=a_v).rates(SHAPE, 3).mean(axis=(1, 2)) for a_v in (0.0, 1.0))
    optical_depth = 0.4 * np.log(10) * band_extinction(M83.passbands)
    remaining = dusty / clear
    assert remaining[0] < remaining[1] < remaining[2] < 1
    # Stars spread evenly through the depth of the dust; where it is patchy, more light is left.
    mixed = -np.expm1(-optical_depth) / optical_depth
    assert np.all((0.8 * mixed < remaining) & (remaining < 1.4 * mixed))


def test_stars_are_those_of_the_image():
    """With their places and light: rendered alone, all that is left of the image is smooth."""
    field = disc(a_v=0.3)
    stars, rates = field.stars(SHAPE, 4), field.rates(SHAPE, 4)
    zero_points = np.array([M83.zero_point(band).value for band in M83.bands])
    flux = 10 ** (0.4 * (zero_points[:, None] - [stars[band].to_value(u.mag) for band in M83.bands]))
    x, y = (torch.from_numpy(np.array(stars[name])) for name in ("x_centroid", "y_centroid"))
    alone = Renderer([PSF[band] for band in M83.bands], SHAPE)(x, y, torch.from_numpy(flux), torch.zeros(len(x), dtype=torch.int64), 1)
    smooth = rates - alone[0].numpy()
    assert smooth.min() > 0 and np.all(smooth.std(axis=(1, 2)) < 0.2 * rates.std(axis=(1, 2)))
    assert np.abs(smooth[:, 1:] - smooth[:, :-1]).max() < 0.05 * np.abs(rates[:, 1:] - rates[:, :-1]).max()


def test_map_of_the_dust_is_that_of_the_image():
    """So far away hardly a star is drawn by itself, and the smooth light keeps (1 - exp(-tau)) / tau of what it is without dust."""
    clear, dusty = (
        GalaxyDisc(M83, 24 * BRIGHTNESS, 0.0, a_v * u.mag, distance=300 * u.Mpc, psf=PSF) for a_v in (0.0, 0.8)
    )
    a_v = dusty.extinction(SHAPE, 3)
    tau = 0.4 * np.log(10) * a_v.to_value(u.mag) * band_extinction(M83.passbands)[:, None, None]
    kept = dusty.rates(SHAPE, 3) / clear.rates(SHAPE, 3)
    assert np.quantile(np.abs(kept * tau / -np.expm1(-tau) - 1), 0.9) < 1e-3
    assert a_v.shape == SHAPE and 0.2 < a_v.mean().value < 3 and np.ptp(a_v).value > 0.1
    assert (clear.extinction(SHAPE, 3) == 0).all()


def test_luminosity_function_of_the_stars():
    """As many as the isochrones, the mass function and the history of star formation have."""
    grid, imf, field = IsochroneGrid.default(), get_imf("kroupa"), disc(24.0)
    stars = field.stars((160, 160), 3)
    edges = np.arange(23.0, 29.0, 0.75)
    counts = np.histogram(stars["F814W"].value, edges)[0]
    ages = np.concatenate([[0], 10 ** ((grid.log_ages[1:] + grid.log_ages[:-1]) / 2), [10 ** grid.log_ages[-1]]])
    light, expected = 0.0, np.zeros(len(counts))
    for width, log_age in zip(np.diff(ages), grid.log_ages, strict=True):
        knots, magnitudes = grid.magnitudes(log_age, 0.0, (M83.passband("F814W"), "BESSELL_V"))
        mass = np.interp(np.linspace(0, len(knots) - 1, 40001), np.arange(len(knots)), knots)
        number = np.diff(imf.cdf(mass)) / imf.mean_mass * width
        absolute = np.stack([np.interp((mass[1:] + mass[:-1]) / 2, knots, plane) for plane in np.transpose(magnitudes)])
        light += np.sum(number * 10 ** (-0.4 * absolute[1]))
        expected += np.histogram(absolute[0] + 5 * np.log10(4.5e5), edges, weights=number)[0]
    asked = 224**2 * 0.04**2 * 10 ** (-0.4 * (24.0 - 5 * np.log10(4.5e5)))
    expected *= asked / light
    assert np.all(np.abs(counts - expected) < 4.5 * np.sqrt(expected) + 0.03 * expected), (counts, expected)


def test_clumps_follow_recent_star_formation():
    quiet, active = (disc(recent=recent).rates(SHAPE, 8)[0] for recent in (0.0, 3.0))
    assert active.std() / active.mean() > 2 * quiet.std() / quiet.mean()


def test_discs_are_reproducible():
    first, again, other = (disc(a_v=0.3).rates((40, 56), seed) for seed in (1, np.random.default_rng(1), 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (3, 40, 56) and first.dtype == np.float32
    assert np.mean(first != other) > 0.99
    drawn = [GalaxyDisc.draw(M83, seed, distance=DISTANCE, psf=PSF) for seed in (4, 4, 5)]
    assert drawn[0].surface_brightness == drawn[1].surface_brightness != drawn[2].surface_brightness


def test_drawn_discs_keep_to_their_ranges():
    rng = np.random.default_rng(1)
    discs = [GalaxyDisc.draw(M83, rng, distance=DISTANCE, psf=PSF) for _ in range(200)]
    brightness = np.array([one.surface_brightness.value for one in discs])
    recent, a_v = np.array([(one.recent_star_formation, one.a_v.value) for one in discs]).T
    for values, low, high in [(brightness, 20.7, 25.2), (recent, 0.2, 3.0), (a_v, 0.05, 1.0)]:
        assert low <= values.min() < low * 1.1 and high / 1.1 < values.max() <= high


def test_image_has_a_wcs():
    images = disc().image((30, 41), 1)
    assert images.bands == M83.bands and images.shape == (30, 41) and images.unit == u.electron / u.s
    np.testing.assert_allclose(images.pixel_scale.to_value(u.arcsec / u.pix), 0.04, rtol=1e-6)
    centre = images.wcs.pixel_to_world(20, 14.5)
    assert centre.ra.deg == pytest.approx(204.2537) and centre.dec.deg == pytest.approx(-29.8654)
    assert images.wcs.pixel_to_world(21, 14.5).ra < centre.ra < images.wcs.pixel_to_world(19, 14.5).ra
    np.testing.assert_array_equal(images.to_array(), disc().rates((30, 41), 1))


def test_observed_disc_has_the_detectors_noise():
    clear, noisy = disc().rates(SHAPE, 6), disc().observe(SHAPE, 6)
    sigma = np.sqrt(Detector.from_instrument(M83).variance(clear))
    for i, band in enumerate(M83.bands):
        np.testing.assert_allclose(noisy[band].uncertainty.array, sigma[i], rtol=1e-6)
        deviation = (noisy[band].data - clear[i]) / sigma[i]
        assert abs(deviation.mean()) < 4 / 96 and deviation.std() == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((22.0,), TypeError, "surface_brightness must be a Quantity"),
    ((22.0 * u.mag,), u.UnitsError, "surface_brightness must have a unit"),
    ((22 * BRIGHTNESS, -1.0), ValueError, "recent_star_formation must be 0 or more"),
    ((22 * BRIGHTNESS, 1.0, 0.3), TypeError, "a_v must be a Quantity"),
    ((22 * BRIGHTNESS, 1.0, -0.3 * u.mag), ValueError, "a_v must be one number, 0 mag or more"),
    ((22 * BRIGHTNESS, 1.0, np.nan * u.mag), ValueError, "a_v must be one number, 0 mag or more, not nan mag"),
    ((np.nan * BRIGHTNESS,), ValueError, "surface_brightness must be one finite number, not nan"),
    (([22, 23] * BRIGHTNESS,), ValueError, "surface_brightness must be one finite number"),
])
def test_broken_discs(arguments, error, message):
    with pytest.raises(error, match=message):
        GalaxyDisc(M83, *arguments, distance=DISTANCE, psf=PSF)


def test_an_instrument_without_sky_and_read_noise():
    """As the presets of space telescopes are until they are told: its discs are made, too."""
    silent = Instrument("silent", ("F438W",), pixel_scale=M83.pixel_scale, exposure=1000 * u.s)
    disc = GalaxyDisc(silent, 22 * BRIGHTNESS, distance=DISTANCE, psf={"F438W": PSF["F438W"]})
    assert 0 < len(disc.stars((40, 40), 1)) < 0.2 * 104**2
    with pytest.warns(AstropyUserWarning, match="^silent has neither sky nor read noise in F438W, .*give the instrument read_noise= or sky="):
        disc.observe((40, 40), 1)


def test_distance_has_a_unit():
    with pytest.raises(TypeError, match="distance must be a Quantity"):
        GalaxyDisc(M83, 22 * BRIGHTNESS, distance=4.5, psf=PSF)
    with pytest.raises(TypeError, match="distance must be a Quantity"):
        star_rates(M83, 4.5)
    for wrong in (0, np.nan):
        with pytest.raises(ValueError, match="distance must be one positive number"):
            GalaxyDisc(M83, 22 * BRIGHTNESS, distance=wrong * u.Mpc, psf=PSF)
        with pytest.raises(ValueError, match="distance must be one positive number"):
            star_rates(M83, wrong * u.Mpc)


def numbered(ny, nx, start=0):
    """A field of three bands with a different number in every pixel."""
    return start + np.arange(3 * ny * nx, dtype=float).reshape(3, ny, nx)


@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (7, 4)])
def test_stamps_are_turned_and_mirrored_pieces(shape):
    """Each is one of the eight images of a rectangle; all eight come, and all places up to the edges."""
    field, rng = numbered(9, 8), np.random.default_rng(1)
    fields, orientations, places = BackgroundFields([field]), set(), set()
    for _ in range(1500):
        stamp = stamp_of(fields, shape, rng)
        assert stamp.shape == (3, *shape) and stamp.dtype == np.float32
        np.testing.assert_array_equal(stamp[1] - stamp[0], 72)  # bands stay together
        row, column = np.divmod(stamp[0].astype(int), 8)
        orientations.add((row[0, 0] < row[-1, -1], column[0, 0] < column[-1, -1], row[0, 0] == row[0, -1]))
        places.add((row.min(), column.min(), row.max(), column.max()))
        assert row.max() - row.min() + 1 in shape and column.max() - column.min() + 1 in shape
        assert len(np.unique(stamp[0])) == shape[0] * shape[1]
    assert len(orientations) == 8
    for turned in {shape, shape[::-1]}:
        everywhere = {(y, x, y + turned[0] - 1, x + turned[1] - 1) for y in range(10 - turned[0]) for x in range(9 - turned[1])}
        assert everywhere <= places


def test_stamps_as_large_as_their_field():
    stamp = stamp_of(BackgroundFields([numbered(6, 6)]), (6, 6), np.random.default_rng(0))
    assert set(stamp.ravel()) == set(range(108))


def test_all_fields_are_used_alike():
    fields, rng = BackgroundFields([np.full((3, 8, 8 + i), float(i)) for i in range(4)]), np.random.default_rng(2)
    counts = np.bincount([int(stamp_of(fields, (8, 8), rng).max()) for _ in range(400)])
    assert len(counts) == 4 and counts.min() > 60


def test_broken_fields():
    with pytest.raises(ValueError, match="fields must hold at least one array"):
        BackgroundFields([])
    with pytest.raises(ValueError, match=r"fields must be arrays of shape \(n_bands, ny, nx\).*\(8, 8\)"):
        BackgroundFields([np.zeros((8, 8))])
    with pytest.raises(ValueError, match="fields must be finite, but field 1 holds 2 NaN or infinite pixels"):
        BackgroundFields([np.zeros((1, 2, 2)), np.array([[[0, np.nan], [np.inf, 0]]])])
    with pytest.raises(ValueError, match="same number of bands"):
        BackgroundFields([np.zeros((3, 8, 8)), np.zeros((2, 8, 8))])
    with pytest.raises(ValueError, match=r"no larger than the fields, \(8, 9\), not \(8, 12\)"):
        stamp_of(BackgroundFields([np.zeros((3, 8, 9))]), (8, 12), np.random.default_rng(0))


def test_pool_of_discs():
    pools = [BackgroundFields.discs(M83, 2, (40, 44), seed, distance=DISTANCE, psf=PSF) for seed in (1, 1, 2)]
    assert [field.shape for field in pools[0].fields] == [(3, 40, 44)] * 2
    for first, again, other in zip(*(pool.fields for pool in pools), strict=True):
        np.testing.assert_array_equal(first, again)
        assert np.mean(first != other) > 0.99
    assert np.mean(pools[0].fields[0] != pools[0].fields[1]) > 0.99
