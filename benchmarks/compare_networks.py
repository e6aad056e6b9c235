# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Networks of several designs at equal mocks: each trained once on the same fixed set, scored on a part of the reference mocks.

    python benchmarks/compare_networks.py --folder /somewhere/with/8/GB --samples 150000

The set is written once (7 GB for 150,000 mocks) and kept; a design that has its row in ``results/compare_networks.json`` is not trained
again, so that an interrupted run goes on. One seed each: differences of a few hundredths of a nat mean nothing.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from astropy import units as u
from machine import describe_machine
from score_network import score

from clustercnn import ClusterNet
from clustercnn.instruments import Instrument
from clustercnn.parameters import ParameterSpace
from clustercnn.simulation import MockStream

RESULTS = Path(__file__).with_name("results") / "compare_networks.json"
PLAIN = {"encoder": "compact", "head": "flow", "photometry": True, "scaling": "fixed", "conditions": False}
DESIGNS = {
    "compact, flow, photometry": PLAIN,
    "... without photometry": PLAIN | {"photometry": False},
    "... grid in place of the flow": PLAIN | {"head": "grid"},
    "... renormalized": PLAIN | {"scaling": "renormalized"},
    "... with conditions": PLAIN | {"conditions": True},
    "ResNet-50, flow, photometry": PLAIN | {"encoder": "resnet50"},
    "the paper's: ResNet-50, grid": PLAIN | {"encoder": "resnet50", "head": "grid", "photometry": False},
}


def speed(net, stamps):
    """Stamps a second with 100 draws, the best of three."""
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        net.predict(stamps, draws=100, device="cpu")
        rates.append(len(stamps) / (time.perf_counter() - start))
    return max(rates)


def table(rows):
    """Rows of text, one for each design."""
    parameters = ("age", "a_v", "mass", "half_light_radius")
    lines = [
        f"{'':30s} {'NLL':>6s} {'1.48 MAD: age':>14s} {'A_V':>6s} {'mass':>6s} {'size':>6s}  {'68 %: age':>9s} {'A_V':>6s} {'mass':>6s} "
        f"{'size':>6s} {'AUC':>6s} {'stamps/s':>8s} {'M par.':>6s} {'minutes':>7s}"
    ]
    for name, row in rows.items():
        scatter, held = ([row[key][parameter] for parameter in parameters] for key in ("scatter", "coverage_68"))
        lines.append(
            f"{name:30s} {row['nll']:6.2f} {scatter[0]:14.3f} {scatter[1]:6.3f} {scatter[2]:6.3f} {scatter[3]:6.3f}  "
            f"{held[0]:9.3f} {held[1]:6.3f} {held[2]:6.3f} {held[3]:6.3f} {row['auc']:6.3f} {row['stamps_per_second']:8.0f} "
            f"{row['parameters'] / 1e6:6.1f} {row['minutes']:7.0f}"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the mocks")
    parser.add_argument("--samples", type=int, default=150_000, help="mocks that each network sees once")
    parser.add_argument("--fraction", type=float, default=0.2, help="share of the reference mocks to score on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--precision", default="auto", help="of the encoder in training")
    arguments = parser.parse_args()
    instrument, space = Instrument.from_name("HST/WFC3/UVIS/M83"), ParameterSpace.paper()
    stream = MockStream(space, instrument, distance=4.5 * u.Mpc, rng=arguments.seed)
    shards = stream.write(arguments.samples, arguments.folder)
    settings = {"samples": arguments.samples, "seed": arguments.seed, "fraction": arguments.fraction}
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if found.get("settings") != settings:
        found = {"settings": settings, "machine": describe_machine(), "designs": {}}
    stamps = stream.batch(2**39, 512)["pixels"].numpy() * u.electron / u.s
    for name, design in DESIGNS.items():
        if name in found["designs"]:
            continue
        print(name, flush=True)
        net = ClusterNet(instrument.bands, space=space, rng=arguments.seed, **design)
        learning_rate = 1e-3 if design["encoder"] == "resnet50" else 2.5e-3
        precision = "bfloat16" if design["encoder"] == "resnet50" else arguments.precision
        history = net.fit(
            shards, arguments.samples, learning_rate=learning_rate, precision=precision, validation_samples=0,
            checkpoint=arguments.folder / "training.checkpoint",
        )
        numbers = score({name: net}, arguments.fraction)[name]
        found["designs"][name] = numbers | {
            "parameters": sum(p.numel() for p in net.module.parameters()),
            "stamps_per_second": speed(net, stamps),
            "minutes": history.meta["seconds"] / 60,
            "threads": torch.get_num_threads(),
        }
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        rows = {design: found["designs"][design] for design in DESIGNS if design in found["designs"]}
        text = f"{arguments.samples} mocks, seed {arguments.seed}; scores on {numbers['clusters']} clusters and {numbers['negatives']} negatives"
        RESULTS.with_suffix(".txt").write_text(f"{text}\n{table(rows)}\n")
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()
