# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A run as a TOML file says it: your data, the stream of mocks, the network, and how long to train."""

import tomllib
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from astropy import units as u
from astropy.io.registry import IORegistryError
from astropy.table import QTable

from clustercnn.images import MultiBandImage
from clustercnn.instruments import Instrument, per_band
from clustercnn.network import ClusterNet
from clustercnn.parameters import positive_quantity
from clustercnn.psf import as_psf
from clustercnn.simulation import MockStream, MosaicBackground
from clustercnn.simulation.render import band_psfs
from clustercnn.simulation.stream import M83, M83_DISTANCE

__all__ = ["Observation", "TrainingRun", "read_mosaic", "read_network"]

#: The tables of a file, the entries of each, and what they must be. A path for each band is an entry of images and of psf, too.
ENTRIES = {
    "images": {"unit": str},
    "instrument": {
        "name": str,
        "distance": str,
        "bands": list,
        "pixel_scale": str,
        **dict.fromkeys(("exposure", "gain", "read_noise", "sky"), (str, dict)),
        **dict.fromkeys(("zero_points", "passbands"), dict),
        "n_exposures": (int, dict),
    },
    "psf": {"oversampling": (float, dict), "pixel_integrated": bool, "center": list},
    "mocks": {
        "background": str,
        "avoid": str,
        "avoid_radius": str,
        "positive_fraction": float,
        "neighbour_fraction": float,
        "negatives": dict,
        "depth_scatter": float,
        "noise_correlation": float,
        "psf_scatter": float,
        "extinction_law": str,
    },
    "network": {"start": str, "encoder": str, "head": str, "photometry": bool, "scaling": str, "conditions": bool},
    "training": {
        **dict.fromkeys(("samples", "batch_size", "validation_samples", "validate_every", "patience"), int),
        **dict.fromkeys(("learning_rate", "weight_decay"), float),
        "precision": str,
    },
}
WORDS = {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "one value per band"}
QUANTITIES = ("distance", "pixel_scale", "exposure", "gain", "read_noise", "sky", "zero_points")
MOSAIC = ("background", "avoid", "avoid_radius")  # entries of mocks that are not for the stream


@dataclass
class Observation:
    """
    What was observed: the instrument, the distance of the galaxy, and where the file tells them the PSFs, the images, and how mocks of them are
    made (keywords of `~clustercnn.simulation.MockStream`).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from clustercnn.training_run import Observation
    >>> path = Path(tempfile.mkdtemp()) / "run.toml"
    >>> _ = path.write_text('''[instrument]
    ... name = "HST/WFC3/UVIS"
    ... bands = ["F336W", "F555W", "F814W"]
    ... exposure = "2400 s"
    ... distance = "7.2 Mpc"
    ... ''')
    >>> Observation.read(path).instrument
    <Instrument HST/WFC3/UVIS: F336W, F555W, F814W; 0.0396 arcsec / pix>
    """

    instrument: Instrument
    distance: u.Quantity
    psf: dict | None = None
    images: MultiBandImage | None = None
    mocks: dict = field(default_factory=dict)

    @classmethod
    def read(cls, path):
        """
        Read the tables ``images``, ``instrument``, ``psf`` and ``mocks`` of a file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            A TOML file, see `TrainingRun.read`.

        Returns
        -------
        observation : `Observation`

        Raises
        ------
        ValueError
            If an entry is unknown or wrong; the message names it and its table.
        OSError
            If a file is not there.
        """
        tables, folder = _tables(path), Path(path).parent
        images = None
        if paths := dict(tables["images"]):
            with _blame(path, "images"):
                unit = paths.pop("unit", None)
                images = MultiBandImage.read({band: folder / name for band, name in paths.items()}, unit=unit)
        with _blame(path, "instrument"):
            given = {key: _quantities(value) if key in QUANTITIES else value for key, value in tables["instrument"].items()}
            instrument, distance = _instrument(given, images)
        psf = None
        if given := dict(tables["psf"]):
            with _blame(path, "psf"):
                how = {key: given.pop(key) for key in ENTRIES["psf"] if key in given}
                if set(given) != set(instrument.bands):
                    raise ValueError(f"there must be a PSF for each of the bands {instrument.bands}, not for {tuple(given)}")
                if "oversampling" not in how:
                    raise ValueError("oversampling must be given, the number of the PSF's values per pixel, such as 4")
                steps = per_band(how.pop("oversampling"), instrument.bands, "oversampling")
                psf = {band: as_psf(folder / given[band], oversampling=steps[band], **how) for band in instrument.bands}
                band_psfs(psf, instrument)  # which refuses those of other pixels
        mocks = {key: value for key, value in tables["mocks"].items() if key not in MOSAIC}
        return cls(instrument, distance, psf, images, mocks)


