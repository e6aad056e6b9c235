# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Files appear whole or not at all, and what is written into them is plain."""

import json
import os
import uuid
from contextlib import contextmanager
from pathlib import Path

import numpy as np

__all__ = ["to_json", "whole_file"]


def to_json(value, **options):
    """
    JSON text, in which the numbers and arrays of numpy are plain ones.

    Parameters
    ----------
    value : object
        What `json.dumps` takes, with values of numpy anywhere in it.
    options
        For `json.dumps`.

    Returns
    -------
    text : str

    Raises
    ------
    TypeError
        For other objects.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.files import to_json
    >>> to_json({"draws": np.int64(200), "edges": np.array([0.5, 1.0])})
    '{"draws": 200, "edges": [0.5, 1.0]}'
    """

    def plain(part):
        if isinstance(part, (np.generic, np.ndarray)) and not hasattr(part, "unit"):
            return part.tolist()
        raise TypeError(f"a {type(part).__name__} cannot be written as JSON: {part!r}")

    return json.dumps(value, default=plain, **options)


@contextmanager
def whole_file(path):
    """
    A path beside ``path`` to write to; it takes the place of ``path`` when the block ends without an error.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file to write; one that is there stays as it is until the new one is complete.

    Yields
    ------
    partial : `~pathlib.Path`
        Of the same suffix, in the same folder.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from clustercnn.files import whole_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder) / "catalog.txt") as partial:
    ...         _ = partial.write_text("42")
    ...     print(*(file.name for file in Path(folder).iterdir()))
    catalog.txt
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
    partial = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
