# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What ClusterEstimate says of draws whose distribution is known."""

import subprocess
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from astropy.utils.masked import Masked
from hypothesis import given
from hypothesis import strategies as st

from clustercnn.densities import shortest_interval
from clustercnn.estimate import FLAGS, ClusterEstimate
from clustercnn.parameters import ParameterSpace, power_law

SPACE = ParameterSpace.paper()


def gaussian(n=4, k=2000, center=0.5, width=0.05, seed=0, **keywords):
    rng = np.random.default_rng(seed)
    return ClusterEstimate(SPACE.from_unit(rng.normal(center, width, (n, k, 4))), SPACE, **keywords)


@pytest.fixture(name="full")
def fixture_full():
    rng = np.random.default_rng(1)
    visibility = rng.lognormal(2, 0.3, (4, 2000))
    return gaussian(p_cluster=[0.1, 0.5, 0.9, 1.0], visibility=visibility, flags=[0, 1, 2, 0], meta={"model": "test"},
                    typicality=[0.3, np.nan, 1e-4, 1.0])


def test_summaries_have_units_and_values(full):
    middle = SPACE.from_coordinates(SPACE.from_unit(np.full(4, 0.5)))
    for name in SPACE.names:
        assert u.allclose(getattr(full, name), middle[name], rtol=0.02)
        lower, upper = full.interval(name, 0.6827)
        parameter = SPACE[name]
        width = np.diff(parameter.bounds)[0]
        assert parameter.to_coordinate(upper) - parameter.to_coordinate(lower) == pytest.approx(0.1 * width, rel=0.1)
    assert full.age.unit.is_equivalent(u.yr) and full.age.shape == (4,)
    assert full.visibility.unit == u.dimensionless_unscaled
    assert full.visibility.value == pytest.approx(np.exp(2), rel=0.05)
    lower, upper = full.interval("visibility")
    assert np.all(lower < full.visibility) and np.all(full.visibility < upper)
    assert gaussian().visibility is None


def test_prior_odds(full):
    assert full.p_cluster_at(1) == pytest.approx(full.p_cluster)
    assert full.p_cluster_at(0.25)[1] == pytest.approx(0.2)
    for odds in (0, -1, np.nan, np.inf, [1, 2, 3, np.inf]):
        with pytest.raises(ValueError, match="prior_odds must be positive and finite"):
            full.p_cluster_at(odds)
    with pytest.raises(ValueError, match="no p_cluster"):
        gaussian().p_cluster_at(1)


def test_sample_resamples_the_draws(full):
    table = full.sample(50, rng=3)
    assert table["mass"].shape == (4, 50) and table["mass"].unit.is_equivalent(u.Msun)
    known = SPACE["a_v"].from_coordinate(full.draws[..., 1]).value
    assert np.isin(table["a_v"].value, known).all()
    # A visibility stays with its draw.
    i = int(np.flatnonzero(known[0] == table["a_v"].value[0, 0])[0])
    assert table["visibility"][0, 0] == full.visibility_draws[0, i]
    assert np.array_equal(full.sample(5, rng=1)["age"].value, full.sample(5, rng=1)["age"].value)


def test_marginal_and_joint_are_densities(full):
    edges, density = full.marginal("age")
    assert len(edges) == 21 and density.shape == (4, 20)
    widths = np.diff(SPACE["age"].to_coordinate(edges))
    assert (density * widths).sum(axis=1) == pytest.approx(1)
    edges_a, edges_b, joint = full.joint("age", "a_v", bins=(20, 30))
    assert joint.shape == (4, 20, 30) and len(edges_b) == 31 and u.allclose(edges_a, edges)
    assert (joint * widths[:, None]).sum(axis=1) * 0.1 * 10 == pytest.approx(full.marginal("a_v", 30)[1] * 0.1 * 10)
    assert joint.sum(axis=2) * 0.1 == pytest.approx(density)


def mixture(weights, centers, width, n=200, k=200):
    rng = np.random.default_rng(5)
    unit = rng.random((n, k, 4))
    unit[:, :, 0] = rng.normal(np.array(centers)[rng.choice(len(centers), (n, k), p=weights)], width)
    return ClusterEstimate(SPACE.from_unit(np.clip(unit, 0, 1)), SPACE)


def share(estimate, name="age"):
    kinds, counts = np.unique(estimate.morphology(name), return_counts=True)
    return dict(zip(kinds.tolist(), (counts / len(estimate)).tolist(), strict=True))


