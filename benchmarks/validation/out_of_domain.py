# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What a network makes of stamps that are no ordinary mocks, and whether it notices; in some cases it is told what is unusual.

    python benchmarks/validation/out_of_domain.py

For every kind of `strange_stamps.StrangeStamps`: the share that is flagged as out of domain (of all, and of those of an estimated
visibility above 20), the share that would be taken for clusters (p_cluster of 0.5 at least) before and after the flag, and the share of the
first stamps that fail the posterior predictive check at 5 %. Writes out_of_domain.ecsv, and posterior_predictive.ecsv: how the p-values of
ordinary clusters are spread.
"""

import numpy as np
from astropy import units as u
from common import arguments, network, write
from scipy.stats import kstest
from strange_stamps import StrangeStamps
from tqdm import tqdm

from clustercnn.checks import posterior_predictive
from clustercnn.estimate import FLAGS
from clustercnn.instruments import Instrument

RATE = u.electron / u.s
MOCKS = "mocks: clusters"
FAILED = 0.05
SEED = 20_240


def main():
    args = arguments(
        __doc__, samples=400,
        checked=(40, "stamps of each kind that go through the posterior predictive check, default 40"),
        checked_mocks=(200, "ordinary clusters that do, default 200"),
        simulated=(100, "stamps simulated for each check, default 100"),
    )
    net = network(args.model)
    instrument, distance = Instrument.from_dict(net.contract["instrument"]), net.contract["distance_mpc"] * u.Mpc
    rows, page = [], []
    stamps = StrangeStamps(net.space, instrument, distance, SEED)
    for name, make in tqdm(stamps.cases.items(), unit="case"):
        pixels, told = make(args.samples), stamps.told.get(name, {})
        estimate = net.predict(pixels * RATE, draws=200, rng=SEED, **told)
        checked = min(args.samples, args.checked_mocks if name == MOCKS else args.checked)
        p_values = np.array([
            posterior_predictive(estimate, i, pixels[i] * RATE, instrument, distance=distance, n=args.simulated, rng=i, **told).p_value
            for i in range(checked)
        ])
        if name == MOCKS:
            ordinary = p_values
        flagged, taken = estimate.flags & FLAGS["out of domain"] > 0, estimate.p_cluster >= 0.5
        bright = estimate.visibility > 20
        row = {"stamps": name, "flagged": np.mean(flagged), "flagged_bright": np.mean(flagged[bright]) if bright.any() else np.nan,
               "n_bright": int(bright.sum()), "taken": np.mean(taken), "taken_unflagged": np.mean(taken & ~flagged),
               "failed_check": np.mean(p_values <= FAILED), "n_checked": checked}
        rows.append(row)
        page.append({"stamps": name, "flagged": f"{row['flagged']:.1%}", "... visibility > 20": f"{row['flagged_bright']:.1%}",
                     "p_cluster > 0.5": f"{row['taken']:.0%}", "... not flagged": f"{row['taken_unflagged']:.0%}",
                     "fail the check": f"{row['failed_check']:.0%}"})
    note = f"{args.samples} stamps of each kind, {args.checked} of them checked ({len(ordinary)} of the clusters), {net!r}."
    write("out_of_domain", rows, note, page)
    counts, edges = np.histogram(ordinary, 10, (0, 1))
    uniform = kstest(ordinary, "uniform")
    note = (f"{len(ordinary)} ordinary clusters, {args.simulated} simulated stamps for each, {net!r}; distance from uniform "
            f"{uniform.statistic:.3f} (Kolmogorov-Smirnov), by chance with a probability of {uniform.pvalue:.2g}.")
    write("posterior_predictive", [{"p_value_from": low, "count": int(n)} for low, n in zip(edges, counts)], note)


if __name__ == "__main__":
    main()
