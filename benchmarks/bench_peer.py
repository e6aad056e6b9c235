# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Posteriors from magnitudes: the search for mocks like a source against the comparison with every mock of the library, side by side; and
how often their intervals hold the truth of 1000 other clusters.

    python benchmarks/bench_peer.py

Three bands, errors of 0.02, 0.05 and 0.2 mag in turn. CPU times of one thread.
"""

import argparse
import time

import numpy as np
from astropy import units as u
from machine import describe_machine, peak_memory
from scipy.special import ndtr

from clustercnn.calibration import coverage
from clustercnn.photometric_inference import PER_MAGNITUDE, StochasticMagnitudes, _weights

BANDS = "F336W", "F438W", "F814W"


def all_mocks(mocks, flux, error, width):
    """What the search must give, by the light of every mock."""
    softening = error / width
    distance = (((np.arcsinh(mocks.fluxes / softening) - np.arcsinh(flux / softening)) / width) ** 2).sum(axis=1)
    return _weights(distance, mocks.effective)[0]


def held(peer, relative):
    """Coverage for other clusters, whose fluxes have the errors stated and those that the least width stands for."""
    others = StochasticMagnitudes(BANDS, distance=4.5 * u.Mpc, samples=1000, rng=3)
    rng = np.random.default_rng(4)
    rows = np.arange(1000) + 1000 * rng.integers(10, size=1000)  # each cluster once
    true, width = others._mocks.fluxes[rows], PER_MAGNITUDE * peer.least_width.value
    errors = PER_MAGNITUDE * relative * true
    fluxes = true * np.exp(width * rng.standard_normal(true.shape)) + errors * rng.standard_normal(true.shape)
    estimate = peer._mocks.estimate(1000, zip(fluxes, errors), 2000, 5, {}, width)
    truth = peer.space.from_coordinates(peer.space.from_unit(ndtr(others._mocks.normal[rows])))
    table = coverage(estimate, truth)
    parts = [f"{name} {', '.join(f'{value:.3f}' for value in table['coverage'][table['parameter'] == name])}" for name in peer.space.names]
    return f"{'; '.join(parts)}; median effective number {np.median(estimate.effective_sample_size):.0f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000, help="clusters in the library, each behind ten screens of dust")
    parser.add_argument("--sources", type=int, default=50)
    args = parser.parse_args()
    print(describe_machine())
    start = time.process_time()
    peer = StochasticMagnitudes(BANDS, distance=4.5 * u.Mpc, samples=args.samples, rng=1)
    mocks, width = peer._mocks, PER_MAGNITUDE * peer.least_width.value
    print(f"library of {len(mocks.fluxes):,} mocks: {time.process_time() - start:.1f} s")
    rng = np.random.default_rng(2)
    for relative in (0.02, 0.05, 0.2):
        fluxes = mocks.fluxes[rng.choice(len(mocks.fluxes), args.sources)]
        fluxes = fluxes * (1 + PER_MAGNITUDE * relative * rng.standard_normal(fluxes.shape))
        errors = PER_MAGNITUDE * relative * np.abs(fluxes)
        spent, worst = np.zeros(3), 0.0
        for flux, error in zip(fluxes, errors):
            begin = time.process_time()
            rows, weights, *_ = mocks.like(flux, error, width)
            middle = time.process_time()
            expected = all_mocks(mocks, flux, error, width)
            spent[:2] += middle - begin, time.process_time() - middle
            expected[rows] -= weights
            worst = max(worst, np.abs(expected).sum() / 2)
        begin = time.process_time()
        mocks.estimate(args.sources, zip(fluxes, errors), 200, 3, {}, width)
        spent[2] = time.process_time() - begin
        search, everything, whole = spent / args.sources * 1e3
        print(f"errors of {relative} mag\n    search {search:.1f} ms, all mocks {everything:.1f} ms, ratio {everything / search:.1f}; "
              f"largest difference in probability {worst:.0e}; whole posterior {whole:.1f} ms, {whole * 10:.0f} s for 10,000 sources")
        print(f"    68 and 95 % intervals hold the truth: {held(peer, relative)}")
    print(f"peak memory {peak_memory():.2f} GB")


if __name__ == "__main__":
    main()