def test_morphology():
    assert share(mixture([1], [0.5], 0.05)).get("unimodal", 0) > 0.97
    assert share(mixture([1], [0.02], 0.05)).get("unimodal", 0) > 0.97  # cut off at the bound
    assert share(mixture([1], [0.5], 0.16)).get("extended", 0) > 0.9
    assert share(mixture([0.6, 0.4], [0.25, 0.75], 0.05)).get("multimodal", 0) > 0.97
    assert share(mixture([0.97, 0.03], [0.25, 0.75], 0.05)).get("multimodal", 0) < 0.03  # a few stray draws
    assert share(mixture([0.5, 0.5], [0.48, 0.52], 0.05)).get("multimodal", 0) < 0.03  # not resolved


def test_modes():
    estimate = mixture([0.65, 0.35], [0.25, 0.75], 0.04, n=3, k=3000)
    expected = SPACE["age"].from_coordinate(SPACE.from_unit([[0.25] * 4, [0.75] * 4])[:, 0])
    for modes in estimate.modes("age"):
        assert len(modes) == 2 and modes.unit == expected.unit
        assert np.abs(np.log10(modes / expected).value).max() < 0.15


def test_reweight_to_a_gaussian_prior():
    # A Gaussian times a Gaussian of the same width: halfway, and narrower by the square root of two.
    estimate = gaussian(n=3, k=50_000, width=0.1)
    again = estimate.reweight(lambda v: np.exp(-0.5 * ((v["a_v"].to_value(u.mag) / 3 - 0.7) / 0.1) ** 2), rng=1)
    assert again.a_v.value == pytest.approx(3 * 0.6, abs=0.03)
    assert again.draws[..., 1].std(axis=1) == pytest.approx(0.3 / 2**0.5, rel=0.05)
    assert again.draws[..., 2].std(axis=1) == pytest.approx(estimate.draws[..., 2].std(axis=1), rel=0.05)
    assert np.all((again.effective_sample_size > 1000) & (again.effective_sample_size < 40_000))
    assert np.all(again.flags == 0)
    same = estimate.reweight(lambda v: 1.0)
    assert same.effective_sample_size == pytest.approx(50_000)
    assert np.array_equal(same.draws, estimate.draws)


def test_reweight_takes_densities_of_any_scale_and_visibilities_with_their_draws(full):
    def prior(values):
        return (values["mass"] / (1e4 * u.Msun)).to_value(u.one)

    plain = full.reweight(prior)
    for factor in 1e300, 1e-300:
        scaled = full.reweight(lambda values, factor=factor: factor * prior(values))
        np.testing.assert_array_equal(scaled.draws, plain.draws)
        np.testing.assert_allclose(scaled.effective_sample_size, plain.effective_sample_size)
    for before, after in zip(full, plain, strict=True):
        pairs = {(*draw, visibility) for draw, visibility in zip(before.draws[0].tolist(), before.visibility_draws[0].tolist(), strict=True)}
        assert pairs >= {(*draw, visibility) for draw, visibility in zip(after.draws[0].tolist(), after.visibility_draws[0].tolist(), strict=True)}


def test_at_bound():
    """A quarter of the draws in the last fiftieth is a pile, a sixth is none."""
    for share, expected in ((0.25, True), (0.16, False)):
        unit = np.random.default_rng(1).uniform(0.3, 0.7, (1, 1000, 4))
        unit[:, : int(1000 * share), 0] = 0.99
        estimate = ClusterEstimate(SPACE.from_unit(unit), SPACE)
        assert estimate.at_bound("age").tolist() == [expected] and estimate.at_bound("mass").tolist() == [False]


