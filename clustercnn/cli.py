# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The command ``clustercnn``: one verb for each thing that the library does.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io.registry import IORegistryError

from clustercnn import __version__

__all__ = ["main"]

INSTRUMENT = "HST/WFC3/UVIS/M83"
DISTANCE = 4.5 * u.Mpc
CALIBRATION = 0xCA11B  # goes with the seed of mocks that calibrate
CALIBRATION_SAMPLES = 20_000
# From which p_cluster on a source is taken for a cluster; docs/survey.rst has the completeness and purity of that.
P_CLUSTER = 0.95
# Messages that name an argument of Python, which a command does not have.
_PYTHON = re.compile(r"\b(instrument|unit|exposure|zero_points|passbands|gain|pixel_scale|psf|extinction_law)=")
STATUS = "exit status:  0 done; 1 an error, told in one line; 2 words that are not understood; 130 stopped by Ctrl-C"


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
    except BrokenPipeError:  # of a reader, such as head, that has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as stop:
        print(f"clustercnn {arguments.verb}: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    except (FloatingPointError, ImportError, IORegistryError, OSError, TypeError, ValueError, u.UnitsError) as error:
        hint = "; commands are told it in a file of clustercnn init, with --config" if _PYTHON.search(str(error)) else ""
        print(f"clustercnn {arguments.verb}: {error}{hint}", file=sys.stderr)
        return 1
    return 0


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with the defaults, where there are any, and the example on a line of its own."""

    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


def _parser():
    parser = argparse.ArgumentParser(prog="clustercnn", description="Star cluster parameters from the pixels of images.",
                                     epilog=STATUS)
    parser.add_argument("--version", action="version", version=f"clustercnn {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(run, example, text):
        name = run.__name__.strip("_")
        added = verbs.add_parser(name, help=text, description=f"{text}.", formatter_class=_Help,
                                 epilog=f"example:  clustercnn {name} {example}\n\n{STATUS}")
        added.set_defaults(run=run)
        return added

    quickstart = verb(_quickstart, "--out quickstart", "go from a synthetic galaxy to a catalogue and a picture")
    _add_field(quickstart, "quickstart")
    _add_model(quickstart)
    _add_device(quickstart)

    simulate = verb(_simulate, "--out field --clusters 100 --seed 7", "make images of a synthetic galaxy with clusters")
    _add_field(simulate, "field")

    init = verb(_init, "run.toml F336W=u.fits F438W=b.fits F814W=i.fits --distance 7.2",
                "write the file that trains a network for your galaxy, with what the images tell filled in")
    init.add_argument("file", type=Path, help="TOML file to write")
    _add_images(init, "a FITS image for each band, all on one pixel grid")
    init.add_argument("--distance", type=float, help="of the galaxy, Mpc")

    train = verb(_train, "--config configs/m83.toml --out m83.safetensors", "train a network on simulated clusters")
    train.add_argument("--config", type=Path, required=True, help="TOML file that says what to train on what")
    train.add_argument("--samples", type=int, help="mocks to see; default: as the file says")
    train.add_argument("--out", type=Path, help="model file; default: named like the TOML file, run.safetensors for run.toml")
    train.add_argument("--resume", action="store_true", help="go on from the checkpoint that an interrupted run left")
    train.add_argument("--workers", type=int, default=1, help="processes that simulate")
    train.add_argument("--calibration", type=int, default=CALIBRATION_SAMPLES, help="mocks to calibrate it on; 0 for none")
    train.add_argument("--seed", type=_whole_number, help="of mocks and first weights; default: as the file says")
    _add_device(train)

    predict = verb(_predict, "F336W=u.fits F438W=b.fits F814W=i.fits --out catalog.ecsv", "make a catalogue of your images")
    _add_images(predict)
    _add_config(predict)
    predict.add_argument("--out", type=Path, default=Path("catalog.ecsv"), help="catalogue, in any format that astropy writes")
    predict.add_argument("--positions", type=Path, help="table with x_centroid, y_centroid; default: find candidates")
    predict.add_argument("--draws", type=int, default=200, help="posterior draws per source")
    predict.add_argument("--instrument", help=f"a preset that has exposures, {INSTRUMENT}; what it takes for other data is told with --config")
    predict.add_argument("--distance", type=float, help="of the galaxy, Mpc; checked against the network's")
    predict.add_argument("--zero-point-error", type=float, default=0, help="standard deviation of the zero points of the images, mag")
    predict.add_argument("--checkpoint", type=Path, help="folder for finished pieces: an interrupted run goes on from there")
    _add_model(predict)
    _add_seed(predict)
    _add_device(predict)

    inject = verb(_inject, "F336W=u.fits F438W=b.fits F814W=i.fits --clusters 100 --out mock",
                  "put synthetic clusters into your images")
    _add_images(inject)
    _add_config(inject)
    inject.add_argument("--out", type=Path, default=Path("injected"), help="folder for images.fits and truth.ecsv")
    inject.add_argument("--clusters", type=int, default=100, help="how many")
    inject.add_argument("--instrument", help=f"a preset that has exposures; default: {INSTRUMENT}")
    inject.add_argument("--distance", type=float, help=f"of the galaxy, Mpc; default: {DISTANCE.value}")
    _add_seed(inject)

    validate = verb(_validate, "--config run.toml --model mine.safetensors --clusters 300 --out validation",
                    "try a network on clusters that are put into your images")
    _add_images(validate)
    _add_config(validate)
    validate.add_argument("--out", type=Path, default=Path("validation"),
                          help="folder for images.fits, truth.ecsv, catalog.ecsv and coverage.ecsv")
    validate.add_argument("--clusters", type=int, default=100, help="how many")
    validate.add_argument("--instrument", help=f"a preset that has exposures; default: {INSTRUMENT}")
    validate.add_argument("--distance", type=float, help=f"of the galaxy, Mpc; default: {DISTANCE.value}")
    _add_model(validate)
    _add_seed(validate)
    _add_device(validate)

    calibrate = verb(_calibrate, "--model m83.safetensors --out m83.safetensors", "check and calibrate a network on fresh mocks")
    calibrate.add_argument("--samples", type=int, default=CALIBRATION_SAMPLES, help="mocks, of which half are clusters")
    calibrate.add_argument("--out", type=Path, help="model file for the network with its calibration; default: only print it")
    calibrate.add_argument("--config", type=Path, help="file that the network was trained by, for its PSFs and its mosaic")
    _add_model(calibrate)
    _add_seed(calibrate)
    _add_device(calibrate)

    info = verb(_info, "m83", "print versions, or the model card of a network")
    info.add_argument("model", nargs="?", help="name of a pretrained network, or a model file")
    return parser


def _add_seed(parser):
    parser.add_argument("--seed", type=_whole_number, default=1, help="seed of everything random")


def _whole_number(word):
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of 0 or more, not {word!r}")
    return int(word)


def _add_device(parser):
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto")


def _add_model(parser):
    parser.add_argument("--model", default="m83", help="name of a pretrained network, or a model file")


def _add_images(parser, text="a FITS image for each band, all on one pixel grid; or one file of all bands, as simulate and inject write it"):
    parser.add_argument("images", nargs="*", metavar="BAND=FITS", help=text)


def _add_config(parser):
    parser.add_argument("--config", type=Path, help="file of init that says what the images are, instead of BAND=FITS")


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
    from clustercnn.plotting import plot_overview
    from clustercnn.survey import make_catalog
    from clustercnn.training_run import read_network

    net = read_network(arguments.model)
    result = _field(arguments)
    images, truth = result.images, result.truth
    catalog = make_catalog(images, net, rng=arguments.seed, device=arguments.device, progress=True)
    pairs = _matched(truth, catalog)
    _write(catalog, arguments.out / "catalog.ecsv")
    estimate = net.predict(images, catalog[pairs["second"]], draws=2000, rng=arguments.seed, device=arguments.device, nan="mask")
    figure = plot_overview(images, truth, catalog, pairs, estimate, accepted=_accepted(catalog))
    figure.savefig(arguments.out / "quickstart.png", dpi=150)
    _summarize(truth, catalog, pairs)
    print(f"\nall in {arguments.out}: images.fits, truth.ecsv, catalog.ecsv, quickstart.png")


def _matched(truth, catalog):
    """Pairs of injected clusters and sources that are no part of another; the catalogue gets the column ``truth_id``, -1 without."""
    from clustercnn.matching import match_positions

    main = np.flatnonzero(catalog["part_of"] == 0)
    pairs = match_positions(truth, catalog[main], 2 * u.pix)
    pairs["second"] = main[pairs["second"]]
    catalog["truth_id"] = -1
    catalog["truth_id"][pairs["second"]] = truth["id"][pairs["first"]]
    return pairs


def _accepted(catalog):
    """Which sources are taken for clusters, second peaks of others left out."""
    return (catalog["p_cluster"] >= P_CLUSTER) & (catalog["part_of"] == 0)


def _summarize(truth, catalog, pairs, others="others"):
    """Print how many of the clusters were found, and how well."""
    taken = _accepted(catalog)
    pairs = pairs[taken[pairs["second"]]]
    print(f"\n{len(truth)} clusters injected; {len(catalog)} candidates found, {taken.sum()} of them with p_cluster >= {P_CLUSTER:g}, "
          f"second peaks left out: "
          f"{len(pairs)} of the clusters and {taken.sum() - len(pairs)} {others}\n")
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
    from clustercnn.training_run import Observation

    shape, clusters, galaxy = np.random.default_rng(arguments.seed).spawn(3)
    instrument = Instrument.from_name(INSTRUMENT)
    disc = GalaxyDisc(instrument, 21.5 * u.mag / u.arcsec**2, 1.5, 0.3 * u.mag, distance=DISTANCE)
    images = disc.observe(tuple(arguments.shape), rng=galaxy)
    return _injected(Observation(instrument, DISTANCE, images=images), ParameterSpace.paper(), arguments, clusters)


def _injected(data, space, arguments, rng):
    """Clusters drawn from a space, put into images at random places, and both written to the folder ``out``."""
    from clustercnn.simulation import ClusterInjector

    injector = ClusterInjector(
        data.images, instrument=data.instrument, psf=data.psf, distance=data.distance,
        extinction_law=data.mocks.get("extinction_law", "F99"),
    )
    positions = _places(data.images, arguments.clusters, rng)
    clusters = space.sample(arguments.clusters, rng=rng)
    result = injector.inject(clusters, positions, rng, progress=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    result.images.write(arguments.out / "images.fits", overwrite=True)
    _write(result.truth, arguments.out / "truth.ecsv")
    print(f"{len(clusters)} clusters in {arguments.out / 'images.fits'}, their parameters in {arguments.out / 'truth.ecsv'}")
    return result


def _places(images, n, rng, border=32, apart=24):
    """``n`` random positions (x, y) whose surroundings, up to a border, are on the image and hold data; apart from one another."""
    if n < 1:
        raise ValueError(f"--clusters must be at least 1, not {n}")
    size = np.array(images.shape[::-1])
    if (size <= 2 * border).any():
        raise ValueError(f"images must be larger than {2 * border} x {2 * border} pixels, not {size[0]} x {size[1]}")
    places = np.empty((0, 2))
    for _ in range(100 * n):
        place = rng.uniform(border, size - border)
        if (np.hypot(*(places - place).T) > apart).all() and _whole(images, place, 2 * border):
            places = np.vstack([places, place])
        if len(places) == n:
            return places
    raise ValueError(f"{n} clusters do not fit into {size[0]} x {size[1]} pixels, {apart} pixels apart and where all is whole")


def _whole(images, place, side):
    """Whether no pixel of a square is masked, NaN, or not exposed."""
    return np.isfinite(images.cutouts([place], (side, side), unit=None, nan="mask").value).all()


def _init(arguments):
    from clustercnn.files import whole_file
    from clustercnn.parameters import positive_quantity
    from clustercnn.run_template import run_template

    if arguments.file.suffix != ".toml":
        raise ValueError(f"the first word must be the file to write, such as run.toml, not {str(arguments.file)!r}")
    if arguments.file.exists():
        raise ValueError(f"{arguments.file} is there already: delete it, or take another name")
    distance = None if arguments.distance is None else positive_quantity(arguments.distance * u.Mpc, u.Mpc, "--distance")
    text, complaint = run_template(arguments.file, _paths(arguments.images), distance)
    with whole_file(arguments.file) as partial:
        partial.write_text(text)
    if complaint:
        print(f"the images do not tell all: {complaint}", file=sys.stderr)
    print(f"{arguments.file}: look it through, then  clustercnn train --config {arguments.file}")


def _train(arguments):
    from clustercnn.network.calibrating import LEAST
    from clustercnn.network.device import as_device
    from clustercnn.training_run import TrainingRun

    out = arguments.out or Path(arguments.config.stem + ".safetensors")
    checkpoint = out.with_name(out.name + ".checkpoint")
    if checkpoint.exists() and not arguments.resume:
        raise ValueError(f"{checkpoint} is left of an interrupted run: go on with --resume, or delete it")
    if arguments.resume and out.exists() and not checkpoint.exists():
        raise ValueError(f"{out} is trained to its end; where it lacks a calibration, clustercnn calibrate --config {arguments.config} --model {out} "
                         f"--out {out} adds it")
    if arguments.resume and not checkpoint.exists():
        print(f"there is no {checkpoint}: the training starts at its beginning", file=sys.stderr)
    if arguments.calibration and arguments.calibration < LEAST:
        raise ValueError(f"--calibration must be at least {LEAST} mocks, or 0 for none, not {arguments.calibration}")
    device = as_device(arguments.device)
    out.parent.mkdir(parents=True, exist_ok=True)
    run = TrainingRun.read(arguments.config, arguments.seed, device=device.type)
    training = run.training | ({} if arguments.samples is None else {"samples": arguments.samples})
    # On a GPU the mocks are made where they are needed.
    workers = arguments.workers if device.type == "cpu" else 0
    history = run.net.fit(run.stream, device=device, workers=workers, checkpoint=checkpoint, **training)
    if int(os.environ.get("RANK", 0)) > 0:
        return  # of the processes that torchrun starts the first one has looked at the validation samples
    run.net.save(out, extra={"config": arguments.config.read_text()})
    _write(history, out.with_suffix(".history.ecsv"))
    if arguments.calibration:
        mosaic = run.stream.background if run.stream.background.noisy else None
        try:
            _fresh_calibration(run.net, arguments.calibration, 1, device, run.stream.psf, mosaic)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{out} is trained; clustercnn calibrate --config {arguments.config} --model {out} --out {out} "
                                    "calibrates it") from None
        run.net.save(out)
    print(f"{run.net}\nin {out}")


def _predict(arguments):
    from clustercnn.survey import make_catalog, write_catalog
    from clustercnn.training_run import read_network

    _check_out(arguments.out)
    positions = _table(arguments.positions) if arguments.positions else None
    data = _data(arguments)
    net = read_network(arguments.model)
    catalog = make_catalog(data.images, net, positions=positions, draws=arguments.draws, rng=arguments.seed,
                           device=arguments.device, instrument=data.instrument, distance=data.distance,
                           zero_point_error=arguments.zero_point_error * u.mag, psf=data.psf, checkpoint=arguments.checkpoint,
                           progress=True)
    write_catalog(catalog, arguments.out, overwrite=True)
    print(f"{len(catalog)} sources in {arguments.out}, {np.sum(_accepted(catalog))} of them clusters: p_cluster >= {P_CLUSTER:g}, "
          f"second peaks left out")


def _inject(arguments):
    from clustercnn.parameters import ParameterSpace

    _injected(_data(arguments, INSTRUMENT, DISTANCE), ParameterSpace.paper(), arguments, np.random.default_rng(arguments.seed))


def _validate(arguments):
    """Inject, find, infer; are the clusters found, and do the intervals hold the truth?"""
    from clustercnn.calibration import coverage
    from clustercnn.survey import make_catalog
    from clustercnn.training_run import read_network

    data, net = _data(arguments, INSTRUMENT, DISTANCE), read_network(arguments.model)
    result = _injected(data, net.space, arguments, np.random.default_rng(arguments.seed))
    keywords = {"rng": arguments.seed, "device": arguments.device, "instrument": data.instrument, "distance": data.distance,
                "psf": data.psf, "progress": True}
    catalog = make_catalog(result.images, net, **keywords)
    pairs = _matched(result.truth, catalog)
    _write(catalog, arguments.out / "catalog.ecsv")
    _summarize(result.truth, catalog, pairs, "others, real clusters of the images among them")
    # at the true places: posteriors promise their coverage for all clusters of the prior, not for those that were easy to find
    table = coverage(net.predict(result.images, result.truth, nan="mask", **keywords), result.truth)
    _write(table, arguments.out / "coverage.ecsv")
    for column in table.itercols():
        column.info.format = ".3f" if column.dtype.kind == "f" else None
    print(f"\nAt the places of all {len(result.truth)} clusters\n" + "\n".join(table.pformat(max_lines=-1)))


def _calibrate(arguments):
    from clustercnn.network import calibration_text
    from clustercnn.training_run import Observation, read_mosaic, read_network

    net = read_network(arguments.model)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
    psf, mosaic = None, None
    if arguments.config:
        data = Observation.read(arguments.config)
        psf, mosaic = data.psf, read_mosaic(arguments.config, data)
    _fresh_calibration(net, arguments.samples, arguments.seed, arguments.device, psf, mosaic)
    print(f"{net}\n\n{calibration_text(net.calibration)}")
    if arguments.out is not None:
        net.save(arguments.out)
        print(f"\nin {arguments.out}")


def _fresh_calibration(net, samples, seed, device, psf, background):
    """Calibrate a network on mocks like those of its training."""
    net.calibrate(fresh_mocks(net, samples, seed, psf, background), samples, device=device)


def fresh_mocks(net, samples, seed, psf=None, background=None):
    """The stream of mocks like those of the training of a network, half of them clusters, in front of other discs or of the same mosaic."""
    from clustercnn.instruments import Instrument
    from clustercnn.simulation import BackgroundFields, MockStream

    contract = net.contract
    if missing := [name for name in ("instrument", "distance_mpc") if name not in contract]:
        raise ValueError(f"the network does not say for which {' and '.join(missing)} it was trained; use ClusterNet.calibrate with a stream")
    instrument, distance = Instrument.from_dict(contract["instrument"]), contract["distance_mpc"] * u.Mpc
    # the training may have had the same seed, but not this sequence
    fields, clusters = np.random.SeedSequence([seed, CALIBRATION]).spawn(2)
    law = contract.get("population", {}).get("extinction_law", "F99")
    if not law.isidentifier():  # but the text of a model
        raise ValueError(f"the network was trained with the dust of a model, {law}; use ClusterNet.calibrate with a stream")
    if background is None:
        n_fields = min(max(16, samples // 5000), 64)  # drawing one takes a second or more
        background = BackgroundFields.discs(instrument, n_fields=n_fields, rng=fields, distance=distance, psf=psf, extinction_law=law)
    varied = "negatives", "neighbour_fraction", "depth_scatter", "noise_correlation", "psf_scatter"
    settings = {name: contract[name] for name in varied if name in contract}
    # equal odds, as the class probability promises them
    settings |= {"shape": contract["stamp_shape"], "extinction_law": law, "positive_fraction": 0.5}
    stream = MockStream(net.space, instrument, psf=psf, background=background, distance=distance, rng=clusters, **settings)
    for name in ("background", "light_within_pixels", "population"):
        if contract.get(name, ours := stream.contract[name]) != ours:
            raise ValueError(f"the network was trained on mocks of another {name}: {contract[name]}, not {ours}; name its own TOML file with "
                             "--config, or use ClusterNet.calibrate")
    return stream


def _info(arguments):
    if arguments.model is None:
        print(f"clustercnn {__version__}")
        return
    from clustercnn.network import calibration_text
    from clustercnn.training_run import read_network

    net = read_network(arguments.model)
    print(f"{net}\n\n{calibration_text(net.calibration)}\n")
    print(json.dumps({"contract": net.contract, "training": net.training}, indent=2))


def _check_out(path):
    """Make the folder of a table, and complain now, not after hours, of a format that nobody knows."""
    from tempfile import TemporaryDirectory

    from astropy.table import QTable

    from clustercnn.survey import write_catalog

    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder:
        try:
            write_catalog(QTable({"id": [1]}), Path(folder) / path.name)
        except IORegistryError:
            raise ValueError(f"--out must end in .ecsv, .fits, .xml or another suffix of a table that astropy writes, not {path.name!r}") from None


def _table(path):
    from astropy.table import QTable

    try:
        return QTable.read(path)
    except IORegistryError:
        raise ValueError(f"{path} is no table that astropy knows by its suffix and contents, such as .ecsv or .fits") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _write(table, path):
    """A table in the format that the suffix of its path asks for."""
    from clustercnn.files import whole_file

    with whole_file(path) as partial:
        table.write(partial)


def _data(arguments, instrument=None, distance=None):
    """What ``--config`` says of the images; or the words of the command line and what goes without saying."""
    from clustercnn.images import MultiBandImage
    from clustercnn.instruments import Instrument
    from clustercnn.training_run import Observation

    if arguments.config is None:
        if not arguments.images:
            raise ValueError("images must be given as BAND=FITS, such as F438W=f438w.fits, or with --config and a file of init")
        whole = len(arguments.images) == 1 and Path(arguments.images[0]).is_file()  # one file of `MultiBandImage.write`
        source = arguments.images[0] if whole else _paths(arguments.images)
        name = arguments.instrument or instrument
        distance = distance if arguments.distance is None else arguments.distance * u.Mpc
        return Observation(name and Instrument.from_name(name), distance, images=MultiBandImage.read(source))
    if arguments.images or arguments.instrument or arguments.distance is not None:
        raise ValueError("with --config there can be no BAND=FITS, --instrument and --distance: the file says what they are")
    data = Observation.read(arguments.config)
    if data.images is None:
        raise ValueError(f'{arguments.config} names no images; add them to its table [images], such as F438W = "f438w.fits"')
    return data


def _paths(words):
    """Band -> path of the words ``BAND=FITS``."""
    paths = {}
    for word in words:
        band, equals, path = word.partition("=")
        if not (band and equals and path):
            raise ValueError(f"images must be given as BAND=FITS, such as F438W=f438w.fits, not {word!r}")
        if band in paths:
            raise ValueError(f"there must be one image for each band, but {band} has {paths[band]} and {path}")
        paths[band] = path
    return paths


if __name__ == "__main__":
    sys.exit(main())
