# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Files appear whole or not at all."""

import os
import uuid
from contextlib import contextmanager
from pathlib import Path

__all__ = ["whole_file"]


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