def test_reweight_to_a_box_and_to_nothing():
    estimate = gaussian(n=2, k=500)
    smaller = ParameterSpace(
        [p if p.name != "a_v" else type(p)("a_v", 1.5 * u.mag, 3 * u.mag, "linear", 5) for p in SPACE.parameters]
    )
    inside = estimate.reweight(smaller)
    assert np.all(inside.draws[..., 1] >= 1.5)
    assert inside.effective_sample_size == pytest.approx(250, rel=0.15)
    nothing = estimate.reweight(lambda v: np.zeros(v["age"].shape))
    assert np.array_equal(nothing.effective_sample_size, [0, 0])
    assert np.array_equal(nothing.flags, 2 * [FLAGS["few effective draws"]])
    assert np.array_equal(nothing.draws, estimate.draws)
    for prior in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="finite densities"):
            estimate.reweight(lambda v, prior=prior: prior)
    # a box that the flat prior of the logarithm is not flat in
    linear = ParameterSpace([p if p.name != "mass" else type(p)("mass", p.lower, p.upper, "linear") for p in SPACE.parameters])
    with pytest.raises(ValueError, match="prior must have the parameters and scales of <ParameterSpace age"):
        estimate.reweight(linear)
    with pytest.raises(ValueError, match=r"prior must give densities of shape \(2, 500\), not \(3,\)"):
        estimate.reweight(lambda v: np.ones(3))
    with pytest.raises(TypeError, match=r"prior must be a ParameterSpace or a function, such as .*, not \{'age': 1\}"):
        estimate.reweight({"age": 1})
    with pytest.raises(TypeError, match=r"not array\(\[\[1\., 1\., .* \.\.\.$"):  # of many weights not all are told
        estimate.reweight(np.ones((2, 500)))


def test_table(full):
    table = full.to_table()
    assert isinstance(table, QTable) and len(table) == 4
    columns = [f"{name}{end}" for name in (*SPACE.names, "visibility") for end in ("", "_lo", "_hi")]
    assert table.colnames == [*columns, "p_cluster", "typicality", "flags"]
    assert np.all(table["mass_lo"] < table["mass"]) and table["a_v"].unit == u.mag
    assert table.meta["model"] == "test"


def test_selection(full):
    assert len(full[1]) == 1 and full[1].p_cluster.tolist() == [0.5]
    assert len(full[1:3]) == 2 and full[1:3].flags.tolist() == [1, 2]
    assert full[np.array([True, False, False, True])].p_cluster.tolist() == [0.1, 1.0]
    assert [e.p_cluster[0] for e in full] == full.p_cluster.tolist()
    assert len(full[[]]) == 0 and full[[2, 0, 0]].p_cluster.tolist() == [0.9, 0.1, 0.1]
    assert full[[True, False, False, True]].p_cluster.tolist() == [0.1, 1.0]
    for item in (4, -5, [4], [True], "age"):
        with pytest.raises(IndexError):
            full[item]
    with pytest.raises(IndexError, match="must not be masked: fill it with False"):
        full[np.ma.array([True] * 4, mask=[True, False, False, False])]


def test_files_are_not_replaced_unasked(tmp_path):
    path = tmp_path / "a.fits"
    gaussian(n=2, k=20).write(path)
    with pytest.raises(OSError, match="overwrite=True"):
        gaussian().write(path)
    assert len(ClusterEstimate.read(path)) == 2
    gaussian().write(path, overwrite=True)
    assert len(ClusterEstimate.read(path)) == 4
    assert [file.name for file in tmp_path.iterdir()] == ["a.fits"]


def test_ecsv_and_other_files(full, tmp_path):
    path = tmp_path / "a.ecsv"
    full.write(path)
    with pytest.raises(ValueError, match="summary without draws"):
        ClusterEstimate.read(path)
    with pytest.raises(ValueError, match="must end in .fits or .ecsv"):
        full.write(tmp_path / "a.csv")
    (tmp_path / "text.fits").write_text("no FITS")
    QTable({"a": [1]}).write(tmp_path / "b.fits")
    full.write(tmp_path / "c.fits")
    table = QTable.read(tmp_path / "c.fits")
    table["draws"][0, 0, 0] = np.nan
    table.write(tmp_path / "c.fits", overwrite=True)
    table.rename_column("p_cluster", "p")
    table.write(tmp_path / "d.fits")
    for name in ("text", "b", "c", "d"):
        with pytest.raises(ValueError, match=f"{name}.fits is not an estimate in FITS"):
            ClusterEstimate.read(tmp_path / f"{name}.fits")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"draws": np.zeros((2, 3))}, "draws must have shape"),
        ({"draws": np.zeros((2, 3, 5))}, "draws must have shape"),
        ({"draws": np.full((2, 3, 4), np.nan)}, "draws must be finite, but those of source 0 are not: leave it out"),
        ({"draws": np.full((2, 3, 4), 90.0)}, "draws must be coordinates of the space, .* but of source 0 age is 90, more than a range beyond 0.575"),
        ({"visibility": np.full((2, 3), np.inf)}, "visibility must be finite, or NaN where unknown"),
        ({"p_cluster": [0.5]}, "p_cluster must have shape"),
        ({"p_cluster": [0.5, 2]}, "p_cluster must lie between 0 and 1, not 2"),
        ({"p_cluster": [0.5, np.nan]}, "p_cluster must be finite, not nan"),
        ({"effective_sample_size": [2.0, np.inf]}, "effective_sample_size must be finite, not inf"),
        ({"effective_sample_size": [np.nan, 2.0]}, "effective_sample_size must be finite, not nan"),
        ({"p_cluster": np.ma.array([0.5, 0.6], mask=[True, False])}, "p_cluster must not be masked"),
        ({"draws": Masked(np.zeros((2, 3, 4)), mask=True)}, "draws must not be masked"),
        ({"visibility": np.full((2, 3), -1.0)}, "visibility must lie between 0 and inf"),
        ({"flags": [1, -1]}, "flags must lie between 0 and inf"),
        ({"visibility": np.ones((2, 4))}, "visibility must have shape"),
        ({"flags": [1]}, "flags must have shape"),
    ],
)
def test_bad_construction(arguments, match):
    with pytest.raises(ValueError, match=match):
        ClusterEstimate(**{"draws": SPACE.from_unit(np.full((2, 3, 4), 0.5)), "space": SPACE} | arguments)


