# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Work in pieces: here or on the workers of dask, with finished pieces kept in a folder.
"""

import json
import operator
from itertools import islice
from pathlib import Path

from astropy.table import QTable
from tqdm import tqdm

from clustercnn.files import to_json, whole_file

__all__ = ["open_checkpoint", "tables_of"]

AHEAD = 2  # pieces that each thread of the workers has been given at once


def open_checkpoint(folder, settings):
    """
    Make the folder of a run, or see that it belongs to this one.

    Parameters
    ----------
    folder : str or `~pathlib.Path`
        The folder.
    settings : dict
        All that the result depends on, JSON-able.

    Returns
    -------
    folder : `~pathlib.Path`

    Raises
    ------
    ValueError
        If the folder is of a run with other settings, or something else.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.json"
    text = to_json(settings, indent=2)
    if path.exists():
        try:
            other = dict(json.loads(path.read_text()))
        except (TypeError, ValueError):
            raise ValueError(f"checkpoint {folder} is damaged: {path.name} cannot be read; remove the folder or take another") from None
        different = [name for name in settings if other.get(name) != json.loads(text)[name]]
        if different:
            raise ValueError(
                f"checkpoint {folder} belongs to a run with other settings ({', '.join(different)}); remove it or take another folder"
            )
    else:
        if any(not other.name.startswith(".") for other in folder.iterdir()):  # a killed run may have left a hidden piece of a file
            raise ValueError(f"checkpoint {folder} holds other files than those of a catalogue; take an empty folder")
        with whole_file(path) as new:
            new.write_text(text)
    return folder


def tables_of(work, items, name, *, client=None, folder=None, progress=False):
    """
    The tables ``work(item)`` of all items, in their order.

    Parameters
    ----------
    work : callable
        Returns an `~astropy.table.QTable`. With a client each worker gets it once, so what it needs every time goes into a `~functools.partial`.
    items : sequence
        What it is called with, one after the other.
    name : str
        Of the tables in the folder, and of the progress bar.
    client : `~dask.distributed.Client`, optional
        Does the work on its workers.
    folder : `~pathlib.Path`, optional
        Where finished tables are kept; those that are there, and whole, are read, not made again.
    progress : bool
        Show a bar.

    Returns
    -------
    tables : list of `~astropy.table.QTable`
    """
    paths = None if folder is None else [folder / f"{name}_{i:06d}.ecsv" for i in range(len(items))]
    tables = [None] * len(items) if paths is None else [_read(path) for path in paths]
    todo = [i for i, table in enumerate(tables) if table is None]
    with tqdm(total=len(items), initial=len(items) - len(todo), unit="piece", desc=name, disable=not progress) as bar:
        made = ((i, work(items[i])) for i in todo) if client is None else _made_there(work, items, todo, client)
        for i, table in made:
            if paths is not None:
                _write(table, paths[i])
            tables[i] = table
            bar.update()
    return tables


def _write(table, path):
    table.meta["rows"] = len(table)
    with whole_file(path) as new:
        table.write(new, format="ascii.ecsv")
    del table.meta["rows"]


def _read(path):
    """A table that `_write` wrote; None where there is none, or a part of it, as a machine leaves it that lost power."""
    if not path.exists() or not path.read_bytes().endswith(b"\n"):
        return None
    try:
        table = QTable.read(path, format="ascii.ecsv")
    except (LookupError, TypeError, ValueError):
        return None
    return table if table.meta.pop("rows", None) == len(table) else None


def _made_there(work, items, todo, client):
    """Number and table of each piece, as the workers finish them."""
    from distributed import as_completed

    # As one object, which is pickled: of what it finds in lists and dicts dask sends quantities as arrays, without their units.
    job = client.scatter(work, broadcast=True, hash=False)
    waiting, futures = iter(todo), {}
    with client.as_current():
        finished = as_completed(with_results=True)

    def submit():
        # Not all at once: a piece that waits for chunks of dask makes room for the next, and each holds the pixels that it has.
        most = max(1, AHEAD * sum(client.nthreads().values()))
        for i in islice(waiting, max(0, most - len(futures))):
            future = client.submit(operator.call, job, items[i], pure=False)
            futures[future] = i
            finished.add(future)

    try:
        submit()
        for future, table in finished:
            i = futures.pop(future)  # or the workers would keep the table
            submit()
            yield i, table
    finally:
        client.cancel(list(futures))
