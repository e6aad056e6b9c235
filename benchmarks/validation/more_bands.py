# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
RQ2: what F275W and F555W buy. Posteriors that know what a network sees in three bands, and the aperture photometry of three, four or five.

    python benchmarks/validation/more_bands.py [--training 60000] [--epochs 20]

The features of ``--model``, which has learned from millions of mocks in three bands, and the fluxes, sky and rms that a
`~clustercnn.network.encoders.PhotometryBranch` measures in the bands of a set go into a new posterior for each set, all trained alike on the same
mocks and asked about the same test clusters. The depths of F275W and F555W are made up: the exposure and sky of their neighbours F336W and F438W.
What the network sees of the mocks is kept in the cache. Writes more_bands.ecsv and more_bands.png.
"""

import numpy as np
import torch
from astropy import units as u
from common import (
    ACCENT, BATCH, DRAWS, GREY, INK, PLOTTED, TITLES, UNITS, Answers, arguments, digest_of, fields, network, pyplot, save, spread, stream, write,
)
from torch import nn
from tqdm import tqdm

from clustercnn.calibration import coverage
from clustercnn.estimate import ClusterEstimate
from clustercnn.files import whole_file
from clustercnn.instruments import Instrument
from clustercnn.network.encoders import PhotometryBranch
from clustercnn.network.heads import FlowHead
from clustercnn.parameters import ParameterSpace
from clustercnn.simulation import MockStream

BANDS = "F275W", "F336W", "F438W", "F555W", "F814W"
SETS = {
    "three bands": ("F336W", "F438W", "F814W"),
    "with F275W": ("F275W", "F336W", "F438W", "F814W"),
    "with F555W": ("F336W", "F438W", "F555W", "F814W"),
    "five bands": BANDS,
}
SEED = 50501
M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
LIKE = {"F275W": "F336W", "F555W": "F438W"}


def five_bands():
    """The instrument of M83 with two bands more; its zero points come from the throughputs, as those of the preset."""
    settings = {name: {band: getattr(M83, name)(LIKE.get(band, band)) for band in BANDS} for name in ("exposure", "sky")}
    settings |= {"pixel_scale": M83.pixel_scale, "n_exposures": 3, "zero_points": None}
    return Instrument.from_name("HST/WFC3/UVIS", BANDS, **settings)


def seen(args, net, mocks, n, name):
    """Of the first mocks of a stream: features of the network, photometry (n, band, measure), coordinates and visibility; kept in the cache."""
    path = args.cache / f"bands-{name}-{n}-{digest_of(args, net)}.npz"
    if not path.exists():
        three = [BANDS.index(band) for band in net.bands]
        scales = torch.tensor([net.config["scales"][LIKE.get(band, band)] for band in BANDS])[:, None, None]
        branch, parts = PhotometryBranch(len(BANDS), tuple(net.config["shape"])), []
        for start in tqdm(range(0, n, BATCH), desc=name, unit="batch"):
            batch = mocks.batch(start, min(BATCH, n - start))
            with torch.inference_mode():
                features, measures = net.module(batch["pixels"][:, three]), branch.stretched(batch["pixels"] / scales)
            parts.append([features, measures, batch["parameters"], batch["visibility"]])
        with whole_file(path) as partial, open(partial, "wb") as file:
            np.savez(file, **dict(zip(("features", "measures", "parameters", "visibility"), map(torch.cat, zip(*parts)))))
    kept = np.load(path)
    return {name: torch.from_numpy(kept[name]) for name in kept}


def inputs(data, bands):
    """What a posterior is told: features, and measures of the bands with the colours of the apertures, in which most of the age lies."""
    measures = data["measures"][:, [BANDS.index(band) for band in bands]]
    return torch.cat([data["features"], measures.flatten(1), measures.diff(dim=1).flatten(1)], 1)


def trained(data, bands, space, epochs):
    """A posterior for a set of bands; what it is told is brought to mean 0 and scatter 1."""
    told = inputs(data, bands)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        body = nn.Sequential(nn.BatchNorm1d(told.shape[1], affine=False), nn.Linear(told.shape[1], 384), nn.SiLU(), nn.Dropout(0.1),
                             nn.Linear(384, 256), nn.SiLU())
        head = FlowHead(256, space.bounds)
        weights, steps = [*body.parameters(), *head.parameters()], epochs * (len(told) // BATCH)
        optimizer = torch.optim.AdamW(weights, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps)
        for _ in tqdm(range(epochs), desc=f"{len(bands)} bands", unit="epoch"):
            for rows in torch.randperm(len(told)).split(BATCH)[:len(told) // BATCH]:
                optimizer.zero_grad()
                head.loss(body(told[rows]), data["parameters"][rows]).mean().backward()
                nn.utils.clip_grad_norm_(weights, 5.0)
                optimizer.step()
                schedule.step()
    return body.eval(), head


@torch.inference_mode()
def answers(data, bands, body, head, space):
    """What a posterior says of clusters."""
    features, truth, generator = body(inputs(data, bands)), data["parameters"], torch.Generator().manual_seed(SEED)
    draws = torch.cat([head.sample(part, DRAWS, generator) for part in features.split(BATCH)])
    nll = -head.log_prob(features, truth)
    return Answers(truth.double().numpy(), data["visibility"].numpy(), nll.numpy(), ClusterEstimate(draws.double().numpy(), space))


def main():
    further = {"training": (60_000, "mocks that each posterior learns from"), "epochs": (20, "how often it sees each of them")}
    args = arguments(__doc__, samples=5000, **further)
    net, space, instrument = network(args.model), ParameterSpace.paper(), five_bands()
    background = fields(args, rng=SEED, instrument=instrument)
    distance = args.settings["distance_mpc"] * u.Mpc
    lesson = MockStream(space, instrument, distance=distance, background=background, rng=SEED, positive_fraction=1.0)
    lesson = seen(args, net, lesson, args.training, "lesson")
    test = seen(args, net, stream(args, instrument=instrument, background=fields(args, instrument=instrument)), args.samples, "test")
    found = {name: answers(test, bands, *trained(lesson, bands, space, args.epochs), space) for name, bands in SETS.items()}

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
    note = (f"{args.samples:,} {args.clusters}, drawn in five bands; posteriors that learned from {args.training:,} clusters, {args.epochs} times "
            f"each, with the features of {args.model}; one seed. The visibility is that in five bands.")
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
