# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A training as a TOML file says it: the stream of mocks, the network, and how long."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from astropy import units as u

from clustercnn.instruments import Instrument
from clustercnn.network import ClusterNet
from clustercnn.parameters import ParameterSpace
from clustercnn.simulation import MockStream

__all__ = ["TrainingRun"]

#: The tables of a file, and the entries of each.
ENTRIES = {
    "instrument": {"name", "distance"},
    "mocks": {"positive_fraction", "negatives", "depth_scatter", "noise_correlation"},
    "network": {"encoder", "head", "photometry", "scaling", "conditions"},
    "training": {"samples", "batch_size", "learning_rate", "weight_decay", "precision", "validation_samples", "validate_every"},
}


@dataclass
class TrainingRun:
    """
    A network, the stream that it learns from, and the keywords of `ClusterNet.fit <clustercnn.network.ClusterNet.fit>`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from clustercnn.training_run import TrainingRun
    >>> path = Path(tempfile.mkdtemp()) / "run.toml"
    >>> _ = path.write_text('''seed = 1
    ... [instrument]
    ... name = "HST/WFC3/UVIS/M83"
    ... distance = "4.5 Mpc"
    ... [training]
    ... samples = 1000
    ... ''')
    >>> run = TrainingRun.read(path, background=None)      # doctest: +SKIP
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
            A TOML file with the tables ``instrument`` (``name`` of a preset, ``distance``), ``mocks`` (of
            `~clustercnn.simulation.MockStream`), ``network`` (of `~clustercnn.network.ClusterNet`) and ``training`` (of its ``fit``).
        seed : int, optional
            Of the mocks and of the first weights, in place of the file's.
        background : object, optional
            What lies behind the mocks. Default: synthetic discs.
        device : str
            Where the mocks are made.

        Returns
        -------
        run : `TrainingRun`

        Raises
        ------
        ValueError
            If the file is no TOML, or holds tables or entries that nobody reads.
        """
        try:
            tables = tomllib.loads(Path(path).read_text())
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path} is not TOML: {error}") from None
        own_seed = tables.pop("seed", 0)
        seed = own_seed if seed is None else seed
        for table, entries in tables.items():
            if table not in ENTRIES:
                raise ValueError(f"{path} has a table or entry {table!r}; those that are read are seed, {', '.join(ENTRIES)}")
            if not isinstance(entries, dict):
                raise ValueError(f"{path} has {table} = {entries!r}, but [{table}] must be a table")
            if unknown := set(entries) - ENTRIES[table]:
                raise ValueError(f"{path} has {', '.join(sorted(unknown))} in [{table}]; its entries are {', '.join(sorted(ENTRIES[table]))}")
        given = tables.get("instrument", {})
        instrument = Instrument.from_name(given.get("name", "HST/WFC3/UVIS/M83"))
        distance = u.Quantity(given.get("distance", "4.5 Mpc"))
        space = ParameterSpace.paper()
        stream = MockStream(
            space, instrument, distance=distance, background=background, rng=seed, device=device, **tables.get("mocks", {})
        )
        net = ClusterNet(instrument.bands, space=space, rng=seed, **tables.get("network", {}))
        return cls(net, stream, tables.get("training", {}))
