# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The rules of the house: imports point down the staircase, loading is lazy, every module is documented.
"""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import clustercnn

PACKAGE = Path(clustercnn.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

# The floors, from the ground up: a module may import its own floor and those below.
FLOORS = [
    ("files", "flags", "densities", "seeds", "parameters", "estimate_file", "images", "image_sources", "positions", "stamps", "headers",
     "instruments", "psf", "psf_powers", "profiles", "stellar", "matching"),
    ("plotting",),
    ("estimate",),
    ("calibration",),
    ("simulation",),
    ("network", "photometric_inference"),
    ("survey", "checks", "training_run", "run_template"),
    ("cli",),
    ("__main__",),
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}

LICENSE_LINE = "# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst"


def dotted(path):
    """``clustercnn.stellar.imf`` for ``clustercnn/stellar/imf.py``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name):
    """The part of the package that a dotted name belongs to: ``stellar`` for ``clustercnn.stellar.imf``."""
    return name.split(".")[1] if "." in name else ""


def imports(path, names=None):
    """All dotted names that the source of a module imports, relative ones resolved, inside functions too."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(filter(None, [*package.split(".")[:len(package.split(".")) - node.level + 1], base]))
            # `from clustercnn import images` imports a room, not a name
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == "clustercnn" else [base]


def test_every_room_has_a_floor():
    assert {room(dotted(path)) for path in MODULES} - {""} <= set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_down(path):
    here = room(dotted(path))
    inside = {room(name) for name in imports(path) if name.split(".")[0] == "clustercnn"} - {"", "__version__"}
    if here == "":
        assert not inside, f"clustercnn/__init__.py imports {inside} when it loads"
    else:
        above = {name for name in inside if FLOOR[name] > FLOOR[here]}
        assert not above, f"{dotted(path)} reaches up to {above}"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_torch_stays_in_two_rooms(path):
    if room(dotted(path)) not in ("simulation", "network"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & {"torch", "zuko", "safetensors"}


@pytest.mark.parametrize("module, absent", [
    ("clustercnn", "torch photutils specutils matplotlib scipy"),
    ("clustercnn.stellar", "torch photutils specutils matplotlib"),
    ("clustercnn.images", "torch photutils specutils matplotlib"),
    ("clustercnn.estimate", "torch photutils specutils matplotlib"),
    ("clustercnn.plotting", "torch photutils specutils matplotlib"),
    ("clustercnn.survey", "torch photutils specutils matplotlib"),
])
def test_loading_is_lazy(module, absent):
    code = f"import sys, {module}; print(*set({absent.split()}) & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert loaded.stdout.split() == []


def test_top_level_names():
    for name in clustercnn.__all__:
        assert name in dir(clustercnn)
        assert getattr(clustercnn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Cluster'"):
        clustercnn.Cluster


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_every_module_says_what_it_is(path):
    source = path.read_text()
    tree = ast.parse(source)
    assert source.startswith(LICENSE_LINE + "\n")
    assert ast.get_docstring(tree)
    module = importlib.import_module(dotted(path))
    # the front door of a room passes on what its modules offer
    assert path.name == "__init__.py" or all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_everything_public_is_documented(path):
    module = importlib.import_module(dotted(path))
    undocumented = []
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        if getattr(thing, "__module__", None) != module.__name__:
            continue
        members = vars(thing).items() if inspect.isclass(thing) else ()
        documented = {name: thing, **{f"{name}.{key}": value for key, value in members if not key.startswith("_")}}
        undocumented += [
            key for key, value in documented.items()
            if (callable(value) or isinstance(value, (property, classmethod, staticmethod)) or hasattr(value, "func"))
            and not inspect.getdoc(value)
        ]
    assert not undocumented


def test_every_shipped_data_file_has_a_licence():
    licences = "".join(path.read_text() for path in (PACKAGE.parent / "licenses").glob("*.rst"))
    data = {path.name for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".rst")}
    assert "hst_psf.ecsv" in data
    assert not {name for name in data if f"``{name}``" not in licences}


def test_no_file_grows_beyond_one_subject():
    long = {dotted(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > 700}
    assert not long
