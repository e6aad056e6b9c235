# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Networks of several designs at equal mocks: each trained once on the same fixed set, scored on a part of the reference mocks.

    python benchmarks/compare_networks.py --folder /somewhere/with/8/GB --samples 150000
    python benchmarks/compare_networks.py --folder /somewhere/with/8/GB --samples 50000
    python benchmarks/compare_networks.py --folder /somewhere/with/8/GB --speed
    python benchmarks/compare_networks.py --draw

Each run trains every design (or those of ``--designs``) on that many mocks, with a learning rate that goes to zero at the end, and adds rows to
``results/compare_networks.ecsv``; a design that has its row is not trained again, so that an interrupted run goes on. ``--speed`` times all designs
side by side, untrained, in one run on a machine that does nothing else, into ``results/compare_networks_speed.ecsv``. ``--draw`` makes the
learning curves and the table of the docs from all rows: several numbers of mocks are several trainings, not stages of one. The mocks are written once
and kept (7 GB for 150,000). The two ResNets train in bfloat16 on a processor that has it, in half of the time. One seed each:
differences of a few hundredths of a nat mean nothing.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table, vstack
from machine import describe_machine
from score_network import score

from clustercnn import ClusterNet
from clustercnn.files import whole_file
from clustercnn.instruments import Instrument
from clustercnn.network.device import emulates_bfloat16
from clustercnn.parameters import ParameterSpace
from clustercnn.simulation import MockStream

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "compare_networks.ecsv"
SPEEDS = RESULTS.with_name("compare_networks_speed.ecsv")
FIGURE = ROOT / "docs" / "figures" / "learning_curves.png"
TIMED = 512  # mocks of a training to time
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


def train(design, shards, samples, seed, checkpoint=None):
    """A network of a design, trained on the first of the mocks, and the seconds that it took."""
    deep = design["encoder"] == "resnet50"
    net = ClusterNet(shards.contract["bands"], rng=seed, **design)
    precision = "bfloat16" if deep and not emulates_bfloat16("cpu") else "auto"
    history = net.fit(shards, samples, learning_rate=1e-3 if deep else 2.5e-3, precision=precision, validation_samples=0, checkpoint=checkpoint)
    return net, history.meta["seconds"]


def speeds(shards, stamps):
    """Mocks a second in training and stamps a second with 100 draws of each design, the best of three rounds."""
    rows = {name: {"design": name, "trained": 0.0, "answered": 0.0} for name in DESIGNS}
    for _ in range(3):
        for name, design in DESIGNS.items():
            net, seconds = train(design, shards, TIMED, 1)
            start = time.perf_counter()
            net.predict(stamps, draws=100, device="cpu")
            rates = {"trained": TIMED / seconds, "answered": len(stamps) / (time.perf_counter() - start)}
            rows[name] |= {key: max(rate, rows[name][key]) for key, rate in rates.items()}
    return list(rows.values())


def row(name, net, numbers, samples, seed):
    """A row of the table of results."""
    values = {"design": name, "samples": samples, "seed": seed, "nll": numbers["nll"]}
    for key in ("scatter", "bias", "coverage_68"):
        values |= {f"{key}_{parameter}": value for parameter, value in numbers[key].items()}
    parameters = sum(p.numel() for p in net.module.parameters())
    return QTable([values | {"auc": numbers["auc"], "parameters": parameters, "clusters": numbers["clusters"]}])


def add(new):
    """Write the results with one row more."""
    old = [QTable.read(RESULTS)] if RESULTS.exists() else []
    write(vstack([*old, new], metadata_conflicts="silent"), RESULTS, "python benchmarks/compare_networks.py")


def write(table, path, command):
    """A table with four digits, the machine and the command."""
    for column in table.itercols():
        column.info.format = ".4g" if column.dtype.kind == "f" else None
    table.meta = {"machine": describe_machine(), "command": command}
    with whole_file(path) as partial:
        table.write(partial)


def shown(table):
    """The results as the manual shows them."""
    page = Table({"design": table["design"], "mocks": [f"{n:,}" for n in table["samples"]]})
    page["NLL"] = [f"{value:.2f}" for value in table["nll"]]
    for title, key, form in (("scatter", "scatter", ".2f"), ("bias", "bias", "+.2f"), ("68 % hold", "coverage_68", ".2f")):
        columns = [table[f"{key}_{name}"] for name in ("age", "a_v", "mass", "half_light_radius")]
        page[title] = [", ".join(format(value, form) for value in values) for values in zip(*columns)]
    page["AUC"] = [f"{value:.3f}" for value in table["auc"]]
    speed = {row["design"]: row for row in QTable.read(SPEEDS)}
    page["trained/s"], page["answered/s"] = ([f"{speed[name][key]:.0f}" for name in table["design"]] for key in ("trained", "answered"))
    page["parameters"] = [f"{value / 1e6:.1f} M" for value in table["parameters"]]
    return page


def draw():
    """NLL against mocks seen, a line for each design; and the table."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    table = QTable.read(RESULTS)
    order = [name for name in DESIGNS if name in table["design"]]
    table = table[sorted(range(len(table)), key=lambda i: (table["samples"][i], order.index(table["design"][i])))]
    with whole_file(RESULTS.with_suffix(".rst")) as partial:
        shown(table).write(partial, format="ascii.rst")
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name in order:
        rows = table[table["design"] == name]
        rows.sort("samples")
        axes.semilogx(rows["samples"], rows["nll"], "o-", label=name)
    axes.set(xlabel="mocks seen", ylabel="mean negative log-likelihood (nat)")
    axes.legend(fontsize="small")
    figure.savefig(FIGURE, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="for the mocks")
    parser.add_argument("--samples", type=int, default=150_000, help="mocks that each network sees once")
    parser.add_argument("--designs", type=int, nargs="+", default=range(len(DESIGNS)), help="which: numbers from 0")
    parser.add_argument("--fraction", type=float, default=0.2, help="share of the reference mocks to score on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", action="store_true", help="time the designs, and train none to its end")
    parser.add_argument("--draw", action="store_true", help="draw the figure of what there is, and train nothing")
    arguments = parser.parse_args()
    if arguments.draw:
        draw()
        return
    if arguments.folder is None:
        parser.error("--folder is needed")
    instrument = Instrument.from_name("HST/WFC3/UVIS/M83")
    stream = MockStream(ParameterSpace.paper(), instrument, distance=4.5 * u.Mpc, rng=arguments.seed)
    shards = stream.write(arguments.samples, arguments.folder / str(arguments.samples), progress=True)
    if arguments.speed:
        stamps = stream.batch(2**39, 512)["pixels"].numpy() * u.electron / u.s
        write(QTable(speeds(shards, stamps)), SPEEDS, "python benchmarks/compare_networks.py --speed")
        return
    for name in np.array(list(DESIGNS))[list(arguments.designs)].tolist():
        done = QTable.read(RESULTS) if RESULTS.exists() else {"design": [], "samples": np.array([]), "seed": np.array([])}
        if any((done["samples"] == arguments.samples) & (done["seed"] == arguments.seed) & (np.array(done["design"]) == name)):
            continue
        print(name, flush=True)
        checkpoint = arguments.folder / "training.checkpoint"
        net, _ = train(DESIGNS[name], shards, arguments.samples, arguments.seed, checkpoint)
        numbers = score({name: net}, arguments.fraction)[name]
        add(row(name, net, numbers, arguments.samples, arguments.seed))
        print(QTable.read(RESULTS)["design", "samples", "nll", "scatter_age", "auc"][-1:], flush=True)


if __name__ == "__main__":
    main()
