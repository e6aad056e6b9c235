# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
RQ3: wrong zero points. The calibrated network, told of them or not, the renormalized one, which cannot see them, and the classical peer.

    python benchmarks/validation/flux_errors.py [--renormalized m83-renormalized]

Every band of every stamp is too bright or too faint by 0, 0.05, 0.1, 0.2 or 0.3 mag, with a random sign. Writes flux_errors.ecsv
and flux_errors.png.
"""

import numpy as np
from astropy import units as u
from common import (
    ACCENT, GREY, INK, PLOTTED, TITLES, UNITS, answers, arguments, network, peer_estimate, peer_of, pyplot, recovery, save, spread, stream, write,
)

ERRORS = 0.0, 0.05, 0.1, 0.2, 0.3  # mag
SEED = 30301
PEER = "stochastic photometry"


def wrong_by(error):
    """A change of stamps: each band too bright or too faint."""
    def change(pixels, start):
        sign = np.random.default_rng([SEED, start]).choice([-1.0, 1.0], pixels.shape[:2])
        return (pixels * 10 ** (-0.4 * error * sign)[:, :, None, None]).astype(np.float32)

    return change


def rows_of(found, who, error):
    """Errors and coverage of each parameter, and errors of the clusters that are young and visible."""
    bright = (found.true("age") <= 8) & (found.visibility > 20)
    for row in recovery(found):
        young = spread(found.error(row["parameter"])[bright]) if bright.sum() > 20 else {"sigma": np.nan, "sigma_error": np.nan}
        yield {"network": who, "zero_point_error": error} | row | {
            "sigma_young_visible": young["sigma"], "sigma_young_visible_error": young["sigma_error"],
        }


def draw(rows):
    """Scatter and coverage against the error of the zero points."""
    plt = pyplot()
    figure, axes = plt.subplots(2, 4, figsize=(13, 5.6), sharex=True, layout="constrained")
    for (top, bottom), name in zip(axes.T, ("age", "a_v", "mass", "half_light_radius")):
        for who, color, style in (("not told", INK, "o-"), ("told", ACCENT, "s-"), ("renormalized", GREY, "^:"), (PEER, "k", "x--")):
            part = [row for row in rows if row["network"] == who and row["parameter"] == name]
            x = [row["zero_point_error"] for row in part]
            sigma, error = [row["sigma"] for row in part], [row["sigma_error"] for row in part]
            top.errorbar(x, sigma, error, fmt=style, ms=4, color=color, label=who)
            bottom.plot(x, [row["held_68"] for row in part], style, ms=4, color=color)
        top.set(ylabel=f"1.48 MAD of {PLOTTED[name]} [{UNITS[name]}]", ylim=(0, None))
        bottom.axhline(0.68, color="k", lw=0.8, ls="--")
        bottom.set(xlabel="error of the zero points [mag]", ylabel=f"68 % interval of {PLOTTED[name]} holds")
    axes[0, 0].legend(frameon=False, fontsize=8)
    save(figure, "flux_errors")


def main():
    args = arguments(__doc__, samples=2500, renormalized=("m83-renormalized", "name or file of the renormalized network"))
    net, free, mocks = network(args.model), network(args.renormalized), stream(args)
    tellable = net.config["conditions"] and net.config["scaling"] == "fixed"
    if not tellable:
        print(f"{net!r} cannot be told of wrong zero points, and the rows of 'told' are left out")
    rows, peer = [], peer_of(args)
    for error in ERRORS:
        title = f"{error:g} mag"
        found = answers(net, mocks, args.samples, wrong_by(error), title)
        rows += rows_of(found, "not told", error)
        rows += rows_of(found._replace(estimate=peer_estimate(peer, mocks, args.samples, change=wrong_by(error))), PEER, error)
        if tellable:
            told = answers(net, mocks, args.samples, wrong_by(error), title, zero_point_error=error * u.mag)
            rows += rows_of(told, "told", error)
        rows += rows_of(answers(free, mocks, args.samples, wrong_by(error), title), "renormalized", error)
    page = [{"network": row["network"], "error [mag]": f"{row['zero_point_error']:g}",
             "parameter": f"{TITLES[row['parameter']]} [{UNITS[row['parameter']]}]",
             "1.48 MAD": f"{row['sigma']:.3f} ± {row['sigma_error']:.3f}",
             "bias": f"{row['bias']:+.3f} ± {row['bias_error']:.3f}",
             "half 68 % interval": row["half_width"], "68 % hold": f"{row['held_68']:.3f} ± {row['held_68_error']:.3f}",
             "95 % hold": row["held_95"]}
            for row in sorted(rows, key=lambda row: (row["network"], row["parameter"], row["zero_point_error"]))
            if row["parameter"] in ("age", "a_v", "mass")]
    note = f"{args.samples:,} {args.clusters}; {net!r} and {free!r}; stochastic photometry with a library of {args.library:,} mocks."
    write("flux_errors", rows, note, page)
    draw(rows)


if __name__ == "__main__":
    main()
