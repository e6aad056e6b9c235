# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What the scripts of this folder share: the reference mocks, the answers of a network to them, errors, tables and figures.

Simulating and predicting takes minutes, so both are done once: the background fields and the answers to the reference mocks lie
in a cache, as do those of the classical peer, under a name made of the weights, the code of the simulator, the recipe and the number of mocks.
"""

import argparse
import hashlib
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from astropy import units as u
from astropy.config import get_cache_dir
from astropy.table import Table
from tqdm import tqdm

import clustercnn
from clustercnn import ClusterNet
from clustercnn.calibration import coverage
from clustercnn.estimate import ClusterEstimate
from clustercnn.files import whole_file
from clustercnn.instruments import Instrument
from clustercnn.parameters import ParameterSpace
from clustercnn.photometric_inference import StochasticPhotometry
from clustercnn.simulation import BackgroundFields, MockStream
from clustercnn.stamps import log_psf_powers

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "validation"
RECIPE = ROOT / "benchmarks" / "reference_mocks.toml"
FIGURES = ROOT / "docs" / "figures"
RATE = u.electron / u.s
BATCH, DRAWS = 256, 499  # ranks 0 to 499 fall evenly into 20 bins
LIBRARY_SEED, PEER_BATCH = 40401, 1000  # of the library of the classical peer: other clusters, other discs
NAMES = "age", "a_v", "mass", "half_light_radius", "visibility"
UNITS = {"age": "dex", "a_v": "mag", "mass": "dex", "half_light_radius": "dex", "visibility": "dex"}
TITLES = {"age": "age", "a_v": "A_V", "mass": "mass", "half_light_radius": "size", "visibility": "visibility"}
PLOTTED = TITLES | {"a_v": "$A_V$"}
LABELS = {"age": "log age [yr]", "a_v": "$A_V$ [mag]", "mass": r"log mass [$M_\odot$]", "half_light_radius": "log size [arcsec]",
          "visibility": "log visibility"}
FOUNDATIONS = "instruments", "parameters", "profiles", "psf", "psf_powers", "seeds"  # modules that the simulator stands on
INK, ACCENT, GREY = "#31688e", "#d1495b", "0.55"


class Answers(NamedTuple):
    """Clusters and what a network says of them; coordinates are log10 yr, mag, log10 Msun, log10 arcsec."""

    truth: np.ndarray  # coordinates (n, 4)
    visibility: np.ndarray  # (n,)
    nll: np.ndarray  # minus log posterior density of the truth, (n,)
    estimate: ClusterEstimate

    @property
    def values(self):
        """The truth as a mapping of Quantities, the visibility among them."""
        return self.estimate.space.from_coordinates(self.truth) | {"visibility": self.visibility * u.one}

    def true(self, name):
        """A true parameter as plotted: see LABELS."""
        if name == "visibility":
            return np.log10(self.visibility)
        return self.truth[:, self.estimate.space.names.index(name)] + SHIFT[name]

    def quantile(self, name, q=0.5):
        """A quantile of the posterior as plotted."""
        if name == "visibility":
            return np.log10(self.estimate.quantile(name, q).value)
        return self.estimate.space[name].to_coordinate(self.estimate.quantile(name, q)) + SHIFT[name]

    def error(self, name):
        """Posterior median minus truth."""
        return self.quantile(name) - self.true(name)

    def half_width(self, name):
        """Half of the 68 % interval."""
        return (self.quantile(name, 0.84) - self.quantile(name, 0.16)) / 2

    def __getitem__(self, rows):
        return Answers(self.truth[rows], self.visibility[rows], self.nll[rows], self.estimate[rows])


SHIFT = {"age": 6.0, "a_v": 0.0, "mass": 0.0, "half_light_radius": 0.0}  # the space counts Myr


def arguments(doc, samples=20_000, **further):
    """The command line: options of every script, and further ones as name=(default, help)."""
    parser = argparse.ArgumentParser(description=doc.strip().split("\n")[0])
    parser.add_argument("--model", default="m83", help="name of a pretrained network, or a model file")
    parser.add_argument("--samples", type=int, default=samples, help=f"mocks, default {samples}")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="of the mocks, default reference_mocks.toml")
    cache = Path(get_cache_dir("clustercnn")) / "validation"
    parser.add_argument("--cache", type=Path, default=cache, help=f"folder for simulations, default {cache}")
    parser.add_argument("--library", type=int, default=200_000, help="mocks in the library of the classical peer, default 200000")
    for name, (default, text) in further.items():
        kind = Path if default is None else type(default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=text)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    args.settings = tomllib.loads(args.recipe.read_text())
    args.clusters = "reference clusters" if args.recipe == RECIPE else f"clusters of {args.recipe.name}"
    return args


def network(model):
    """A network by its name or file."""
    return ClusterNet.load(model) if Path(model).is_file() else ClusterNet.from_pretrained(model)


def fields(args, **changes):
    """The background fields of the recipe; with ``changes`` to the settings or seed (rng) they are not kept in the cache."""
    recipe = args.settings
    path = args.cache / f"fields-{digest_of(args)}.npy"
    if not changes and path.exists():
        return BackgroundFields(np.load(path, mmap_mode="r"))
    settings = {"distance": recipe["distance_mpc"] * u.Mpc, "rng": recipe["field_seed"]} | changes
    instrument = settings.pop("instrument", Instrument.from_name(recipe["instrument"]))
    made = BackgroundFields.discs(instrument, recipe["n_fields"], tuple(recipe["field_shape"]), **settings)
    if not changes:
        with whole_file(path) as partial:
            np.save(partial, np.stack(made.fields))
    return made


def stream(args, seed="cluster_seed", **changes):
    """The stream of the recipe with that seed, or what changes of its settings make of it."""
    recipe = args.settings
    settings = {"shape": tuple(recipe["stamp_shape"]), "distance": recipe["distance_mpc"] * u.Mpc, "positive_fraction": 1.0}
    settings |= changes
    instrument = settings.pop("instrument", Instrument.from_name(recipe["instrument"]))
    if "background" not in settings:
        settings["background"] = fields(args)
    return MockStream(ParameterSpace.paper(), instrument, rng=recipe[seed], **settings)


def answers(net, mocks, n, change=None, title="clusters", **told):
    """
    What a network says of the first clusters of a stream.

    ``change(pixels, start)`` alters the stamps of a batch; ``told`` is what the network is told, keywords of `ClusterNet.predict`.
    """
    parts = []
    for start in tqdm(range(0, n, BATCH), desc=title, unit="batch"):
        batch = mocks.batch(start, min(BATCH, n - start))
        pixels = batch["pixels"].numpy() if change is None else change(batch["pixels"].numpy(), start)
        estimate = net.predict(pixels * RATE, draws=DRAWS, rng=start, nan="mask", **told)
        with torch.inference_mode():
            features = net.module(torch.from_numpy(pixels), **_tensors(net, len(pixels), **told))
            nll = -net.module.posterior.log_prob(features, batch["parameters"]).numpy()
        parts.append(Answers(batch["parameters"].numpy().astype(float), batch["visibility"].numpy(), nll, estimate))
    *arrays, estimates = zip(*parts, strict=True)
    return Answers(*map(np.concatenate, arrays), ClusterEstimate.concatenate(estimates))


def _tensors(net, n, zero_point_error=0 * u.mag, psf=None):
    """What n stamps are told, as the module takes it."""
    told = {"zero_point_error": torch.full((n,), float(zero_point_error.to_value(u.mag)))}
    if psf is not None:
        told["psf"] = torch.tensor(log_psf_powers(psf, net.contract), dtype=torch.float32).expand(n, -1, -1)
    return told


def p_cluster(net, mocks, n, title="negatives"):
    """The probability of a cluster for the first stamps of a stream."""
    starts = tqdm(range(0, n, BATCH), desc=title, unit="batch")
    batches = ((start, mocks.batch(start, min(BATCH, n - start))["pixels"].numpy()) for start in starts)
    return np.concatenate([net.predict(pixels * RATE, draws=1, rng=start).p_cluster for start, pixels in batches])


def reference(args, net):
    """The answers to the reference clusters, and ``p_cluster`` of as many reference negatives; kept in the cache."""
    stem = args.cache / f"answers-{digest_of(args, net)}-{args.samples}x{DRAWS}"
    draws, rest = stem.with_suffix(".fits"), stem.with_suffix(".npz")
    if not (draws.exists() and rest.exists()):
        found = answers(net, stream(args), args.samples)
        negative = p_cluster(net, stream(args, "negative_seed", positive_fraction=0.0), args.samples)
        found.estimate.write(draws, overwrite=True)
        with whole_file(rest) as partial, open(partial, "wb") as file:
            np.savez(file, truth=found.truth, visibility=found.visibility, nll=found.nll, negative=negative)
    kept = np.load(rest)
    return Answers(kept["truth"], kept["visibility"], kept["nll"], ClusterEstimate.read(draws)), kept["negative"]


def peer_answers(args, found):
    """What stochastic photometry, the classical peer, says of the same stamps; kept in the cache."""
    digest = digest_of(args, more=["photometric_inference.py"])
    path = args.cache / f"peer-{digest}-{args.library}-{args.samples}.fits"
    if not path.exists():
        peer_estimate(peer_of(args), stream(args), args.samples, PEER_BATCH).write(path)
    return found._replace(nll=np.full(len(found.truth), np.nan), estimate=ClusterEstimate.read(path))


def peer_of(args):
    """Stochastic photometry with a library of other clusters before other discs."""
    mocks = stream(args)
    library = MockStream(mocks.space, mocks.instrument, distance=mocks.distance, background=fields(args, rng=LIBRARY_SEED), rng=LIBRARY_SEED,
                         positive_fraction=1.0)
    return StochasticPhotometry(library, samples=args.library, progress=True)


def peer_estimate(peer, mocks, n, size=BATCH, change=None):
    """What it says of the first clusters of a stream; ``change`` as for `answers`."""
    parts = []
    for start in range(0, n, size):
        pixels = mocks.batch(start, min(size, n - start))["pixels"].numpy()
        parts.append(peer.predict((pixels if change is None else change(pixels, start)) * RATE, rng=start))
    return ClusterEstimate.concatenate(parts)


def digest_of(args, net=None, more=()):
    """A name for what the recipe, the code of the simulator (and ``more`` of the package) and a network with its weights make."""
    package, digest = Path(clustercnn.__file__).parent, hashlib.sha256(args.recipe.read_bytes())
    more = more if net is None else (*more, "network/*.py")
    simulator = "simulation/*.py", "stellar/*.py", "stellar/data/*", "data/*", *(f"{name}.py" for name in FOUNDATIONS)
    for pattern in (*simulator, *more):
        for path in sorted(package.glob(pattern)):
            digest.update(path.read_bytes())
    for values in [] if net is None else net.module.state_dict().values():
        digest.update(values.numpy().tobytes())
    if net is not None:
        digest.update(repr((net.module.posterior.temperature, net.module.cluster.temperature)).encode())
    return digest.hexdigest()[:12]


def spread(error, rng=0, n=100):
    """Robust scatter (1.48 MAD), bias (median) and rms of errors, with the errors of the former two by bootstrap."""
    error = np.asarray(error, dtype=float)
    if not len(error):
        return {"n": 0} | dict.fromkeys(("sigma", "sigma_error", "bias", "bias_error", "rms"), np.nan)
    resampled = np.random.default_rng(rng).choice(error, (n, len(error)))
    (sigma, bias), (sigmas, biases) = _robust(error), _robust(resampled)
    return {"n": len(error), "sigma": sigma, "sigma_error": sigmas.std(), "bias": bias, "bias_error": biases.std(),
            "rms": np.sqrt(np.mean(error**2))}


def recovery(found):
    """Errors, widths of the 68 % intervals, and how often the intervals hold the truth: a dict for each parameter."""
    held = coverage(found.estimate, found.values)
    for name in found.estimate.space.names:
        inside = {float(row["level"]): row for row in held[held["parameter"] == name]}
        yield {"parameter": name} | spread(found.error(name)) | {
            "half_width": np.median(found.half_width(name)), "held_68": float(inside[0.68]["coverage"]),
            "held_68_error": float(inside[0.68]["error"]), "held_95": float(inside[0.95]["coverage"]),
        }


def _robust(error):
    middle = np.median(error, axis=-1, keepdims=True)
    return 1.4826 * np.median(np.abs(error - middle), axis=-1), middle[..., 0]


def write(name, rows, note, page=None, places=4):
    """
    A table as ``results/validation/NAME.ecsv``, and as ``NAME.rst`` for the manual: a line of text and a part of the table.

    ``page`` are the rows to show, all by default.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not rows:
        (RESULTS / f"{name}.rst").write_text(f"{note}\n")
        return
    table = Table(rows=rows)
    for column in table.itercols():
        if column.dtype.kind == "f":
            table[column.name] = np.round(column, places)
    table.meta["note"] = note
    table.write(RESULTS / f"{name}.ecsv", overwrite=True)
    shown = Table(rows=rows if page is None else page)
    for column in shown.itercols():
        if column.dtype.kind == "f":
            column.info.format = ".3f"
    lines = [note, "", *_grid(shown)]
    (RESULTS / f"{name}.rst").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _grid(table):
    """A table in reStructuredText."""
    cells = [table.colnames, *([format(row[name], table[name].info.format or "") for name in table.colnames] for row in table)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.colnames))]
    rule = " ".join("=" * width for width in widths)
    lines = [" ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in cells]
    return [rule, lines[0], rule, *lines[1:], rule]


def pyplot():
    """matplotlib without a screen."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt


def save(figure, name):
    """A PNG of few colours, which is small, in the figures of the manual."""
    from PIL import Image

    path = FIGURES / f"{name}.png"
    figure.savefig(path, dpi=80)
    with Image.open(path) as image:  # of the most different colours, lest a few red points turn grey
        image.convert("RGB").quantize(96, method=Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