def test_arrays_of_other_kinds(full):
    """Big-endian tables and dimensionless Quantities are taken, other units and flags that are no integers not."""
    swapped = ClusterEstimate(full.draws.astype(">f4"), SPACE, full.p_cluster.astype(">f8"), u.Quantity(full.visibility_draws),
                              full.flags.astype(">i2"), typicality=full.typicality * 100 * u.percent)
    for name in ("draws", "p_cluster", "visibility_draws", "flags", "typicality"):
        np.testing.assert_allclose(getattr(swapped, name), getattr(full, name))
        assert getattr(swapped, name).dtype == getattr(full, name).dtype
    with pytest.raises(u.UnitsError, match="draws must have a unit"):
        ClusterEstimate(full.draws * u.Myr, SPACE)
    for flags in ([0.5, 1, 2, 3], np.full(4, np.nan)):
        with pytest.raises(TypeError, match="flags must be integers, not float64"):
            gaussian(flags=flags)


def test_bad_questions(full):
    for ask in (full.marginal, full.modes, full.morphology, full.interval):
        with pytest.raises(ValueError, match="name must be one of"):
            ask("metallicity")
    with pytest.raises(ValueError, match="level must lie"):
        full.interval("age", 68)
    for bins in (0, 2.7, np.nan):
        for ask in (lambda: full.marginal("age", bins), lambda: full.joint("age", "a_v", (5, bins))):
            with pytest.raises(ValueError, match=f"bins must be a whole number of 1 or more, not {bins}"):
                ask()
    with pytest.raises(ValueError, match=r"one for each of the two parameters, not \(1, 2, 3\)"):
        full.joint("age", "a_v", (1, 2, 3))
    with pytest.raises(ValueError, match="n must be at least 1, not -1"):
        full.sample(-1)
    with pytest.raises(ValueError, match="not 'visibility': this estimate has none"):
        gaussian().interval("visibility")


def test_masked_densities_of_a_prior_are_refused(full):
    with pytest.raises(ValueError, match="prior must give densities that are not masked"):
        full.reweight(lambda values: np.ma.array(np.ones(full.draws.shape[:2]), mask=True))
    plain, in_units = (full.reweight(prior, rng=3) for prior in (lambda values: 1 / values["mass"].value, lambda values: 1 / values["mass"]))
    np.testing.assert_array_equal(plain.draws, in_units.draws)


