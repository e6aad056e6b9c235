# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The classical peer for catalogues: its library is the light of clusters drawn star by star, and its posteriors are honest.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Column, MaskedColumn, QTable, Table
from scipy.special import ndtr
from scipy.stats import ks_2samp

from clustercnn.calibration import coverage, rank_histogram
from clustercnn.estimate import FLAGS
from clustercnn.parameters import Parameter, ParameterSpace
from clustercnn.photometric_inference import PER_MAGNITUDE, StochasticMagnitudes, _Mocks, _read_photometry, _weights
from clustercnn.simulation import SyntheticCluster
from clustercnn.stellar import pivot_wavelength, vega_to_ab, vega_to_st

BANDS = "F336W", "F438W", "F814W"
DISTANCE = 4.5 * u.Mpc
ERROR = 0.1  # mag
LINE = ParameterSpace([Parameter("flux", -20 * u.one, 20 * u.one, "linear")])


@pytest.fixture(name="peer", scope="module")
def fixture_peer():
    return StochasticMagnitudes(BANDS, distance=DISTANCE, samples=10_000, rng=1)


@pytest.fixture(name="others", scope="module")
def fixture_others():
    """Other clusters of the same prior."""
    return StochasticMagnitudes(BANDS, distance=DISTANCE, samples=512, rng=2)


def catalogue(magnitudes, error=ERROR, unit=u.mag):
    table = QTable()
    for band, values in zip(BANDS, np.transpose(magnitudes)):
        table[band] = values * unit
        table[f"{band}_err"] = np.full(len(values), error) * u.mag
    return table


def observed(others, seed, n=512):
    """A catalogue of the others, each cluster once, and their parameters; the fluxes have the errors stated and the least width."""
    rng = np.random.default_rng(seed)
    rows = np.arange(n) + 512 * rng.integers(10, size=n)
    true = others._mocks.fluxes[rows]
    flux = true * np.exp(0.05 * PER_MAGNITUDE * rng.standard_normal(true.shape))
    error = PER_MAGNITUDE * ERROR * true
    flux += error * rng.standard_normal(true.shape)
    table = catalogue(-2.5 * np.log10(flux))
    for band, relative in zip(BANDS, (error / flux).T):
        table[f"{band}_err"] = relative / PER_MAGNITUDE * u.mag
    return table, others.space.from_unit(ndtr(others._mocks.normal[rows]))


def test_library_is_the_light_of_clusters():
    """Against clusters with all their stars, of one age, mass and A_V."""
    narrow = ParameterSpace([Parameter("age", 99.9 * u.Myr, 100.1 * u.Myr), Parameter("a_v", 0.999 * u.mag, 1.001 * u.mag, "linear"),
                             Parameter("mass", 999 * u.Msun, 1001 * u.Msun)])
    library = StochasticMagnitudes(BANDS, narrow, distance=DISTANCE, samples=2000, rng=3)
    mocks = -2.5 * np.log10(library._mocks.fluxes[:2000])
    clusters = [SyntheticCluster(1000 * u.Msun, 100 * u.Myr, 1 * u.pc, 1 * u.mag, distance=DISTANCE, bands=BANDS, rng=i) for i in range(100)]
    stars = np.array([[cluster.magnitude(band).value for band in BANDS] for cluster in clusters])
    for i in range(3):
        assert ks_2samp(mocks[:, i], stars[:, i]).pvalue > 0.01
    assert ks_2samp(mocks[:, 1] - mocks[:, 2], stars[:, 1] - stars[:, 2]).pvalue > 0.01


def test_library_fills_the_prior(peer):
    unit = ndtr(peer._mocks.normal)
    assert unit.shape == (100_000, 3) and unit.min() >= 0 and unit.max() <= 1
    # 10,000 clusters, each behind ten screens, one in each tenth of the range of A_V
    for i in range(3):
        assert np.histogram(unit[:, i], 10, (0, 1))[0] == pytest.approx(10_000, abs=4 * np.sqrt(10 * 9000))
    assert (np.histogram(unit[:, 1], 10, (0, 1))[0] == 10_000).all()


def test_posteriors_are_calibrated(peer, others):
    table, truth = observed(others, 5)
    estimate = peer.predict(table, draws=1000, rng=6)
    values = peer.space.from_coordinates(truth)
    assert (np.abs(coverage(estimate, values)["deviation"]) < 3.5).all()
    for i in range(3):
        ranks = rank_histogram(estimate.draws[:, :, i], truth[:, i].astype(np.float32), bins=8, level=0.9999)
        assert ((ranks["count"] >= ranks["low"]) & (ranks["count"] <= ranks["high"])).all()
    assert np.mean(estimate.flags & FLAGS["few mocks"] > 0) < 0.02
    # they know something: the prior's 1.48 MAD are 1.3 dex, 1.1 mag and 1.5 dex
    scatter = 1.4826 * np.median(np.abs(np.median(estimate.draws, axis=1) - truth), axis=0)
    assert (scatter < [0.5, 0.7, 0.5]).all()


