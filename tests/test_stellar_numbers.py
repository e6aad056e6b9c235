# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The scripts behind docs/stellar_numbers.rst run, and what they measure obeys physics.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from clustercnn.stellar import IsochroneGrid, get_imf

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PNG = b"\x89PNG"


def script(name):
    """A script of benchmarks/ as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="diagrams", scope="module")
def fixture_diagrams():
    """The script benchmarks/cluster_diagrams.py."""
    return script("cluster_diagrams")


@pytest.fixture(name="colors", scope="module")
def fixture_colors():
    """The script benchmarks/ssp_colors.py."""
    return script("ssp_colors")


def test_cluster_diagrams(diagrams, monkeypatch, tmp_path):
    for name, value in {"SPREAD_AGES": (7.3, 8.0), "SPREAD_MASSES": (300.0, 1000.0), "DIAGRAM_AGES": (7.3,)}.items():
        monkeypatch.setattr(diagrams, name, value)
    monkeypatch.setattr(diagrams, "DIAGRAM_MASSES", (1e3,))
    table = diagrams.main(["--clusters", "8", "--out", str(tmp_path)])
    assert len(table) == 2 * 2 * 3
    for name in ("cluster_diagrams.png", "stochastic_spread.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
    written = QTable.read(tmp_path / "stochastic_spread.ecsv")
    assert written.colnames == table.colnames and written["half_width"].unit == u.mag
    page = QTable.read(tmp_path / "stochastic_spread.rst", format="ascii.rst")
    assert list(page["age"]) == ["20 Myr", "100 Myr"] * 3


def test_scatter_falls_with_mass(diagrams):
    """As the inverse square root, once a cluster has many of the stars that matter."""
    table = diagrams.spread((7.3, 8.0), (3e3, 3e4), 120, np.random.default_rng(6))
    light, heavy = (table[table["mass"] == mass * u.Msun] for mass in (3e3, 3e4))
    assert np.all(heavy["half_width"] < light["half_width"])
    assert np.all(abs(heavy["half_width"] - heavy["expected_usual"]) < 4 * heavy["half_width_error"])
    assert light["expected"] / heavy["expected"] == pytest.approx(np.full(6, np.sqrt(10)), rel=0.01)
    assert light["n_effective"] / heavy["n_effective"] == pytest.approx(np.full(6, 0.1), rel=0.02)
    assert np.all(table["expected_usual"] <= table["expected"])
    # the clusters together are the population
    assert np.all(abs(table["mean_light_offset"]) < 4 * table["mean_light_error"])


def test_expected_scatter_of_equal_stars(diagrams, monkeypatch):
    """Stars of one kind: no scatter of colour, Poisson scatter of magnitude."""
    equal = np.tile([1.0, 2.0, 3.0], (200, 1))
    monkeypatch.setattr(IsochroneGrid, "magnitudes", lambda *_: (np.geomspace(0.08, 119.99, 200), equal))
    scatter, _, effective = diagrams.expected_scatter(8.0, 1e4)
    imf = get_imf("kroupa")
    number = 1e4 / imf.mean_mass
    mass = np.geomspace(imf.lower, imf.upper, 100_001)
    square = np.trapezoid(imf.pdf(mass) * mass**2, mass)
    relative = 1 - 2 + square / imf.mean_mass**2
    assert scatter[:2] == pytest.approx([0, 0], abs=1e-12)
    assert scatter[2] == pytest.approx(2.5 / np.log(10) * np.sqrt(relative / number), rel=1e-3)
    assert effective == pytest.approx(np.full(3, number), rel=1e-3)


def test_living_fraction(colors):
    """Falls with age from nearly one; exact where no star has died or lost mass."""
    grid, imf = IsochroneGrid.default(), get_imf("kroupa")
    living = [colors.living_fraction(grid, log_age, 0.0, imf) for log_age in (6.6, 7.5, 8.5, 9.5)]
    assert 1 > living[0] > 0.9 and np.all(np.diff(living) < 0)
    heaviest = grid.knots(9.5).initial_mass[-1]
    assert living[-1] == pytest.approx(imf.mass_fraction(imf.lower, heaviest), rel=0.02)
    assert living[-1] < imf.mass_fraction(imf.lower, heaviest)


def test_mass_to_light_ratio(colors):
    table = colors.population(IsochroneGrid.default(), np.array([8.0, 10.0]))
    light = IsochroneGrid.default().ssp_magnitudes(1e8 * u.yr, passbands=("BESSELL_V",)).value[0]
    assert table["M/L_V"][0] == pytest.approx(10 ** (0.4 * (light - table.meta["sun_BESSELL_V"])), rel=1e-3)
    assert table.meta["sun_BESSELL_V"] == pytest.approx(4.81, abs=0.02)  # Willmer (2018)
    assert np.all(table["M/L_V_living"] < table["M/L_V"]) and table["M/L_V"][1] > 10 * table["M/L_V"][0]


def test_ssp_colors_of_the_reference_data(colors, reference_data, tmp_path):
    table, difference = colors.main(["--data", str(reference_data), "--out", str(tmp_path)])
    assert (tmp_path / "ssp_colors.png").read_bytes().startswith(PNG)
    written = QTable.read(tmp_path / "ssp_colors.ecsv")
    assert written.colnames == table.colnames and len(written) == 24
    for name in ("ssp_colors.rst", "ssp_mass_to_light.rst", "ssp_differences.rst"):
        assert len(QTable.read(tmp_path / name, format="ascii.rst")) > 10
    old = difference[(difference["log_age_from"] == 8.3) & (difference["quantity"] == "F336W-F438W")]
    assert np.all(old["rms"] < 0.06 * u.mag)
    whole = difference[(difference["log_age_to"] - difference["log_age_from"] > 3) & (difference["models"] == "default - PARSEC")]
    rms = dict(zip(whole["quantity"], whole["rms"].value))
    assert rms["F336W-F438W"] == pytest.approx(0.08, abs=0.01) and rms["F438W-F814W"] == pytest.approx(0.20, abs=0.01)