def test_needs_no_torch():
    code = (
        "import sys, clustercnn.estimate, clustercnn.calibration as c; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_means_are_along_the_coordinate(full):
    """Geometric of ages and masses, arithmetic of A_V."""
    for i, name in enumerate(SPACE.names):
        expected = SPACE[name].from_coordinate(full.draws[:, :, i].mean(axis=1, dtype=float))
        assert u.allclose(full.mean(name), expected)
    with pytest.raises(ValueError, match="name must be one of"):
        full.mean("visibility")


@given(st.floats(0.1, 0.95), st.integers(0, 1000))
def test_highest_density_is_the_shortest(level, seed):
    """Never wider than the interval of equal tails, around the peak, and with the probability that it says."""
    rng = np.random.default_rng(seed)
    unit = rng.beta(1.2, 6.0, (5, 400, 4))  # leaning to one side
    estimate = ClusterEstimate(SPACE.from_unit(unit), SPACE, visibility=np.exp(unit[..., 0]))
    for name in (*SPACE.names, "visibility"):
        (low, high), (left, right) = (estimate.interval(name, level, kind) for kind in ("highest-density", "equal-tailed"))
        draws = estimate.visibility_draws if name == "visibility" else SPACE.from_coordinates(estimate.draws)[name]
        inside = ((draws >= low[:, None] * (1 - 1e-6)) & (draws <= high[:, None] * (1 + 1e-6))).mean(axis=1)
        assert np.all(inside >= level - 1e-9) and np.all(inside < level + 0.03)

        def width(a, b):
            return np.log(b / a).value if name != "a_v" else (b - a).value

        assert np.all(width(low, high) <= width(left, right) * 1.02 + 1e-6)


def test_shortest_intervals_hold_less_than_they_say():
    """As their docstring tells: they are chosen by the draws that they shall hold."""
    rng = np.random.default_rng(7)
    center = rng.standard_normal((10_000, 1))
    low, high = shortest_interval(center + rng.standard_normal((10_000, 200)), 0.68)
    truth = center[:, 0] + rng.standard_normal(10_000)
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(0.65, abs=4 * np.sqrt(0.65 * 0.35 / 10_000))


def test_kinds_of_intervals(full):
    with pytest.raises(ValueError, match="kind must be 'equal-tailed' or 'highest-density', not 'central'"):
        full.interval("age", 0.68, "central")


def test_weights_of_modes():
    estimate = mixture([0.3, 0.7], [0.2, 0.7], 0.03, n=50, k=1000)
    modes, weights = estimate.modes("age", return_weights=True)
    assert [len(peaks) for peaks in modes] == [2] * 50
    assert np.mean([weight[0] for weight in weights]) == pytest.approx(0.7, abs=0.02)
    assert all(sum(weight) == pytest.approx(1) for weight in weights)
    assert all(u.allclose(a, b) for a, b in zip(modes, estimate.modes("age"), strict=True))


def test_correlation():
    rng = np.random.default_rng(2)
    first, noise = rng.normal(0.5, 0.05, (2, 3, 5000))
    unit = np.full((3, 5000, 4), 0.5)
    unit[..., 0], unit[..., 1] = first, 0.5 - 0.8 * (first - 0.5) + 0.6 * (noise - 0.5)
    estimate = ClusterEstimate(SPACE.from_unit(unit), SPACE)
    assert estimate.correlation("age", "a_v") == pytest.approx(-0.8 * np.ones(3), abs=0.03)
    assert estimate.correlation("age", "age") == pytest.approx(np.ones(3))
    assert np.isnan(estimate.correlation("age", "mass")).all()  # which does not vary


def test_information_gain():
    """Nothing from the prior, one bit from a half of it, and what a Gaussian has."""
    rng = np.random.default_rng(5)
    unit = rng.random((20, 400, 4))
    assert abs(ClusterEstimate(SPACE.from_unit(unit), SPACE).information_gain().mean()) < 0.05
    unit[..., 2] *= 0.5
    half = ClusterEstimate(SPACE.from_unit(unit), SPACE)
    assert half.information_gain().mean() == pytest.approx(1, abs=0.15)  # neighbourhoods reach over the sharp edge
    assert half.information_gain(["mass"]).mean() == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(half.information_gain("mass"), half.information_gain(["mass"]))
    assert abs(half.information_gain(["age", "a_v"]).mean()) < 0.05
    narrow = gaussian(n=20, k=400, width=0.05)
    assert narrow.information_gain().mean() == pytest.approx(-4 * np.log2(0.05 * np.sqrt(2 * np.pi * np.e)), abs=0.2)
    copies = ClusterEstimate(np.repeat(narrow.draws[:, :5], 80, axis=1), SPACE)
    assert np.isnan(copies.information_gain()).all()
    resampled = ClusterEstimate(np.repeat(narrow.draws[:, :200], 2, axis=1), SPACE)
    assert resampled.information_gain().mean() == pytest.approx(narrow.information_gain().mean(), abs=0.2)


def test_information_gain_of_another_prior():
    """Copies count as weights: the flat prior made a Gaussian by weights has the information of the Gaussian."""
    flat = ClusterEstimate(SPACE.from_unit(np.random.default_rng(6).random((10, 2000, 4))), SPACE)
    narrow = flat.reweight(lambda v: np.exp(-0.5 * ((v["a_v"].to_value(u.mag) / 3 - 0.5) / 0.1) ** 2))
    expected = -np.log2(0.1 * np.sqrt(2 * np.pi * np.e))
    assert narrow.information_gain(["a_v"]).mean() == pytest.approx(expected, abs=0.05)
    assert narrow.information_gain().mean() == pytest.approx(expected, abs=0.1)
    assert narrow.information_gain(["age", "mass"]).mean() == pytest.approx(0, abs=0.1)


def test_what_cannot_be_concatenated(full):
    bare = gaussian()
    for others, message in [
        ([], "at least one"), ([full, bare], "agree in their p_cluster"), ([bare, gaussian(k=10)], "agree in their number of draws"),
    ]:
        with pytest.raises(ValueError, match=message):
            ClusterEstimate.concatenate(others)


def test_typicality(full):
    """It is told where it is known, and nothing else changes it."""
    np.testing.assert_array_equal(full.to_table()["typicality"], full.typicality)
    np.testing.assert_array_equal(full.reweight(SPACE).typicality, full.typicality)
    assert full[2].typicality.tolist() == [1e-4]
    assert gaussian().typicality is None and "typicality" not in gaussian().to_table().colnames
    with pytest.raises(ValueError, match="typicality must lie between 0 and 1"):
        gaussian(typicality=[0.5, -0.1, 1.0, 0.0])
    with pytest.raises(ValueError, match="estimates must agree in their typicality"):
        ClusterEstimate.concatenate([gaussian(), gaussian(typicality=[1.0] * 4)])


def test_repr_and_plot(full):
    assert repr(full) == "<ClusterEstimate of 4 sources, 2000 draws of age, a_v, mass, half_light_radius>"
    assert repr(full[:1]).startswith("<ClusterEstimate of 1 source,")
    plt = pytest.importorskip("matplotlib.pyplot")
    figure = full.plot(0)
    assert figure.axes
    plt.close(figure)


def test_wrong_questions(full, tmp_path):
    with pytest.raises(ValueError, match="q must lie between 0 and 1, not 1.2"):
        full.quantile("age", 1.2)
    with pytest.raises(ValueError, match="prior must have the parameters"):
        full.reweight(ParameterSpace(SPACE.parameters[:3]))
    with pytest.raises(FileNotFoundError):
        ClusterEstimate.read(tmp_path / "absent.fits")


@pytest.mark.parametrize(("name", "slope"), [("mass", -2.0), ("age", 0.0), ("a_v", -1.0)])
def test_power_laws(name, slope):
    """The flat prior, reweighted, has the density of the power law per unit of the parameter itself."""
    flat = ClusterEstimate(SPACE.from_unit(np.random.default_rng(1).random((1, 200_000, 4))), SPACE)
    if name == "a_v":
        with pytest.raises(ValueError, match="a_v may be 0, where a power law with a slope of -1.0 is infinite"):
            flat.reweight(power_law(SPACE[name], slope))
        return
    heavy = flat.reweight(power_law(SPACE[name], slope))
    lower, upper = (end.value for end in (SPACE[name].lower, SPACE[name].upper))
    value = SPACE.from_coordinates(heavy.draws)[name].value[0]
    power = slope + 1
    expected = np.log(value / lower) / np.log(upper / lower) if power == 0 else (value**power - lower**power) / (upper**power - lower**power)
    np.testing.assert_allclose(np.quantile(expected, [0.1, 0.25, 0.75, 0.9]), [0.1, 0.25, 0.75, 0.9], atol=0.02)
    assert expected.mean() == pytest.approx(0.5, abs=0.02)


def test_several_quantiles_at_once(full):
    low, middle = full.quantile("age", [0.16, 0.5])
    np.testing.assert_allclose(low, full.quantile("age", 0.16), rtol=1e-6)  # single precision
    np.testing.assert_allclose(middle, full.age, rtol=1e-6)
    assert full.quantile("visibility", [0.1, 0.2, 0.3]).shape == (3, len(full))
    with pytest.raises(ValueError, match="q must lie between 0 and 1"):
        full.quantile("age", [0.5, 1.5])


def test_as_many_bins_for_both(full):
    assert full.joint("age", "a_v", bins=5)[2].shape == full.joint("age", "a_v", bins=(5, 5))[2].shape == (len(full), 5, 5)
