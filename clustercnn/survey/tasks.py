# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Work in pieces: here or on the workers of dask, with finished pieces kept in a folder.
"""

import json
from pathlib import Path

from astropy.table import QTable
from tqdm import tqdm

from clustercnn.files import whole_file

__all__ = ["open_checkpoint", "tables_of"]


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
    text = json.dumps(settings, indent=2)
    if path.exists():
        other = json.loads(path.read_text())
        different = [name for name in settings if other.get(name) != json.loads(text)[name]]
        if different:
            raise ValueError(
                f"checkpoint {folder} belongs to a run with other settings ({', '.join(different)}); remove it or take another folder"
            )
    else:
        if any(folder.iterdir()):
            raise ValueError(f"checkpoint {folder} holds other files than those of a catalogue; take an empty folder")
        with whole_file(path) as partial:
            partial.write_text(text)
    return folder


def tables_of(work, items, shared, name, *, client=None, folder=None, progress=False):
    """
    The tables ``work(item, *shared)`` of all items, in their order.

    Parameters
    ----------
    work : callable
        Returns an `~astropy.table.QTable`.
    items : sequence
        What it is called with, one after the other.
    shared : tuple
        What it needs every time; with a client each worker gets it once.
    name : str
        Of the tables in the folder, and of the progress bar.
    client : `~dask.distributed.Client`, optional
        Does the work on its workers.
    folder : `~pathlib.Path`, optional
        Where finished tables are kept; those that are there are read, not made again.
    progress : bool
        Show a bar.

    Returns
    -------
    tables : list of `~astropy.table.QTable`
    """
    paths = None if folder is None else [folder / f"{name}_{i:06d}.ecsv" for i in range(len(items))]
    todo = [i for i in range(len(items)) if paths is None or not paths[i].exists()]
    tables = {}
    with tqdm(total=len(items), initial=len(items) - len(todo), unit="piece", desc=name, disable=not progress) as bar:
        made = ((i, work(items[i], *shared)) for i in todo) if client is None else _made_there(work, items, shared, todo, client)
        for i, table in made:
            if paths is not None:
                with whole_file(paths[i]) as partial:
                    table.write(partial, format="ascii.ecsv")
            tables[i] = table
            bar.update()
    return [tables[i] if i in tables else QTable.read(paths[i], format="ascii.ecsv") for i in range(len(items))]


def _made_there(work, items, shared, todo, client):
    """Number and table of each piece, as the workers finish them."""
    from distributed import as_completed

    shared = client.scatter(list(shared), broadcast=True, hash=False)
    futures = {client.submit(work, items[i], *shared, pure=False): i for i in todo}
    try:
        for future, table in as_completed(list(futures), with_results=True):
            yield futures[future], table
            future.release()  # or the workers would keep it
    finally:
        client.cancel(list(futures))