def test_search_finds_what_comparing_all_finds(peer):
    """Mocks that the search leaves out have no weight to speak of."""
    mocks = _Mocks(peer.space, peer.space.from_unit(ndtr(peer._mocks.normal[::5])), peer._mocks.fluxes[::5], 50, noisy=False)
    rng = np.random.default_rng(7)
    for row in rng.choice(len(mocks.fluxes), 20):
        flux = mocks.fluxes[row] * (1 + 0.1 * rng.standard_normal(3))
        for error in (0.001 * flux, 0.2 * flux):
            width = 0.046
            rows, weights, number, *_ = mocks.like(flux, error, width)
            softening = error / width
            distance = (((np.arcsinh(mocks.fluxes / softening) - np.arcsinh(flux / softening)) / width) ** 2).sum(axis=1)
            expected = _weights(distance, 50)[0]
            found = np.zeros_like(expected)
            found[rows] = weights
            assert np.abs(found - expected).sum() < 1e-3
            assert number == pytest.approx(1 / (expected**2).sum(), rel=1e-3) and number > 49.5


def test_regression_takes_the_blur_back():
    """Mocks that are noisy themselves, by 0.05 in the logarithm, and so few that the kernel must be wider."""
    rng = np.random.default_rng(12)
    line = ParameterSpace([Parameter("flux", 0.1 * u.one, 10 * u.one)])
    mocks = rng.uniform(-1, 1, (2000, 1))
    library = _Mocks(line, mocks, 10**mocks * np.exp(0.05 * rng.standard_normal((len(mocks), 1))), 400, noisy=True)
    estimate = library.estimate(1, [(np.array([1.0]), np.array([1e-6]))], 4000, 1, {}, 0.05)
    assert estimate.effective_sample_size == pytest.approx(400, rel=0.05)  # of mocks within 0.2 dex or so
    logarithm = np.log(10) * estimate.draws[0, :, 0]
    assert logarithm.mean() == pytest.approx(0, abs=0.01)
    assert logarithm.std() == pytest.approx(0.05, rel=0.15)


def test_faint_fluxes_are_compared_as_fluxes():
    """Where the error is large the kernel is a Gaussian of the flux, negative ones too."""
    fluxes = np.linspace(-10, 10, 2001)[:, None]
    rows, weights, *_ = _Mocks(LINE, fluxes, fluxes, 10, noisy=False).like(np.array([-1.0]), np.array([1.0]), 0.02)
    found = fluxes[rows, 0]
    assert (weights * found).sum() == pytest.approx(-1, abs=0.01)
    assert np.sqrt((weights * (found + 1) ** 2).sum()) == pytest.approx(1, abs=0.01)


def test_bright_fluxes_have_the_error_convolved_with_the_least_width():
    fluxes = np.exp(np.linspace(-1, 1, 20_001))[:, None]
    for relative in (1e-6, 0.05):
        rows, weights, *_ = _Mocks(LINE, fluxes, fluxes, 10, noisy=False).like(np.array([1.0]), np.array([relative]), 0.05)
        logarithm = np.log(fluxes[rows, 0])
        assert np.sqrt((weights * logarithm**2).sum()) == pytest.approx(np.hypot(relative, 0.05), rel=0.02)


def test_missing_bands_are_not_used(peer, others):
    table, _ = observed(others, 8, 4)
    reference = peer.predict(table)
    assert (reference.flags == 0).all()
    table["F336W"][1] = np.nan
    table["F336W_err"][2] = np.nan
    for name in BANDS:
        table[name][3] = np.nan
    estimate = peer.predict(table)
    lost = FLAGS["missing bands"]
    assert estimate.flags.tolist() == [0, lost, lost, lost | FLAGS["no answer"]]
    np.testing.assert_array_equal(estimate.draws[0], reference.draws[0])
    # without a band less is known, without any nothing: the prior
    assert estimate.effective_sample_size[1] > reference.effective_sample_size[1]
    assert estimate.effective_sample_size[3] == 100_000
    prior = peer.space.to_unit(estimate.draws[3])
    assert prior.mean(axis=0) == pytest.approx(0.5, abs=4 / np.sqrt(12 * 500))
    # a masked value is like NaN, in an ordinary table too
    plain = Table({name: MaskedColumn(table[name].value, mask=np.isnan(table[name].value), unit="mag") for name in table.colnames})
    plain["F336W"].data.data[1] = 66.666
    plain["note"] = "other columns are ignored"
    np.testing.assert_array_equal(peer.predict(plain).draws, estimate.draws)
    # another instance with the two bands alone says the same of the likelihood
    fluxes, errors = _read_photometry(table, BANDS, "vega")
    assert np.isnan(fluxes[1:3, 0]).all() and np.isnan(errors[3]).all() and np.isfinite(fluxes[1, 1:]).all()


