# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What a band is worth to the network: the same stamps with one or two bands missing, and whether the wider posteriors hold.

    python benchmarks/validation/missing_bands.py

The network must be one with conditions, which is told what is missing. Writes missing_bands.ecsv.
"""

from itertools import combinations

import numpy as np
from common import TITLES, UNITS, answers, arguments, network, recovery, stream, write


def without(missing):
    """A change of stamps: bands, by number, become NaN."""
    def change(pixels, start):
        pixels[:, missing] = np.nan
        return pixels

    return change


def main():
    args = arguments(__doc__, samples=5000)
    net, mocks = network(args.model), stream(args)
    numbers = range(len(net.bands))
    rows = []
    for missing in (lost for n in range(len(net.bands)) for lost in combinations(numbers, n)):
        bands = ", ".join(net.bands[i] for i in numbers if i not in missing)
        found = answers(net, mocks, args.samples, without(list(missing)), bands)
        rows += [{"bands": bands, "nll": found.nll.mean()} | row for row in recovery(found)]
    page = [{"bands": row["bands"], "NLL": f"{row['nll']:.2f}", "parameter": f"{TITLES[row['parameter']]} [{UNITS[row['parameter']]}]",
             "1.48 MAD": row["sigma"], "half 68 % interval": row["half_width"],
             "68 % hold": f"{row['held_68']:.3f} ± {row['held_68_error']:.3f}", "95 % hold": row["held_95"]} for row in rows]
    write("missing_bands", rows, f"{args.samples:,} {args.clusters}; {net!r}.", page)


if __name__ == "__main__":
    main()
