# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The command ``clustercnn``: one verb for each thing that the library does.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
from astropy import units as u

from clustercnn import __version__

__all__ = ["main"]

INSTRUMENT = "HST/WFC3/UVIS/M83"
DISTANCE = 4.5 * u.Mpc
CALIBRATION = 0xCA11B  # goes with the seed of mocks that calibrate
CALIBRATION_SAMPLES = 20_000
# Even odds where one candidate in a hundred is a cluster: `ClusterEstimate.p_cluster_at`(0.01) = 0.5.
P_CLUSTER = 0.99


def main(argv=None):
    """
    Run a command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``clustercnn``; default those of the process.

    Returns
    -------
    status : int
        0, 1 after an error, 130 after Ctrl-C.

    Examples
    --------
    >>> from clustercnn.cli import main
    >>> main(["info"])  # doctest: +ELLIPSIS
    clustercnn ...
    """
    arguments = _parser().parse_args(argv)
    # Threads of torch that wait should sleep, not burn the core on which mocks are simulated; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        if "device" in arguments:
            from clustercnn.network.device import as_device

            as_device(arguments.device)  # before a minute of simulation has passed
        arguments.run(arguments)
    except KeyboardInterrupt as stop:
        print(f"clustercnn {arguments.verb}: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    except (FloatingPointError, ImportError, OSError, TypeError, ValueError) as error:
        print(f"clustercnn {arguments.verb}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser():
    parser = argparse.ArgumentParser(prog="clustercnn", description="Star cluster parameters from the pixels of images.")
    parser.add_argument("--version", action="version", version=f"clustercnn {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(run, example, text):
        name = run.__name__.strip("_")
        added = verbs.add_parser(name, help=text, description=f"{text}.", epilog=f"example:  clustercnn {name} {example}",
                                 formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        added.set_defaults(run=run)
        return added

    quickstart = verb(_quickstart, "--out quickstart", "go from a synthetic galaxy to a catalogue and a picture")
    _add_field(quickstart, "quickstart")
    _add_model(quickstart)

    simulate = verb(_simulate, "--out field --clusters 100 --seed 7", "make images of a synthetic galaxy with clusters")
    _add_field(simulate, "field")

    train = verb(_train, "--config configs/m83.toml --out m83.safetensors", "train a network on simulated clusters")
    train.add_argument("--config", type=Path, required=True, help="TOML file that says what to train on what")
    train.add_argument("--samples", type=int, help="mocks to see; default: as the file says")
    train.add_argument("--out", type=Path, default=Path("m83.safetensors"), help="model file")
    train.add_argument("--resume", action="store_true", help="go on from the checkpoint that an interrupted run left")
    train.add_argument("--workers", type=int, default=1, help="processes that simulate")
    train.add_argument("--calibration", type=int, default=CALIBRATION_SAMPLES, help="mocks to calibrate it on; 0 for none")
    train.add_argument("--seed", type=int, help="of mocks and first weights; default: as the file says")
    _add_device(train)

    predict = verb(_predict, "F336W=u.fits F438W=b.fits F814W=i.fits --out catalog.ecsv", "make a catalogue of your images")
    _add_images(predict)
    predict.add_argument("--out", type=Path, default=Path("catalog.ecsv"), help="catalogue, in any format that astropy writes")
    predict.add_argument("--positions", type=Path, help="table with x_centroid, y_centroid; default: find candidates")
    predict.add_argument("--draws", type=int, default=200, help="posterior draws per source")
    predict.add_argument("--instrument", help="name of a preset, for images that are not in electron/s")
    predict.add_argument("--distance", type=float, help="of the galaxy, Mpc; checked against the network's")
    _add_model(predict)
    _add_seed(predict)
    _add_device(predict)

    inject = verb(_inject, "F336W=u.fits F438W=b.fits F814W=i.fits --clusters 100 --out mock",
                  "put synthetic clusters into your images")
    _add_images(inject)
    inject.add_argument("--out", type=Path, default=Path("injected"), help="folder for images.fits and truth.ecsv")
    inject.add_argument("--clusters", type=int, default=100, help="how many")
    inject.add_argument("--instrument", default=INSTRUMENT, help="name of a preset")
    inject.add_argument("--distance", type=float, default=DISTANCE.value, help="of the galaxy, Mpc")
    _add_seed(inject)

    calibrate = verb(_calibrate, "--model m83.safetensors --out m83.safetensors", "check and calibrate a network on fresh mocks")
    calibrate.add_argument("--samples", type=int, default=CALIBRATION_SAMPLES, help="mocks, of which half are clusters")
    calibrate.add_argument("--out", type=Path, help="model file for the network with its calibration; default: only print it")
    _add_model(calibrate)
    _add_seed(calibrate)
    _add_device(calibrate)

    info = verb(_info, "m83", "print versions, or the model card of a network")
    info.add_argument("model", nargs="?", help="name of a pretrained network, or a model file")
    return parser


def _add_seed(parser):
    parser.add_argument("--seed", type=int, default=1, help="seed of everything random")


def _add_device(parser):
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto")


def _add_model(parser):
    parser.add_argument("--model", default="m83", help="name of a pretrained network, or a model file")


def _add_images(parser):
    parser.add_argument("images", nargs="+", metavar="BAND=FITS", help="a FITS image for each band, all on one pixel grid")


def _add_field(parser, out):
    parser.add_argument("--out", type=Path, default=Path(out), help="folder for the results")
    parser.add_argument("--clusters", type=int, default=60, help="how many")
    parser.add_argument("--shape", type=int, nargs=2, default=(1024, 1024), metavar=("NY", "NX"), help="pixels")
    _add_seed(parser)


# ---------------------------------------------------------------------------------------------------------------- verbs


def _quickstart(arguments):
    """The whole way: simulate, write, detect, infer, match, draw, tell."""
    import matplotlib

    matplotlib.use("agg")  # a picture in a file needs no screen
    from clustercnn.matching import match_positions
    from clustercnn.plotting import plot_overview
    from clustercnn.survey import make_catalog

    net = _network(arguments.model)
    result = _field(arguments)
    images, truth = result.images, result.truth
    catalog = make_catalog(images, net, rng=arguments.seed, progress=True)
    pairs = match_positions(truth, catalog, 2 * u.pix)
    catalog["truth_id"] = -1
    catalog["truth_id"][pairs["second"]] = truth["id"][pairs["first"]]
    _write(catalog, arguments.out / "catalog.ecsv")
    estimate = net.predict(images, catalog[pairs["second"]], draws=2000, rng=arguments.seed, nan="mask")
    figure = plot_overview(images, truth, catalog, pairs, estimate, p_min=P_CLUSTER)
    figure.savefig(arguments.out / "quickstart.png", dpi=150)
    _summarize(truth, catalog, pairs)
    print(f"\nall in {arguments.out}: images.fits, truth.ecsv, catalog.ecsv, quickstart.png")


def _summarize(truth, catalog, pairs):
    """Print how many of the clusters were found, and how well."""
    taken = catalog["p_cluster"] >= P_CLUSTER
    pairs = pairs[taken[pairs["second"]]]
    print(f"\n{len(truth)} clusters injected; {len(catalog)} candidates found, {taken.sum()} of them with p_cluster >= {P_CLUSTER:g}: "
          f"{len(pairs)} of the clusters and {taken.sum() - len(pairs)} others\n")
    truth, found = truth[pairs["first"]], catalog[pairs["second"]]
    print("parameter           scatter (1.48 MAD)   68 % intervals that hold the truth")
    for name in ("age", "a_v", "mass", "half_light_radius"):
        true, (middle, low, high) = truth[name], (found[name + end] for end in ("", "_lo", "_hi"))
        error = (middle - true).value if name == "a_v" else np.log10((middle / true).value)
        scatter = 1.48 * np.median(np.abs(error - np.median(error))) if len(error) else np.nan
        held = np.mean((low <= true) & (true <= high)) if len(error) else np.nan
        print(f"{name:18}  {scatter:6.2f} {'mag' if name == 'a_v' else 'dex'}           {held:6.0%}")


def _simulate(arguments):
    _field(arguments)


def _field(arguments):
    """A disc with clusters, written to ``images.fits`` and ``truth.ecsv`` in the folder ``out``; the injection's result."""
    from clustercnn.instruments import Instrument
    from clustercnn.parameters import ParameterSpace
    from clustercnn.simulation import GalaxyDisc

    shape, clusters, galaxy = np.random.default_rng(arguments.seed).spawn(3)
    instrument = Instrument.from_name(INSTRUMENT)
    disc = GalaxyDisc(instrument, 21.5 * u.mag / u.arcsec**2, 1.5, 0.3 * u.mag, distance=DISTANCE)
    images = disc.observe(tuple(arguments.shape), rng=galaxy)
    return _injected(images, instrument, DISTANCE, ParameterSpace.paper(), arguments, clusters)


def _injected(images, instrument, distance, space, arguments, rng):
    """Clusters drawn from a space, put into images at random places, and both written to the folder ``out``."""
    from clustercnn.simulation import ClusterInjector

    positions = _places(images.shape, arguments.clusters, rng)
    clusters = space.sample(arguments.clusters, rng=rng)
    result = ClusterInjector(images, instrument=instrument).inject(clusters, positions, rng, distance=distance, progress=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    result.images.write(arguments.out / "images.fits", overwrite=True)
    _write(result.truth, arguments.out / "truth.ecsv")
    print(f"{len(clusters)} clusters in {arguments.out / 'images.fits'}, their parameters in {arguments.out / 'truth.ecsv'}")
    return result


def _places(shape, n, rng, border=32, apart=24):
    """``n`` random positions (x, y), a border away from the edges and, where there is room, apart from one another."""
    if n < 1:
        raise ValueError(f"--clusters must be at least 1, not {n}")
    size = np.array(shape[::-1])
    if (size <= 2 * border).any():
        raise ValueError(f"images must be larger than {2 * border} x {2 * border} pixels, not {size[0]} x {size[1]}")
    places = np.empty((0, 2))
    for _ in range(100 * n):
        place = rng.uniform(border, size - border)
        if (np.hypot(*(places - place).T) > apart).all():
            places = np.vstack([places, place])
        if len(places) == n:
            return places
    raise ValueError(f"{n} clusters do not fit into {size[0]} x {size[1]} pixels, {apart} pixels apart")


def _train(arguments):
    from clustercnn.network.device import as_device
    from clustercnn.training_run import TrainingRun

    checkpoint = arguments.out.with_name(arguments.out.name + ".checkpoint")
    if checkpoint.exists() and not arguments.resume:
        raise ValueError(f"{checkpoint} is left of an interrupted run: go on with --resume, or delete it")
    device = as_device(arguments.device)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    run = TrainingRun.read(arguments.config, arguments.seed, device=device.type)
    training = run.training | ({} if arguments.samples is None else {"samples": arguments.samples})
    # On a GPU the mocks are made where they are needed.
    workers = arguments.workers if device.type == "cpu" else 0
    history = run.net.fit(run.stream, device=device, workers=workers, checkpoint=checkpoint, **training)
    if int(os.environ.get("RANK", 0)) > 0:
        return  # of the processes that torchrun starts the first one has looked at the validation samples
    run.net.save(arguments.out, extra={"config": arguments.config.read_text()})
    _write(history, arguments.out.with_suffix(".history.ecsv"))
    if arguments.calibration:
        _fresh_calibration(run.net, arguments.calibration, 1, device)
        run.net.save(arguments.out)
    print(f"{run.net}\nin {arguments.out}")


def _predict(arguments):
    from astropy.table import QTable

    from clustercnn.instruments import Instrument
    from clustercnn.survey import make_catalog

    positions = QTable.read(arguments.positions) if arguments.positions else None
    instrument = Instrument.from_name(arguments.instrument) if arguments.instrument else None
    distance = arguments.distance * u.Mpc if arguments.distance else None
    net = _network(arguments.model)
    catalog = make_catalog(_images(arguments.images), net, positions=positions, draws=arguments.draws, rng=arguments.seed,
                           device=arguments.device, instrument=instrument, distance=distance, progress=True)
    _write(catalog, arguments.out)
    print(f"{len(catalog)} sources in {arguments.out}, {np.sum(catalog['p_cluster'] >= P_CLUSTER)} of them "
          f"with p_cluster >= {P_CLUSTER:g}")


def _inject(arguments):
    from clustercnn.instruments import Instrument
    from clustercnn.parameters import ParameterSpace

    _injected(_images(arguments.images), Instrument.from_name(arguments.instrument), arguments.distance * u.Mpc,
              ParameterSpace.paper(), arguments, np.random.default_rng(arguments.seed))


def _calibrate(arguments):
    from clustercnn.network import calibration_text

    net = _network(arguments.model)
    _fresh_calibration(net, arguments.samples, arguments.seed, arguments.device)
    print(f"{net}\n\n{calibration_text(net.calibration)}")
    if arguments.out is not None:
        net.save(arguments.out)
        print(f"\nin {arguments.out}")


def _fresh_calibration(net, samples, seed, device):
    """Calibrate a network on mocks like those of its training, in front of other discs."""
    from clustercnn.instruments import Instrument
    from clustercnn.simulation import BackgroundFields, MockStream

    contract = net.contract
    instrument, distance = Instrument.from_dict(contract["instrument"]), contract["distance_mpc"] * u.Mpc
    # the training may have had the same seed, but not this sequence
    fields, mocks = np.random.SeedSequence([seed, CALIBRATION]).spawn(2)
    background = BackgroundFields.discs(instrument, n_fields=16, rng=fields, distance=distance)
    # equal odds, as the class probability promises them
    stream = MockStream(net.space, instrument, background=background, distance=distance, rng=mocks, positive_fraction=0.5,
                        negatives=contract.get("negatives"), depth_scatter=contract.get("depth_scatter", 0.0),
                        noise_correlation=contract.get("noise_correlation", 0.0))
    net.calibrate(stream, samples, device=device)


def _info(arguments):
    if arguments.model is None:
        print(f"clustercnn {__version__}")
        return
    from clustercnn.network import calibration_text

    net = _network(arguments.model)
    print(f"{net}\n\n{calibration_text(net.calibration)}\n")
    print(json.dumps({"contract": net.contract, "training": net.training}, indent=2))


def _write(table, path):
    """A table in the format that the suffix of its path asks for."""
    from clustercnn.files import whole_file

    with whole_file(path) as partial:
        table.write(partial)


def _network(model):
    """A network by its file, or by its name."""
    from clustercnn.network import ClusterNet

    return ClusterNet.load(model) if Path(model).is_file() else ClusterNet.from_pretrained(model)


def _images(words):
    """Images of the words ``BAND=FITS``."""
    from clustercnn.images import MultiBandImage

    paths = {}
    for word in words:
        band, equals, path = word.partition("=")
        if not (band and equals and path):
            raise ValueError(f"images must be given as BAND=FITS, such as F438W=f438w.fits, not {word!r}")
        paths[band] = path
    return MultiBandImage.read(paths)


if __name__ == "__main__":
    sys.exit(main())