def test_magnitude_systems_and_fluxes(peer, others):
    magnitudes = -2.5 * np.log10(others._mocks.fluxes[:3])
    table = catalogue(magnitudes)
    expected = _read_photometry(table, BANDS, "vega")
    for system, offset, unit in (("ab", vega_to_ab, u.ABmag), ("st", vega_to_st, u.STmag)):
        shifted = magnitudes + np.array([offset(band) for band in BANDS])
        for found in (_read_photometry(catalogue(shifted), BANDS, system), _read_photometry(catalogue(shifted, unit=unit), BANDS, "vega")):
            np.testing.assert_allclose(found, expected, rtol=3e-3)
    fluxes = QTable()
    for i, band in enumerate(BANDS):
        in_jy = (magnitudes[:, i] + vega_to_ab(band)) * u.ABmag
        fluxes[band] = in_jy.to(u.uJy)
        fluxes[f"{band}_err"] = (fluxes[band] * PER_MAGNITUDE * ERROR).to(
            u.erg / u.s / u.cm**2 / u.AA, u.spectral_density(pivot_wavelength(band)))
    np.testing.assert_allclose(_read_photometry(fluxes, BANDS, "vega"), expected, rtol=3e-3)
    assert u.allclose(peer.predict(fluxes).mass, peer.predict(table).mass, rtol=0.1)
    in_mmag = QTable({name: column.to(u.mmag) for name, column in zip(table.colnames, table.itercols())})
    np.testing.assert_allclose(_read_photometry(in_mmag, BANDS, "vega"), expected)
    # a flux may be negative, where there is nothing to see
    fluxes["F336W"][0] = -fluxes["F336W_err"][0].to(u.uJy, u.spectral_density(pivot_wavelength("F336W")))
    assert np.isfinite(peer.predict(fluxes).draws).all()
    backwards = QTable({name: column.astype(">f8") for name, column in zip(table.colnames, table.itercols())})
    np.testing.assert_array_equal(_read_photometry(backwards, BANDS, "vega"), expected)


def test_what_no_cluster_looks_like_is_flagged(peer, others):
    strange = np.vstack([-2.5 * np.log10(others._mocks.fluxes[:1]), [[25.0, 18.0, 25.0]]])
    estimate = peer.predict(catalogue(strange))
    assert (estimate.flags & FLAGS["few mocks"] > 0).tolist() == [False, True]
    assert (estimate.effective_sample_size > 49).all()


def test_beyond_the_library_the_nearest_in_magnitude_stand_in(peer):
    """The brighter the source, the more massive, however far it is beyond all mocks; and the other way round."""
    colours = np.array([-1.3, 0.0, -0.2])
    estimate = peer.predict(catalogue(np.array([16.0, 13.0, 11.0, 9.0, 5.0, 30.0, 33.0])[:, None] + colours))
    mass = estimate.mass.to_value(u.Msun)
    assert mass[0] < 3e5 and (mass[1:5] > 5e5).all() and (mass[5:] < 200).all()
    assert (estimate.flags[1:] == FLAGS["few mocks"]).all() and (estimate.effective_sample_size < 100).all()


@pytest.mark.parametrize("noise", [1.5, 2.0, 3.0, 5.5])
def test_no_error_makes_them_agree(peer, noise):
    """Colours that no cluster has, one of them uncertain; on no scale do mocks agree that did not in their errors."""
    table = QTable({"F336W": [16.04] * u.mag, "F438W": [18.98] * u.mag, "F814W": [15.89] * u.mag,
                    "F336W_err": [0.022] * u.mag, "F438W_err": [1 / PER_MAGNITUDE / noise] * u.mag, "F814W_err": [0.022] * u.mag})
    assert peer.predict(table).flags == FLAGS["few mocks"]


def test_a_flux_of_zero_may_have_an_error_of_zero(peer):
    """Some catalogues write so what they do not know; no cluster agrees, and the search must end."""
    table = {name: [0.0, 1e-300] * u.uJy for band in BANDS for name in (band, f"{band}_err")}
    assert (peer.predict(table).flags == FLAGS["few mocks"]).all()


def test_bars_of_progress(capfd):
    peer = StochasticMagnitudes(BANDS, distance=DISTANCE, samples=100, rng=1, progress=True)
    peer.predict(catalogue([[20.0, 21.0, 20.5]] * 3))
    shown = capfd.readouterr().err
    assert "library: 100%" in shown and "comparing: 100%" in shown and "3/3" in shown


