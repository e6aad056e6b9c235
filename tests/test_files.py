# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Files appear whole or not at all.
"""

import pytest

from clustercnn.files import whole_file


def test_replaces_when_complete(tmp_path):
    path = tmp_path / "table.ecsv"
    path.write_text("old")
    with whole_file(path) as partial:
        assert partial.suffix == ".ecsv"
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path):
    path = tmp_path / "nowhere" / "table.ecsv"
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere to write table.ecsv to"), whole_file(path):
        pass


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.ecsv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="power cut"), whole_file(path) as partial:
        partial.write_text("ne")
        raise RuntimeError("power cut")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