@dataclass
class TrainingRun:
    """
    A network, the stream that it learns from, and the keywords of `ClusterNet.fit <clustercnn.network.ClusterNet.fit>`.

    Examples
    --------
    >>> from clustercnn.training_run import TrainingRun
    >>> run = TrainingRun.read("run.toml")                 # doctest: +SKIP
    >>> run.net.fit(run.stream, **run.training)            # doctest: +SKIP
    """

    net: ClusterNet
    stream: MockStream
    training: dict

    @classmethod
    def read(cls, path, seed=None, background=None, device="cpu"):
        """
        Read a file; what it leaves out keeps its default.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            A TOML file with ``seed`` and the tables ``images`` (band = path), ``instrument`` (``name`` of a preset, or keywords of
            `~clustercnn.instruments.Instrument`; without a name the headers of the images tell; ``distance``), ``psf`` (band = path,
            and keywords of `~clustercnn.psf.as_psf`), ``mocks`` (``background``, "disc" or "mosaic"; ``avoid``, a table of sources
            from which stamps of the mosaic keep ``avoid_radius``; keywords of `~clustercnn.simulation.MockStream`), ``network``
            (``start``, a model file or the name of a pretrained network, and perhaps another ``scaling``; or keywords of
            `~clustercnn.network.ClusterNet`) and ``training`` (keywords of its ``fit``). Paths are relative to the file, quantities
            are text such as "4.5 Mpc".
        seed : int, optional
            Of the mocks and of the first weights, in place of the file's.
        background : object, optional
            What lies behind the mocks, in place of the file's.
        device : str
            Where the mocks are made.

        Returns
        -------
        run : `TrainingRun`

        Raises
        ------
        ValueError
            If the file is no TOML, or an entry is unknown or wrong; the message names it and its table.
        OSError
            If a file is not there.
        """
        observation, tables, folder = Observation.read(path), _tables(path), Path(path).parent
        seed = tables["seed"] if seed is None else seed
        with _blame(path, "network"):
            net, start = _network(tables["network"], observation.instrument, folder, seed)
        with _blame(path, "psf"):
            psf = band_psfs(observation.psf, observation.instrument)
        background = read_mosaic(path, observation) if background is None else background
        with _blame(path, "mocks"):
            stream = MockStream(
                net.space,
                observation.instrument,
                psf=psf,
                distance=observation.distance,
                background=background,
                rng=seed,
                device=device,
                **observation.mocks,
            )
        return cls(net, stream, tables["training"] | ({} if start is None else {"start": start}))


def read_mosaic(path, observation):
    """
    The mosaic that a file puts behind its mocks.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        A TOML file, see `TrainingRun.read`.
    observation : `Observation`
        What it says of the data.

    Returns
    -------
    background : `~clustercnn.simulation.MosaicBackground` or None
        None for synthetic discs.

    Raises
    ------
    ValueError
        If there are no images, or the table of sources to avoid is none.
    """
    mocks, folder = _tables(path)["mocks"], Path(path).parent
    with _blame(path, "mocks"):
        kind = mocks.get("background", "disc")
        if kind not in ("disc", "mosaic"):
            raise ValueError(f'background must be "disc" or "mosaic", not {kind!r}')
        if kind == "disc":
            if "avoid" in mocks:
                raise ValueError('avoid goes with background = "mosaic"')
            return None
        if observation.images is None:
            raise ValueError('background = "mosaic" needs the table [images], such as F438W = "f438w_drz.fits"')
        return MosaicBackground(
            observation.images,
            instrument=observation.instrument,
            avoid=QTable.read(folder / mocks["avoid"]) if "avoid" in mocks else (),
            avoid_radius=u.Quantity(mocks.get("avoid_radius", 8 * u.pix)),
        )