def test_same_seed_same_draws_and_empty_tables(peer, others):
    table, _ = observed(others, 11, 2)
    np.testing.assert_array_equal(peer.predict(table, rng=3).draws, peer.predict(table, rng=3).draws)
    assert len(peer.predict(table[:0])) == 0


def test_errors_of_tables(peer):
    table = catalogue([[20.0, 21.0, 20.5]] * 3)
    with pytest.raises(ValueError, match=r"table lacks the columns \['F438W', 'F814W_err'\]"):
        peer.predict({name: table[name] for name in table.colnames if name not in ("F438W", "F814W_err")})
    with pytest.raises(TypeError, match=r"table must be a QTable or a mapping with the columns .*, not \[1\]"):
        peer.predict([1])
    with pytest.raises(TypeError, match="column F336W must be a Quantity such as"):
        peer.predict({**{name: table[name] for name in table.colnames}, "F336W": Column([20.0, 20.0, 20.0])})
    for name, values, message in (
        ("F438W", [20, 21, 22] * u.m, "column F438W must be in magnitudes or a flux density such as uJy, not in 'm'"),
        ("F438W_err", [1, 1, 1] * u.uJy, "F438W_err must have a unit that converts to 'mag', not 'uJy'"),
    ):
        with pytest.raises(u.UnitsError, match=message):
            peer.predict({**{column: table[column] for column in table.colnames}, name: values})
    with pytest.raises(ValueError, match="system must be one of"):
        peer.predict(table, system="Vega0")
    with pytest.raises(ValueError, match="draws must be at least 1, not 0"):
        peer.predict(table, draws=0)
    with pytest.raises(ValueError, match="table must hold one row per source; of a single one take a slice"):
        peer.predict({name: table[name][0] for name in table.colnames})
    table["F438W_err"][2] = -0.1 * u.mag
    with pytest.raises(ValueError, match="F438W_err must not be negative, but row 2 is"):
        peer.predict(table)
    for code in (99.999, 9.999):
        wrong = table.copy()
        wrong["F438W_err"][1] = code * u.mag
        with pytest.raises(ValueError, match=f"F438W_err of row 1 is {code:g} mag: give NaN or a mask"):
            peer.predict(wrong)
    short = dict(table) | {"F814W": table["F814W"][:1]}
    with pytest.raises(ValueError, match="columns must be of one length, not of .*'F814W': 1"):
        peer.predict(short)
    for code in (99.999, 66.666, -999.0):
        table["F438W"][1] = code * u.mag
        with pytest.raises(ValueError, match=f"F438W of row 1 is {code:g} mag: give NaN or a mask"):
            peer.predict(table)


def test_errors_of_libraries():
    space = ParameterSpace.paper()
    for bands, settings, message in (
        (BANDS, {"space": space}, "space must have the parameters age, a_v and mass"),
        ((), {}, "bands must be one or more"),
        (("F438W", "WFC3_UVIS_F438W"), {}, "bands must be one or more different ones"),
        (("F439X",), {}, "unknown passband 'F439X'"),
        (BANDS, {"samples": 4}, "effective must be at most"),
        (BANDS, {"samples": 0}, "samples and effective must be at least 1"),
        (BANDS, {"least_width": 0 * u.mag}, "least_width must be one positive number"),
        (BANDS, {"space": ParameterSpace([Parameter("age", 1 * u.Myr, 10 * u.Myr), *space.parameters[1:3]])}, "ages of the isochrones"),
    ):
        with pytest.raises(ValueError, match=message):
            StochasticMagnitudes(bands, distance=DISTANCE, **settings)
    with pytest.raises(TypeError, match="distance must be a Quantity"):
        StochasticMagnitudes(BANDS, distance=4.5)


def test_masked_magnitudes_of_a_system(peer):
    # astropy has no masked Quantity of them, and leaves them as columns
    columns = {f"{band}_err": [0.02, 0.02] * u.mag for band in BANDS}
    masked = columns | {band: MaskedColumn([18.0, 19.0], unit=u.ABmag, mask=[False, band == BANDS[0]]) for band in BANDS}
    plain = columns | {band: [18.0, np.nan if band == BANDS[0] else 19.0] * u.ABmag for band in BANDS}
    np.testing.assert_array_equal(peer.predict(Table(masked), rng=1).draws, peer.predict(QTable(plain), rng=1).draws)
    wrong = columns | {band: [3.0, 2.0] * u.uJy for band in BANDS}
    with pytest.raises(u.UnitsError, match="column F336W_err must be in a flux density, as F336W is, not in 'mag'"):
        peer.predict(QTable(wrong))
