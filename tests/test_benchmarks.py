# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The scripts behind the numbers of the documentation run, and what they find is what physics says.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def load(name):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="diagrams", scope="module")
def fixture_diagrams():
    return load("cluster_diagrams")


def test_scatter_of_integrated_light(diagrams):
    """Of rich clusters it is what IMF and isochrone say, and falls as the root of the mass; their mean light is the population's."""
    table = diagrams.spread((8.0,), (1e4, 4e4), 100, np.random.default_rng(1), resamplings=100)
    light = table[table["quantity"] == "M_F438W"]
    scatter, expected = light["std"].value, light["expected"].value
    # of 100 clusters a standard deviation is known to 7 %; a few bright giants make its tails longer than a Gaussian's
    assert np.all(np.abs(scatter / expected - 1) < 0.35)
    assert expected[0] / expected[1] == pytest.approx(2, abs=0.005)  # the table has four decimals
    assert np.all(np.abs(table["mean_light_offset"]) < 4 * table["mean_light_error"])


def test_pictures_and_tables_of_clusters(diagrams, tmp_path, monkeypatch):
    monkeypatch.setattr(diagrams, "SPREAD_AGES", (7.0, 9.0))
    monkeypatch.setattr(diagrams, "SPREAD_MASSES", (300.0, 3000.0))
    monkeypatch.setattr(diagrams, "DIAGRAM_AGES", (7.3,))
    monkeypatch.setattr(diagrams, "DIAGRAM_MASSES", (1e3,))
    diagrams.main(["--clusters", "8", "--out", str(tmp_path)])
    for name in ("cluster_diagrams.png", "stochastic_spread.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "stochastic_spread.rst").read_text()
    assert "300 Msun" in page and "F336W - F438W" in page


def test_colours_of_populations(reference_data, tmp_path):
    """The differences that science knows: 0.08 mag in F336W - F438W and 0.20 mag in F438W - F814W against PARSEC."""
    _, difference = load("ssp_colors").main(["--data", str(reference_data), "--out", str(tmp_path)])
    assert (tmp_path / "ssp_colors.png").read_bytes().startswith(b"\x89PNG")
    whole = {row["quantity"]: row["rms"].value for row in difference[:7]}
    assert set(difference["models"][:7]) == {"default - PARSEC"} and np.all(difference["log_age_to"][:7] == 10.1)
    assert whole["F336W-F438W"] == pytest.approx(0.08, abs=0.01)
    assert whole["F438W-F814W"] == pytest.approx(0.20, abs=0.01)