def read_network(name, folder="."):
    """
    A network by its file or, where there is none and the name is not that of one, of the pretrained ones.

    Parameters
    ----------
    name : str
        Such as ``"mine.safetensors"`` or ``"m83"``.
    folder : str or `~pathlib.Path`
        Where the file is looked for.

    Returns
    -------
    net : `~clustercnn.network.ClusterNet`

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If there is no pretrained network of that name.

    Examples
    --------
    >>> from clustercnn.training_run import read_network
    >>> read_network("m83").bands
    ('F336W', 'F438W', 'F814W')
    """
    path = Path(folder) / name
    if path.is_file():
        return ClusterNet.load(path)
    if path.suffix:
        raise FileNotFoundError(f"there is no model file {path}")
    return ClusterNet.from_pretrained(name)


def _tables(path):
    """The tables of a file, all of them, with nothing in them that nobody reads; and the seed."""
    try:
        found = tomllib.loads(Path(path).read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    seed = found.pop("seed", 0)
    if not _is(seed, int) or seed < 0:
        raise ValueError(f"{path}: seed must be a whole number of 0 or more, not {seed!r}")
    for table, entries in found.items():
        if table in ENTRIES and not isinstance(entries, dict):
            raise ValueError(f"{path} has {table} = {entries!r}, but [{table}] must be a table")
        if table not in ENTRIES:
            raise ValueError(f"{path} has a table or entry {table!r}; those that are read are seed, [{'], ['.join(ENTRIES)}]")
        known = ENTRIES[table]
        if table not in ("images", "psf") and (unknown := set(entries) - set(known)):
            raise ValueError(f"{path} has {', '.join(sorted(unknown))} in [{table}]; its entries are {', '.join(sorted(known))}")
        for entry, value in entries.items():
            kinds = known.get(entry, str)
            if not _is(value, kinds):
                words = " or ".join(WORDS[kind] for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
                raise ValueError(f"{path}: {entry} in [{table}] must be {words}, not {value!r}")
    return {"seed": seed, **{table: found.get(table, {}) for table in ENTRIES}}


def _is(value, kinds):
    """Whether a value of a file is of a kind; a whole number is a number, too, but true is neither."""
    if isinstance(value, bool):
        return kinds is bool
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


@contextmanager
def _blame(path, table):
    """What is wrong with the values of a table is said with its name."""
    try:
        yield
    except (IORegistryError, TypeError, ValueError, u.UnitsError) as error:
        raise ValueError(f"[{table}] of {path}: {error}") from error


def _quantities(value):
    return {band: u.Quantity(one) for band, one in value.items()} if isinstance(value, dict) else u.Quantity(value)


def _instrument(given, images):
    """The instrument and the distance of a table ``instrument``."""
    if "distance" not in given and (images is not None or given.get("name", M83) != M83):
        raise ValueError('distance must be given, that of the galaxy, such as distance = "7.2 Mpc"')
    distance = positive_quantity(given.pop("distance", M83_DISTANCE), u.Mpc, "distance")
    bands = given.pop("bands", None if images is None else images.bands)
    if images is not None and (missing := [band for band in bands if band not in images]):
        raise ValueError(f"bands must be of the images, {', '.join(images.bands)}, not {missing}")
    name = given.pop("name", M83 if images is None else None)
    if name is None:
        instrument = Instrument.from_header({band: images[band] for band in bands}, **given)
    elif name in Instrument.names():
        instrument = Instrument.from_name(name, bands, **given)
    elif bands is None or not {"pixel_scale", "exposure"} <= set(given):
        raise ValueError(
            f"{name} is no preset ({', '.join(Instrument.names())}): give one of these, or for an instrument of your own bands, "
            "pixel_scale and exposure as well"
        )
    else:
        instrument = Instrument(name, bands, **given)
    return instrument, distance


def _network(given, instrument, folder, seed):
    """The network of a table ``network``, and the one that it starts from, or None."""
    if "start" not in given:
        return ClusterNet(instrument.bands, rng=seed, **given), None
    if wrong := set(given) - {"start", "scaling"}:
        raise ValueError(f"{', '.join(sorted(wrong))} cannot go with start, which has an architecture already")
    name = given["start"]
    start = read_network(name, folder)
    if len(start.bands) != len(instrument.bands):
        raise ValueError(
            f"start = {name!r} has {len(start.bands)} bands, {', '.join(start.bands)}, but the data {len(instrument.bands)}: "
            "leave start out to train a network from scratch"
        )
    settings = {key: given.get(key, start.config[key]) for key in ENTRIES["network"] if key != "start"}
    return ClusterNet(instrument.bands, space=start.space, rng=seed, **settings), start
