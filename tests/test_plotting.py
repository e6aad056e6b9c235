# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Pictures: what is drawn is where it belongs, says its units, and survives awkward input.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, Table
from astropy.utils.masked import Masked

from clustercnn import plotting
from clustercnn.estimate import ClusterEstimate
from clustercnn.images import MultiBandImage
from clustercnn.parameters import ParameterSpace

plt = pytest.importorskip("matplotlib.pyplot")

SPACE = ParameterSpace.paper()
UNIT = u.electron / u.s


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(name="images")
def fixture_images():
    """Noise with one red and one blue source."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:80, :96]
    blue = 100 * np.exp(-((x - 20) ** 2 + (y - 30) ** 2) / 8)
    red = 100 * np.exp(-((x - 70) ** 2 + (y - 60) ** 2) / 8)
    planes = [rng.normal(0.5, 0.1, x.shape) + light for light in (blue, (blue + red) / 2, red)]
    return MultiBandImage({band: plane * UNIT for band, plane in zip(("F336W", "F438W", "F814W"), planes)})


@pytest.fixture(name="estimate")
def fixture_estimate():
    """Posteriors of five sources: four narrow, the last one of draws that are all equal."""
    rng = np.random.default_rng(2)
    centers = rng.uniform(0.2, 0.8, (5, 1, 4))
    unit = np.clip(centers + rng.normal(0, 0.05, (5, 300, 4)), 0, 1)
    unit[-1] = centers[-1]
    visibility = np.repeat(np.geomspace(3, 300, 5)[:, None], 300, axis=1)
    return ClusterEstimate(SPACE.from_unit(unit), SPACE, p_cluster=np.linspace(0.1, 0.9, 5), visibility=visibility)


def test_color_image_shows_colors(images):
    rgb = plotting.color_image(images)
    assert rgb.shape == (80, 96, 3)
    assert rgb.dtype == np.uint8
    assert rgb[30, 20].argmax() == 2 and rgb[60, 70].argmax() == 0
    np.testing.assert_array_equal(plotting.color_image(images, ("F814W", "F438W", "F336W")), rgb[..., ::-1])


def test_color_image_does_not_depend_on_the_unit(images):
    scaled = MultiBandImage({band: images[band].data * 1e-20 * u.Jy for band in images.bands})
    np.testing.assert_allclose(plotting.color_image(scaled).astype(int), plotting.color_image(images), atol=1)


def test_color_image_leaves_bad_pixels_black(images):
    data = {band: np.array(images[band].data) for band in images.bands}
    for plane in data.values():
        plane[:10] = np.nan
    rgb = plotting.color_image(MultiBandImage({band: plane * UNIT for band, plane in data.items()}))
    assert (rgb[:10] == 0).all()
    assert rgb[60, 70].max() > 100


def test_color_image_of_one_band_is_grey(images):
    rgb = plotting.color_image(MultiBandImage({"F438W": images["F438W"]}))
    assert (np.ptp(rgb, axis=-1) == 0).all()


def test_plot_image_circles_sources(images):
    positions = np.array([[20.0, 30.0], [70.0, 60.0]])
    ax = plotting.plot_image(images, positions, radius=5, labels=["a", "b"])
    circles, = ax.collections
    np.testing.assert_allclose(circles.get_offsets(), positions)
    assert [text.get_text() for text in ax.texts] == ["a", "b"]
    assert ax.get_xlabel() == "x [pixel]"
    assert ax.get_ylim()[0] < ax.get_ylim()[1]


def test_plot_recovery(estimate):
    truth = QTable(SPACE.from_coordinates(estimate.draws[:, 0]))
    axes = plotting.plot_recovery(truth, estimate.to_table())
    assert len(axes) == 4
    assert "Myr" in axes[0].get_xlabel() and "arcsec" in axes[3].get_xlabel()
    assert [ax.get_xscale() for ax in axes] == ["log", "linear", "log", "log"]
    assert "dex" in axes[0].texts[0].get_text() and "mag" in axes[1].texts[0].get_text()
    error = estimate.to_table()["a_v"] - truth["a_v"]
    assert f"= {1.48 * np.median(np.abs(error - np.median(error))).value:.2f} " in axes[1].texts[0].get_text()
    axes[0].figure.canvas.draw()


def test_plot_recovery_leaves_out_what_is_not_known(estimate):
    truth, inferred = QTable(SPACE.from_coordinates(estimate.draws[:, 0])), estimate.to_table()
    truth["age"][1] = np.nan
    truth["mass"] = Masked(truth["mass"], mask=[0, 0, 1, 1, 0])
    inferred["visibility"][:] = np.nan
    axes = plotting.plot_recovery(truth, inferred)
    assert [len(ax.collections[1].get_offsets()) for ax in axes] == [4, 5, 3, 5]
    del inferred["visibility"]
    plotting.plot_recovery(truth, inferred)[0].figure.canvas.draw()
    with pytest.raises(TypeError, match="age of truth must be a Quantity such as 1 "):
        plotting.plot_recovery(Table({name: [1.0] * 5 for name in SPACE.names}), inferred)


def test_plot_recovery_of_an_estimate(estimate):
    """And of a plain table of the truth, whose units stand beside the numbers."""
    truth = QTable({name: estimate.quantile(name, 0.3) for name in estimate.space.names})
    one, two = plotting.plot_recovery(truth, estimate.to_table()), plotting.plot_recovery(Table(truth), estimate)
    for first, second in zip(one, two):
        np.testing.assert_array_equal(first.collections[1].get_offsets(), second.collections[1].get_offsets())


def test_plot_recovery_counts_the_rows(estimate):
    truth = QTable(SPACE.from_coordinates(estimate.draws[:3, 0]))
    with pytest.raises(ValueError, match="one row per source each, not 3 and 5"):
        plotting.plot_recovery(truth, estimate.to_table())


def test_plot_recovery_of_nothing(estimate):
    truth = QTable(SPACE.from_coordinates(estimate.draws[:0, 0]))
    axes = plotting.plot_recovery(truth, estimate.to_table()[:0])
    axes[0].figure.canvas.draw()


def test_plot_completeness():
    edges = [1e3, 1e4, 1e5, 1e6] * u.Msun
    curve = QTable({"lower": edges[:-1], "upper": edges[1:], "fraction": [0.1, np.nan, 0.9], "error": [0.05, np.nan, 0.1]})
    magnitudes = QTable({"lower": [20, 22] * u.mag, "upper": [22, 24] * u.mag, "fraction": [1, 0.5], "error": [0, 0.1]})
    axes = plotting.plot_completeness({"mass": curve, "F438W": magnitudes})
    assert axes[0].get_xlim() == (1e3, 1e6) and axes[0].get_xscale() == "log"
    assert axes[1].get_xlabel().startswith("F438W") and axes[1].get_xscale() == "linear"
    axes[0].figure.canvas.draw()


@pytest.mark.parametrize("i", [0, 4])
def test_plot_joint_peaks_at_the_median(estimate, i):
    ax = plotting.plot_joint(estimate, i, truth=estimate.to_table()[i])
    mesh = ax.collections[0]
    density = np.asarray(mesh.get_array()).reshape(64, 64)
    assert density.sum() == pytest.approx(1)
    row, column = np.unravel_index(density.argmax(), density.shape)
    age, a_v, *_ = SPACE.to_unit(np.median(estimate.draws[i], axis=0))
    assert column / 64 == pytest.approx(age, abs=0.05)
    assert row / 64 == pytest.approx(a_v, abs=0.05)
    assert ax.get_xlim() == pytest.approx((10**0.575, 10**4.125))
    ax.figure.canvas.draw()


def test_levels_hold_their_fractions():
    x = np.linspace(-4, 4, 200)
    density = np.exp(-(x**2 + x[:, None] ** 2) / 2)
    density /= density.sum()
    outer, inner = plotting._levels(density, (0.95, 0.68))
    assert density[density > outer].sum() == pytest.approx(0.95, abs=0.005)
    assert density[density > inner].sum() == pytest.approx(0.68, abs=0.005)


def test_density_respects_the_bounds():
    samples = np.abs(np.random.default_rng(1).normal(0, 0.2, (4000, 1)))  # piles up at the lower bound
    density = plotting._density(samples, np.array([[0.0, 1.0]]))
    assert density.sum() == pytest.approx(1)
    assert density[0] > 0.9 * density.max()


def test_plot_posterior_of_one_parameter_and_a_row_of_a_plain_table(estimate):
    truth = Table(estimate.to_table())[3]
    one = ParameterSpace([SPACE["age"]])
    figure = plotting.plot_posterior(ClusterEstimate(estimate.draws[:, :, :1], one), 3, truth)
    assert figure.axes[0].lines[1].get_xdata()[0] == truth["age"]
    with pytest.raises(TypeError, match="age must be a Quantity"):
        plotting.plot_posterior(estimate, 3, {"age": 3.0})


def test_plot_posterior(estimate):
    figure = plotting.plot_posterior(estimate, 3, truth=estimate.to_table()[3])
    axes = np.array(figure.axes).reshape(4, 4)
    assert "Myr" in axes[0, 0].get_title() and "M" in axes[2, 2].get_title()
    assert axes[3, 0].get_xlabel().startswith("age") and axes[3, 0].get_ylabel().startswith("half-light radius")
    assert "p(cluster) = 0.70" in axes[0, 3].texts[0].get_text()
    figure.canvas.draw()


@pytest.mark.parametrize("numbers, text", [
    ((90, 100, 120), r"$100_{-10}^{+20}$ Myr"),
    ((1.9, 2, 2.3), r"$2.00_{-0.10}^{+0.30}$ Myr"),
    ((2e4, 3e4, 5e4), r"$3.0_{-1.0}^{+2.0}\times10^{4}$ Myr"),
])
def test_values_have_the_digits_of_their_errors(numbers, text):
    written = plotting._value(*numbers, u.Myr)
    assert written.replace(r"\mathrm{Myr}", "Myr").replace("$Myr$", "Myr") == text


@pytest.mark.parametrize("matched", [[0, 1, 2, 3], [3], []])
def test_plot_overview(images, estimate, matched):
    catalog = estimate.to_table()
    catalog["x_centroid"], catalog["y_centroid"] = np.linspace(10, 80, 5), np.linspace(70, 10, 5)
    catalog["p_cluster"] = 0.99
    truth = QTable(SPACE.from_coordinates(estimate.draws[:, 0]))
    truth["x_centroid"], truth["y_centroid"] = catalog["x_centroid"], catalog["y_centroid"]
    pairs = QTable({"first": np.array(matched, int), "second": np.array(matched, int)})
    figure = plotting.plot_overview(images, truth, catalog, pairs, estimate[matched], accepted=catalog["p_cluster"] > 0.9)
    figure.canvas.draw()
    numbers = [ax.get_title().partition(":")[0] for ax in figure.get_axes() if "visibility" in ax.get_title()]
    assert numbers == ["1", "2", "3"][: len(matched)]  # each source once


def test_history_of_a_training():
    history = QTable({"samples": [100, 200, 300], "train_nll": [2.0, 1.0, 0.5], "nll": [1.8, 0.9, 0.6], "auc": [0.7, 0.9, 0.95]})
    losses, classes = plotting.plot_history(history)
    curves = {line.get_label(): line.get_ydata().tolist() for line in losses.lines}
    assert curves == {"training": [2.0, 1.0, 0.5], "validation": [1.8, 0.9, 0.6]}
    np.testing.assert_allclose(classes.lines[0].get_ydata(), [0.3, 0.1, 0.05])
    losses, classes = plotting.plot_history(history["samples", "train_nll"])  # without validation
    assert len(losses.lines) == 1 and not classes.lines
