# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What all tests share: the reference data, and a guard over global state.
"""

import os
import sys
from pathlib import Path

# Test tensors are small: many threads only wait for one another.  Read by torch and numpy when they load.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MPLBACKEND", "agg")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# A shared machine is no place for deadlines, and a failure must come back on the next run.
settings.register_profile("clustercnn", deadline=None, derandomize=True)
settings.load_profile("clustercnn")


@pytest.fixture(scope="session")
def reference_data():
    """The folder of reference data; tests that ask for it are skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("CLUSTERCNN_REFERENCE_DATA", default))
    if not path.is_dir():
        pytest.skip("reference data not here")
    return path


def _global_state():
    """Everything that a library must leave alone, in a comparable form."""
    state = {"numpy random state": np.random.get_state(legacy=False)["state"]["key"].tobytes()}
    torch = sys.modules.get("torch")
    if torch is not None:
        state["torch random state"] = torch.get_rng_state().numpy().tobytes()
        state["torch default dtype"] = torch.get_default_dtype()
        state["torch deterministic mode"] = torch.are_deterministic_algorithms_enabled()
        state["torch gradient mode"] = torch.is_grad_enabled()
    return state


@pytest.fixture(autouse=True)
def leave_global_state_alone():
    """Fail a test after which numpy's or torch's global state is not what it was."""
    before = _global_state()
    yield
    after = _global_state()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, f"changed by the test: {', '.join(changed)}"
