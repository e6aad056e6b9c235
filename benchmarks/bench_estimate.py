# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What a ClusterEstimate of 100,000 sources costs: each thing that is asked of it, in units of sorting its draws once.

    python benchmarks/bench_estimate.py

200 draws each of four parameters and the visibility, of normal posteriors of many widths, a fifth of them with two peaks. One thread.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe_machine, peak_memory

from clustercnn import ClusterEstimate
from clustercnn.parameters import ParameterSpace, power_law


def make_estimate(sources, draws, rng):
    """Posteriors inside the box of the paper's prior."""
    space, rng = ParameterSpace.paper(), np.random.default_rng(rng)
    width = 10 ** rng.uniform(-2.0, -0.5, (sources, 1, 4))
    unit = rng.random((sources, 1, 4)) + width * rng.standard_normal((sources, draws, 4))
    second = rng.random((sources, draws, 1)) < 0.3 * (rng.random((sources, 1, 1)) < 0.2)
    unit = np.clip(np.abs(np.where(second, unit + 0.5, unit)) % 1.0, 1e-6, 1 - 1e-6)
    visibility = np.exp(rng.normal(3.0, 1.0, (sources, 1)) + 0.1 * rng.standard_normal((sources, draws)))
    return ClusterEstimate(space.from_unit(unit), space, rng.random(sources), visibility)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=100_000)
    parser.add_argument("--draws", type=int, default=200)
    args = parser.parse_args()
    print(describe_machine())
    estimate = make_estimate(args.sources, args.draws, rng=1)
    print(f"{estimate}: {estimate.draws.nbytes / 1e9:.2f} GB of draws, peak memory so far {peak_memory():.1f} GB")
    start = time.perf_counter()
    np.sort(estimate.draws, axis=1)
    unit = time.perf_counter() - start
    print(f"sorting the draws: {unit:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        fits, ecsv = Path(folder) / "estimate.fits", Path(folder) / "summary.ecsv"
        steeper = power_law(estimate.space["mass"], -2)
        for title, work in {
            "table of medians and intervals": estimate.to_table,
            "shortest intervals of the age": lambda: estimate.interval("age", kind="highest-density"),
            "morphology of the age": lambda: estimate.morphology("age"),
            "histograms of age and A_V": lambda: estimate.joint("age", "a_v"),
            "correlation of age and A_V": lambda: estimate.correlation("age", "a_v"),
            "information gain": estimate.information_gain,
            "reweight to another mass function": lambda: estimate.reweight(steeper),
            "a slice of half of it": lambda: estimate[::2],
            "write the draws as FITS": lambda: estimate.write(fits),
            "read them": lambda: ClusterEstimate.read(fits),
            "write the summary as ECSV": lambda: estimate.write(ecsv),
        }.items():
            start = time.perf_counter()
            work()
            spent = time.perf_counter() - start
            print(f"{title:36} {spent / unit:7.2f} sorts, {spent:6.1f} s")
    print(f"peak memory {peak_memory():.1f} GB")


if __name__ == "__main__":
    main()
