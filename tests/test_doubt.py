# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Doubt in zero points and PSFs, on views that are made up so that the best possible answer is known."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from clustercnn.calibration import auc
from clustercnn.network import Domain, Doubt
from clustercnn.network.domain import VIEWS
from clustercnn.network.doubt import COMMON_POWER, COMMON_SHIFT, OWN_POWER, OWN_SHIFT, mistold, shifts

NOISE = 0.5


def made_up(n, seed, shift=0.0, width=0.0):
    """Views of n stamps of two bands: a column for each thing that may be off, with noise, and others that tell nothing."""
    rng = np.random.default_rng(seed)
    shift, width = (np.broadcast_to(np.asarray(values, dtype=float), (n, 2)) for values in (shift, width))
    clean = np.concatenate([shift, width], 1)
    return {"texture": np.concatenate([clean + NOISE * rng.standard_normal((n, 4)), rng.standard_normal((n, 3))], 1),
            "sharpness": rng.standard_normal((n, 2)), "features": rng.standard_normal((n, 4)), "depth": np.zeros((n, 2)),
            "zero_point_error": np.zeros((n, 1)), "psf": width}


@pytest.fixture(name="doubt", scope="module")
def fixture_doubt():
    """Taught with zero points that are off by 1 mag in the first band, and PSFs of all widths of which something wrong is told."""
    rng = np.random.default_rng(1)
    right = [made_up(4000, 2), made_up(4000, 3, width=rng.uniform(-1.3, 1.3, (4000, 1)) * np.ones(2))]
    return Doubt.fit(right, [made_up(4000, 4, shift=[1.0, 0.0]), *(mistold(seen, rng) for seen in right)])


def test_as_good_as_can_be():
    """Against two normal distributions a distance d apart, which can be told apart with an area of Phi(d / sqrt 2) under the curve."""
    doubt = Doubt.fit([made_up(6000, 5)], [made_up(6000, 6, shift=[1.0, 0.0])])
    right, wrong = doubt.view(made_up(4000, 7))[:, 0], doubt.view(made_up(4000, 8, shift=[1.0, 0.0]))[:, 0]
    area = auc(np.concatenate([wrong, right]), np.repeat([True, False], 4000))
    assert 0.90 < area < 0.9214 + 4 * 0.0045  # Phi(2 / sqrt 2) = 0.9214


def test_what_is_told_counts(doubt):
    """A wide PSF brings doubt unless it is told, and the right one does when another is."""
    wide = made_up(2000, 9, width=1.2)
    told, untold = doubt.view(wide), doubt.view(wide | {"psf": np.zeros((2000, 2))})
    ordinary = made_up(2000, 10)
    assert np.median(untold) > np.quantile(told, 0.9)
    assert np.median(doubt.view(ordinary | {"psf": np.full((2000, 2), 1.2)})) > np.quantile(doubt.view(ordinary), 0.9)
    assert doubt.view(wide).shape == (2000, 1) and doubt.view(wide).min() >= 0


def test_in_a_domain(doubt):
    """Mocks are as typical as they should be, those that are off are not, and tensors keep all of it."""
    domain = Domain.fit({"complete": made_up(3000, 11)}, doubt)
    kinds = np.full(3000, "complete")
    ordinary = made_up(3000, 12)
    share = domain.typicality(ordinary, kinds)
    assert kstest(share, "uniform").statistic < 0.05
    blind = Domain.fit({"complete": made_up(3000, 11)})
    untold = made_up(3000, 13, width=1.3) | {"psf": np.zeros((3000, 2))}
    for off in (made_up(3000, 14, shift=[1.5, 0.0]), untold):
        noticed, before = (np.mean(each.typicality(off, kinds) <= 0.01) for each in (domain, blind))
        assert noticed > 0.3 and noticed > before + 0.1
    again = Domain.from_tensors(domain.tensors())
    np.testing.assert_array_equal(again.typicality(ordinary, kinds), share)
    assert set(again.views["complete"]) == {*VIEWS, "doubt"} and Domain.from_tensors(blind.tensors()).doubt is None


def test_strange_views_are_no_reason_to_fail(doubt):
    seen = made_up(3, 15)
    seen["texture"][0], seen["texture"][1] = np.nan, 1e300
    assert np.isfinite(doubt.view(seen)).all()


def test_what_was_always_the_same_does_not_count(doubt):
    """All of its lessons were of one depth, so that it has learned nothing of others."""
    seen = made_up(500, 19)
    np.testing.assert_array_equal(doubt.view(seen | {"depth": np.full((500, 2), 0.1)}), doubt.view(seen))


def test_other_widths_of_the_layers():
    """Files need not be of the widths of today."""
    with torch.random.fork_rng(devices=[]):
        narrow, seen = Doubt(14, (8, 4)).eval(), made_up(20, 20)
    np.testing.assert_array_equal(Doubt.from_weights(narrow.state_dict()).view(seen), narrow.view(seen))


def test_lessons_are_reproducible():
    first, second = (Doubt.fit([made_up(300, 16)], [made_up(300, 17, shift=1.0)]).state_dict() for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)


def test_shifts():
    """Bands move together and each by itself, as far as is said."""
    magnitudes = shifts(20_000, 3, torch.Generator().manual_seed(1))
    assert magnitudes.shape == (20_000, 3) and magnitudes.abs().max() <= COMMON_SHIFT + OWN_SHIFT
    variances = COMMON_SHIFT**2 / 3, OWN_SHIFT**2 / 3
    covariance = np.cov(magnitudes.numpy().T)
    np.testing.assert_allclose(np.diag(covariance), sum(variances), rtol=0.05)
    np.testing.assert_allclose(covariance[0, 1], variances[0], rtol=0.05)


def test_mistold():
    """Nothing is told of half of the other PSFs, something wrong of all others, and the rest stays."""
    seen = made_up(4000, 18, width=np.where(np.arange(4000) < 2000, 0.0, 0.5)[:, None] * np.ones(2))
    told = mistold(seen, np.random.default_rng(2))
    assert all(told[name] is seen[name] for name in seen if name != "psf")
    nothing = (told["psf"] == 0).all(1)
    assert not nothing[:2000].any() and nothing[2000:].mean() == pytest.approx(0.5, abs=4 * (0.25 / 2000) ** 0.5)
    off = told["psf"] - seen["psf"]
    assert np.abs(off).max() <= COMMON_POWER + OWN_POWER and np.abs(off[:2000]).mean() > 0.5
