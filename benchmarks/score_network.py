# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Score networks on the reference mocks (``reference_mocks.toml``) and print the table of the model cards.

    python benchmarks/score_network.py m83 m83-renormalized --out scores

writes ``scores.txt`` and ``scores.json``; with ``--card`` the numbers go into the model files themselves.
"""

import argparse
import json
import tomllib
from pathlib import Path

import numpy as np
import torch
from astropy import units as u
from tqdm import tqdm

from clustercnn.calibration import auc, coverage
from clustercnn.estimate import ClusterEstimate
from clustercnn.instruments import Instrument
from clustercnn.network import ClusterNet
from clustercnn.parameters import ParameterSpace
from clustercnn.simulation import BackgroundFields, MockStream

BATCH = 256
DRAWS = 500


def reference_streams(path=Path(__file__).with_name("reference_mocks.toml")):
    """The streams of clusters and of negatives, and how many of each count."""
    recipe = tomllib.loads(Path(path).read_text())
    instrument = Instrument.from_name(recipe["instrument"])
    distance = recipe["distance_mpc"] * u.Mpc
    fields = BackgroundFields.discs(
        instrument, recipe["n_fields"], tuple(recipe["field_shape"]), recipe["field_seed"], distance=distance
    )
    settings = {"background": fields, "shape": tuple(recipe["stamp_shape"]), "distance": distance}
    space = ParameterSpace.paper()
    clusters = MockStream(space, instrument, rng=recipe["cluster_seed"], positive_fraction=1.0, **settings)
    negatives = MockStream(space, instrument, rng=recipe["negative_seed"], positive_fraction=0.0, **settings)
    return (clusters, recipe["n_clusters"]), (negatives, recipe["n_negatives"])


def score(nets, fraction=1.0):
    """
    A dict of numbers for each net, all on the same mocks.

    Parameters
    ----------
    nets : dict of `~clustercnn.ClusterNet`
    fraction : float
        Share of the reference mocks to use (1 for every published number).
    """
    (clusters, n_clusters), (negatives, n_negatives) = reference_streams()
    n_clusters, n_negatives = int(n_clusters * fraction), int(n_negatives * fraction)
    found = {name: {"draws": [], "visibility": [], "nll": [], "positive": [], "negative": []} for name in nets}
    truth, visibility = [], []
    for start in tqdm(range(0, n_clusters, BATCH), desc="clusters", unit="batch"):
        batch = clusters.batch(start, min(BATCH, n_clusters - start))
        truth.append(batch["parameters"].numpy())
        visibility.append(batch["visibility"].numpy())
        for name, net in nets.items():
            estimate = net.predict(batch["pixels"].numpy() * u.electron / u.s, draws=DRAWS, rng=start)
            with torch.inference_mode():
                log_density = net.module.posterior.log_prob(net.module(batch["pixels"]), batch["parameters"])
            found[name]["draws"].append(estimate.draws)
            found[name]["visibility"].append(estimate.visibility_draws)
            found[name]["nll"].append(-log_density.numpy())
            found[name]["positive"].append(estimate.p_cluster)
    for start in tqdm(range(0, n_negatives, BATCH), desc="negatives", unit="batch"):
        batch = negatives.batch(start, min(BATCH, n_negatives - start))
        for name, net in nets.items():
            estimate = net.predict(batch["pixels"].numpy() * u.electron / u.s, draws=1, rng=start)
            found[name]["negative"].append(estimate.p_cluster)
    truth, visibility = np.concatenate(truth), np.concatenate(visibility)
    return {
        name: _numbers(nets[name].space, truth, visibility, **{key: np.concatenate(values) for key, values in parts.items()})
        for name, parts in found.items()
    }


def _numbers(space, truth, seen, draws, visibility, nll, positive, negative):
    estimate = ClusterEstimate(draws, space, p_cluster=positive, visibility=visibility)
    values = space.from_coordinates(truth)
    median = np.median(estimate.draws, axis=1)
    bright = (values["age"] <= 100 * u.Myr) & (seen > 20)

    def auc_above(lowest):
        clear = positive[seen >= lowest]
        return auc(np.concatenate([clear, negative]), np.repeat([True, False], [len(clear), len(negative)]))

    numbers = {
        "clusters": len(positive),
        "negatives": len(negative),
        "nll": nll.mean(),
        "auc": auc_above(0),
        "auc_visibility_5": auc_above(5),
        "auc_visibility_10": auc_above(10),
        "scatter": dict(zip(space.names, map(_robust_scatter, (median - truth).T), strict=True)),
        "bias": dict(zip(space.names, np.median(median - truth, axis=0), strict=True)),
        "scatter_young_visible": dict(zip(space.names, map(_robust_scatter, (median - truth)[bright].T), strict=True)),
        "n_young_visible": int(bright.sum()),
        "scatter_log_visibility": _robust_scatter(np.log10(estimate.visibility.value / seen)),
        "coverage_68": {},
        "coverage_95": {},
    }
    for row in coverage(estimate, values):
        numbers[f"coverage_{round(100 * row['level'])}"][str(row["parameter"])] = row["coverage"]
    numbers["worst_deviation"] = _worst_deviation(estimate, values)
    return json.loads(json.dumps(numbers, default=float))


def _robust_scatter(error):
    return 1.4826 * np.median(np.abs(error - np.median(error)))


def _worst_deviation(estimate, values, n_bins=5):
    """Largest |coverage - level| in binomial standard errors over fifths of the estimated age and visibility."""
    worst = 0.0
    for by in (estimate.age, estimate.visibility):
        cell = np.searchsorted(np.quantile(by, np.linspace(0, 1, n_bins + 1)[1:-1]), by)
        for i in range(n_bins):
            table = coverage(estimate[cell == i], {name: value[cell == i] for name, value in values.items()})
            worst = max(worst, np.abs(table["deviation"]).max())
    return worst


def table(scores):
    """The scores as lines of text, one column per network."""
    names = list(scores)
    rows = [("mean NLL (flat prior: +3.06)", "nll", ".2f"), ("class AUC, all", "auc", ".3f")]
    rows += [(f"class AUC, visibility >= {lowest}", f"auc_visibility_{lowest}", ".3f") for lowest in (5, 10)]
    lines = [f"{'':46}" + "".join(f"{name:>20}" for name in names)]
    lines += [f"{title:46}" + "".join(f"{scores[name][key]:20{form}}" for name in names) for title, key, form in rows]
    units = {"age": "dex", "a_v": "mag", "mass": "dex", "half_light_radius": "dex"}
    for key, title in (
        ("scatter", "1.48 MAD"),
        ("scatter_young_visible", "1.48 MAD, age <= 100 Myr, visibility > 20"),
        ("coverage_68", "held by the 68 % interval"),
        ("coverage_95", "held by the 95 % interval"),
    ):
        lines.append(title)
        for parameter, unit in units.items():
            unit = unit if "scatter" in key else ""
            lines.append(f"    {parameter + ' ' + unit:42}" + "".join(f"{scores[name][key][parameter]:20.3f}" for name in names))
    title = "largest deviation of the coverage, sigma"
    return "\n".join([*lines, f"{title:46}" + "".join(f"{scores[name]['worst_deviation']:20.1f}" for name in names)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="names of pretrained networks, or model files")
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the mocks to use")
    parser.add_argument("--out", type=Path, help="stem of the files for table and numbers")
    parser.add_argument("--card", action="store_true", help="store the numbers in the model files (models must be paths)")
    arguments = parser.parse_args()
    nets = {Path(m).stem: ClusterNet.load(m) if Path(m).is_file() else ClusterNet.from_pretrained(m) for m in arguments.models}
    scores = score(nets, arguments.fraction)
    print(table(scores))
    if arguments.out:
        arguments.out.with_suffix(".txt").write_text(table(scores) + "\n")
        arguments.out.with_suffix(".json").write_text(json.dumps(scores, indent=2) + "\n")
    if arguments.card:
        for path, (name, net) in zip(arguments.models, nets.items(), strict=True):
            net.save(path, extra={"reference_mocks": scores[name]})


if __name__ == "__main__":
    main()
