# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
RQ2: what F275W and F555W buy. Two networks that start from the same weights and see equally many mocks more, with three and with five bands.

    python benchmarks/validation/more_bands.py [--training 300000] [--lesson 150000]

Both are asked about the same test clusters, drawn in five bands; the network of five without one of them, too. The depths of F275W and F555W are made
up: the exposure and sky of their neighbours F336W and F438W. Both networks start from ``--model``; what is new in that of five bands has weights of
0 at first, so that it begins with the answers of the other. A network is trained once and kept in the cache; an interrupted training goes on.
Writes more_bands.ecsv and more_bands.png.
"""

import numpy as np
import torch
from astropy import units as u
from common import (
    ACCENT, GREY, INK, PLOTTED, TITLES, UNITS, answers, arguments, digest_of, fields, network, pyplot, save, spread, stream, write,
)

from clustercnn import ClusterNet
from clustercnn.calibration import coverage
from clustercnn.instruments import Instrument
from clustercnn.parameters import ParameterSpace
from clustercnn.psf_powers import NODES
from clustercnn.simulation import MockStream

BANDS = "F275W", "F336W", "F438W", "F555W", "F814W"
THREE = [1, 2, 4]
SEED, LESSON_SEED = 50501, 50502
M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
LIKE = {"F275W": "F336W", "F555W": "F438W"}


def five_bands():
    """The instrument of M83 with two bands more; its zero points come from the throughputs, as those of the preset."""
    settings = {name: {band: getattr(M83, name)(LIKE.get(band, band)) for band in BANDS} for name in ("exposure", "sky")}
    settings |= {"pixel_scale": M83.pixel_scale, "n_exposures": 3, "zero_points": None}
    return Instrument.from_name("HST/WFC3/UVIS", BANDS, **settings)


def widened(net, bands):
    """A network of more bands that says what ``net`` says: all weights that look at the further ones are 0."""
    scales = net.config["scales"]
    same = {name: net.config[name] for name in ("encoder", "head", "photometry", "scaling", "conditions", "shape")}
    wide = ClusterNet(bands, scales={band: scales.get(band, scales.get(LIKE.get(band))) for band in bands}, **same)
    wide.training = net.training
    of = [bands.index(band) for band in net.bands]
    old, new = net.module.state_dict(), wide.module.state_dict()
    for name, weight in old.items():
        if weight.shape == new[name].shape:
            new[name] = weight
    stem, photometry, merge = "encoder.stem.0.weight", "photometry.read.0.weight", "merge.0.weight"
    new[stem] = _spread(old[stem], of, len(bands))
    new[photometry] = _spread(old[photometry].unflatten(1, (len(of), -1)), of, len(bands)).flatten(1)
    # What the merging layer sees: the features, for each band whether it is there, its depth, the error of the zero points, powers of the PSFs.
    n, seen = len(of), net.module.encoder.features + net.module.photometry.features
    features, present, depth, error, powers = old[merge].split([seen, n, n, 1, n * len(NODES)], dim=1)
    new[merge] = torch.cat([features, *(_spread(part, of, len(bands)) for part in (present, depth)), error,
                            _spread(powers.unflatten(1, (n, -1)), of, len(bands)).flatten(1)], 1)
    wide.module.load_state_dict(new)
    return wide


def _spread(weight, of, bands):
    """Weights (out, bands of one network, ...) at the places of those bands among those of another."""
    wide = weight.new_zeros(len(weight), bands, *weight.shape[2:])
    wide[:, of] = weight
    return wide


def trained(args, net, instrument):
    """A network for the bands of the instrument, with a last lesson."""
    path = args.cache / f"bands-{len(instrument.bands)}-{args.training}-{args.lesson}-{digest_of(args, net)}.safetensors"
    if not path.exists():
        distance = args.settings["distance_mpc"] * u.Mpc

        def mocks(seed, **settings):
            background = fields(args, rng=seed, instrument=instrument)
            return MockStream(ParameterSpace.paper(), instrument, distance=distance, background=background, rng=seed, **settings)

        before = path.with_suffix(".before.safetensors")
        if not before.exists():
            net.fit(mocks(SEED), args.training, learning_rate=1e-3, workers=1, validation_samples=0, checkpoint=path.with_suffix(".checkpoint"))
            net.save(before)
        net = ClusterNet.load(before)
        net.calibrate(mocks(LESSON_SEED, positive_fraction=0.5), args.lesson)
        net.save(path)
    return ClusterNet.load(path)


def without(band):
    """What takes a band from stamps."""

    def change(pixels, _):
        pixels[:, BANDS.index(band)] = np.nan
        return pixels

    return change


def main():
    args = arguments(__doc__, samples=5000, training=(300_000, "mocks that each network sees"), lesson=(150_000, "mocks of its last lesson"))
    instrument = five_bands()
    wide = trained(args, widened(network(args.model), BANDS), instrument)
    asked = {"three bands": (trained(args, network(args.model), M83), lambda pixels, _: pixels[:, THREE]),
             "with F275W": (wide, without("F555W")), "with F555W": (wide, without("F275W")), "five bands": (wide, None)}
    mocks = stream(args, instrument=instrument, background=fields(args, instrument=instrument))
    found = {name: answers(net, mocks, args.samples, change, name) for name, (net, change) in asked.items()}

    rows, edges = [], np.linspace(6.575, 10.125, 9)
    for name, answer in found.items():
        age, held = answer.true("age"), coverage(answer.estimate, answer.values, [0.68])
        correlation = answer.estimate.correlation("age", "a_v")
        bins = [("all", age > 0), ("visibility > 20, age <= 100 Myr", (answer.visibility > 20) & (age <= 8)),
                ("visibility > 20, age > 100 Myr", (answer.visibility > 20) & (age > 8))]
        bins += [(f"log age {low:.2f} to {high:.2f}", (age >= low) & (age < high)) for low, high in zip(edges, edges[1:])]
        for title, here in bins:
            for parameter, inside in zip(answer.estimate.space.names, held["coverage"]):
                if here.sum() >= 20:
                    nll = answer.nll[here]
                    rows.append({"bands": name, "clusters": title, "parameter": parameter} | spread(answer.error(parameter)[here])
                                | {"held_68": float(inside) if title == "all" else np.nan, "nll": nll.mean(),
                                   "nll_error": nll.std() / np.sqrt(len(nll)), "correlation": correlation[here].mean()})
    page = [{"clusters": row["clusters"], "bands": row["bands"],
             "parameter": f"{TITLES[row['parameter']]} [{UNITS[row['parameter']]}]",
             "number": row["n"], "1.48 MAD": f"{row['sigma']:.3f} ± {row['sigma_error']:.3f}",
             "bias": f"{row['bias']:+.3f} ± {row['bias_error']:.3f}", "NLL": f"{row['nll']:.2f} ± {row['nll_error']:.2f}"}
            for row in sorted(rows, key=lambda row: (row["clusters"], row["parameter"]))
            if not row["clusters"].startswith("log age")]
    note = (f"{args.samples:,} {args.clusters}, drawn in five bands; networks that started from {args.model} and saw {args.training:,} mocks more, "
            f"and {args.lesson:,} others in a last lesson and calibration; one seed. The visibility is that in five bands.")
    write("more_bands", rows, note, page)

    plt = pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
    for column, parameter in zip(axes.T, ("age", "a_v")):
        for name, color in (("three bands", INK), ("five bands", ACCENT)):
            part = [row for row in rows if (row["bands"], row["parameter"]) == (name, parameter)
                    and row["clusters"].startswith("log age")]
            middle = [float(row["clusters"].split()[2]) + (edges[1] - edges[0]) / 2 for row in part]
            for ax, key in zip(column, ("sigma", "bias")):
                values, errors = [row[key] for row in part], [row[f"{key}_error"] for row in part]
                ax.errorbar(middle, values, errors, fmt="o-", ms=4, color=color, label=name)
        column[0].set(ylabel=f"1.48 MAD of {PLOTTED[parameter]} [{UNITS[parameter]}]", ylim=(0, None))
        column[1].axhline(0, color=GREY, lw=0.8)
        column[1].set(ylabel=f"bias of {PLOTTED[parameter]} [{UNITS[parameter]}]", xlabel="log age [yr]")
    axes[0, 0].legend(frameon=False)
    save(figure, "more_bands")


if __name__ == "__main__":
    main()
