# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Posteriors in files: all of the draws as FITS, a summary as ECSV."""

import json
from pathlib import Path

import numpy as np
from astropy.table import QTable

from .files import to_json, whole_file
from .parameters import ParameterSpace

__all__ = ["read_estimate", "write_estimate"]


def write_estimate(path, arrays, space, meta, summary, overwrite=False):
    """
    Write to a file; it appears only when it is complete.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        ``.fits`` for the arrays, ``.ecsv`` for the summary.
    arrays : dict
        Name to an array of one row per source, or None: the columns of the FITS table.
    space : `~clustercnn.parameters.ParameterSpace`
        Of the draws; as JSON in the header, like ``meta``.
    meta : dict
        Provenance.
    summary : callable
        Makes a `~astropy.table.QTable`.
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    OSError
        If the file exists.
    ValueError
        For another suffix.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".fits", ".ecsv"):
        raise ValueError(f"path must end in .fits or .ecsv, not {path.name!r}")
    if path.exists() and not overwrite:
        raise OSError(f"{path} exists; use overwrite=True to replace it")
    if kind == ".ecsv":
        table = summary()
    else:
        # long strings of a header do not survive a quote before a slash, so that quotes are written as JSON may write them, too
        header = {name: to_json(value).replace("'", "\\u0027") for name, value in {"SPACE": space.to_dict(), "META": meta}.items()}
        table = QTable({name: values for name, values in arrays.items() if values is not None}, meta=header)
    with whole_file(path) as partial:
        table.write(partial, format=f"ascii{kind}" if kind == ".ecsv" else "fits")


def read_estimate(path):
    """
    What the FITS file of `write_estimate` holds.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file.

    Returns
    -------
    contents : dict
        The arrays by their names, ``space`` and ``meta``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is something else.
    """
    if Path(path).suffix.lower() == ".ecsv":
        raise ValueError("it holds a summary without draws: read it with QTable.read, or write the estimate as .fits")
    try:
        table = QTable.read(path, format="fits")
        space, meta = ParameterSpace.from_dict(json.loads(table.meta["SPACE"])), json.loads(table.meta["META"])
    except FileNotFoundError:
        raise
    except (KeyError, OSError, TypeError) as error:
        raise ValueError(str(error)) from None
    return {name: np.asarray(table[name]) for name in table.colnames} | {"space": space, "meta": meta}
