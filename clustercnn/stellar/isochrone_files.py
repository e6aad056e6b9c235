# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Files of isochrones for `IsochroneGrid.read` and ``write``: PARSEC, MIST and ECSV."""

import hashlib
import io
import re
import warnings
from collections import namedtuple
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import registry
from astropy.table import QTable, Table
from astropy.utils.data import get_readable_fileobj
from astropy.utils.exceptions import AstropyUserWarning

from .isochrone import COLUMNS, Isochrone, ascending
from .isochrones import IsochroneGrid, corrected_magnitudes
from .photometry import RENAMED, vega_to_ab, vega_to_st
from .photometry import passbands as known_passbands

__all__ = []

PARSEC_Z_SUN = 0.0152
MIST_Z_SUN = 0.0142857
PARSEC_COLUMNS = {
    "log_age": ("logAge", "log(age/yr)", "log(age)", "Age"),
    "initial_mass": ("Mini", "M_ini"),
    "mass": ("Mass", "M_act", "Mact"),
    "log_luminosity": ("logL", "logL/Lo", "logl"),
    "log_teff": ("logTe", "logt"),
    "log_g": ("logg", "logG"),
    "phase": ("label", "stage", "Phase"),
}
MIST_COLUMNS = {
    "log_age": ("log10_isochrone_age_yr", "isochrone_age_yr"),
    "initial_mass": ("initial_mass",),
    "mass": ("star_mass",),
    "log_luminosity": ("log_L",),
    "log_teff": ("log_Teff",),
    "log_g": ("log_g",),
    "phase": ("phase",),
}
YEARS = ("Age", "isochrone_age_yr")  # ages that are no logarithms
# Of our own tables; the other columns are magnitudes. Logarithms may be plain numbers.
ECSV_UNITS = {
    "metallicity": u.dex,
    "log_age": u.dex(u.yr),
    "initial_mass": u.Msun,
    "mass": u.Msun,
    "log_luminosity": u.dex(u.Lsun),
    "log_teff": u.dex(u.K),
    "log_g": u.dex(u.cm / u.s**2),
    "phase": u.one,
}
# Columns of files whose bands are not told by a suffix "mag".
OLD_PARSEC_OTHERS = "Z mbol Mbol C/O M_hec period pmode logMdot slope int_IMF Flum Composition".split()
MIST_OTHERS = "EEP [Fe/H]_init [Fe/H] Z_surf log_surf_z log_R".split()
CMD_PHASES = {
    0: "pre-main sequence",
    1: "main sequence",
    2: "subgiant branch",
    3: "red giant branch",
    4: "core helium burning, first stage",
    5: "core helium burning, bluewards",
    6: "core helium burning, redwards",
    7: "early asymptotic giant branch",
    8: "thermally pulsing asymptotic giant branch",
    9: "post-asymptotic giant branch",
}
PLAIN_PHASES = {
    0: "main sequence",
    1: "subgiant branch",
    2: "red giant branch",
    3: "core helium burning",
    4: "early asymptotic giant branch",
    5: "thermally pulsing asymptotic giant branch",
    6: "post-asymptotic giant branch",
    9: "Wolf-Rayet",
}
MIST_PHASES = {-1: "pre-main sequence", **PLAIN_PHASES, 2: "subgiant and red giant branch"}
del MIST_PHASES[1]
# What a photometric system calls itself, the name put before its bands, and where the package's passbands of it are found.
INSTRUMENTS = (
    ("WFC3", "WFC3", ("WFC3_UVIS", "WFC3_IR")),
    ("ACS.*HRC", "ACS_HRC", ()),
    ("ACS", "ACS_WFC", ("ACS_WFC",)),
    ("NIRCam", "NIRCAM", ("NIRCAM",)),
    (r"JWST \(", "JWST", ("NIRCAM",)),
    ("Roman|WFIRST", "ROMAN", ("ROMAN",)),
    ("Bessell|UBV", "BESSELL", ("BESSELL",)),
)
AB_SURVEYS = "SDSS|Sloan|DECam|LSST|Pan-?STARRS|SkyMapper"
FAINTEST = 90  # mag; what lies beyond stands for a missing magnitude


class _Text(namedtuple("_Text", "file names values blocks comments sha256")):
    """A table of numbers: columns and rows, per row the number of comment blocks before it, and (block, text) of all comments."""

    def column(self, name):
        return self.values[:, self.names.index(name)]

    def comment(self, pattern):
        """The first group of a pattern where it first stands in the comments, or None."""
        found = (re.search(pattern, text, re.IGNORECASE) for _, text in self.comments)
        return next((match[1].strip() for match in found if match), None)


def _content(file):
    """Name, text and checksum of a path or an open file, compressed or not."""
    if hasattr(file, "read"):
        name, content = str(getattr(file, "name", "the file")), file.read()
        content = content.encode() if isinstance(content, str) else content
    else:
        name, content = str(file), Path(file).read_bytes()
    try:
        with get_readable_fileobj(io.BytesIO(content), encoding="binary") as plain:
            text = plain.read().decode("utf-8-sig", errors="replace")
    except Exception as error:  # each way of packing has its own
        raise ValueError(f"{name} cannot be unpacked: {error}") from None
    if not text.strip():
        raise ValueError(f"{name} is empty")
    return name, text, hashlib.sha256(content).hexdigest()


def _read_text(file, keys):
    """A table of numbers under comment lines, of which those that contain one of ``keys`` as a word name the columns."""
    name, text, sha256 = _content(file)
    comments, rows, lines, blocks, block, within = [], [], [], [], 0, False
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.startswith("#"):
            block, within = block + (not within), True
            comments.append((block, line.lstrip("# \t")))
        elif line:
            within = False
            rows.append(line)
            lines.append(number)
            blocks.append(block)
    headers = dict.fromkeys(tuple(text.split()) for _, text in comments if set(keys) & set(text.split()))
    if len(headers) != 1:
        what = "several headers with different columns" if headers else f"no header with a column {' or '.join(keys)}"
        raise ValueError(f"{name} has {what}")
    names = list(*headers)
    if not rows:
        raise ValueError(f"{name} has a header, but no stars: it seems truncated")
    try:
        values = np.loadtxt(rows, ndmin=2)
        if values.shape[1] != len(names):
            raise ValueError
    except ValueError:
        raise ValueError(f"{name}, {_fault(rows, lines, len(names))}") from None
    return _Text(name, names, values, np.array(blocks), comments, sha256)


def _fault(rows, lines, n_columns):
    """What is wrong with the first faulty row."""
    for row, line in zip(rows, lines):
        words = row.split()
        if len(words) != n_columns:
            return f"line {line} has {len(words)} values, but the header {n_columns} columns: the file seems truncated or damaged"
        for word in words:
            try:
                float(word)
            except ValueError:
                return f"line {line}: {word!r} is no number"
    return "the rows cannot be read"


def _columns(text, spellings):
    """The columns that every isochrone needs."""
    columns = {}
    for name, choices in spellings.items():
        found = [choice for choice in choices if choice in text.names]
        if not found:
            raise ValueError(f"{text.file} has no column {' or '.join(choices)}; its columns are {', '.join(text.names)}")
        columns[name] = text.column(found[0])
        if found[0] in YEARS:
            with np.errstate(divide="ignore", invalid="ignore"):
                columns[name] = np.log10(columns[name])
        if not np.isfinite(columns[name]).all():
            raise ValueError(f"{text.file} has values in column {found[0]} that are no finite numbers")
    columns["log_age"] = np.round(columns["log_age"], 7)
    return columns


def _bands(text, columns, passbands, prefixed):
    """Names of the bands in columns of magnitudes, and the system of magnitudes that each is in."""
    described = text.comment(r"photometric system\s*[:=](.*)") or ""
    systems = [s for s, word in (("AB", r"\bAB(mags?)?\b"), ("ST", r"\bST(mags?)?\b"), ("Vega", "Vega")) if re.search(word, described)]
    if not systems:
        known = re.search(AB_SURVEYS, described, re.IGNORECASE)
        systems = ["Vega"] if not known else ["AB"] if "+" not in described else []  # beside another survey nobody tells
    system = systems[0] if len(systems) == 1 else "unknown"
    prefix = re.sub(r"\W", "_", "".join(re.findall(r"^[\w/-]+", described)).replace("-", ""))
    instruments = ()
    for pattern, name, places in INSTRUMENTS:
        if re.search(pattern, described, re.IGNORECASE):
            prefix, instruments = name, places
            break
    exact = {name.casefold(): RENAMED.get(name, name) for name in (*known_passbands(), *RENAMED)}
    passbands = dict(passbands or {})
    unknown = [column for column in passbands if column not in columns]
    if unknown:
        raise ValueError(f"passbands names {unknown[0]!r}, but the magnitudes in {text.file} are {', '.join(columns) or 'none'}")
    bands = {}
    for column in columns:
        bare = column.removesuffix("mag")
        if prefix == "WFC3":  # the chips of UVIS
            bare = re.sub(r"(?<=[A-Z])[12]$", "", bare)
        choices = [bare, *(f"{instrument}_{bare}" for instrument in instruments)]
        found = [exact[choice.casefold()] for choice in choices if choice.casefold() in exact]
        named = bare if not prefix or ("_" in bare and not prefixed) else f"{prefix}_{bare}"
        band = passbands.get(column, found[0] if found else named)
        if band in bands:
            raise ValueError(f"{text.file}: columns {bands[band]} and {column} are both {band}; name one by passbands={{{column!r}: ...}}")
        bands[band] = column
    if system == "unknown" and set(bands) & set(known_passbands()):
        raise ValueError(f"{text.file} mixes systems of magnitudes, {described!r}: which band is in which it does not tell")
    return bands, system


def _grid(text, columns, z, z_sun, source, phase_names, magnitudes, passbands, prefixed):
    """A grid from a table of numbers, its columns and the names of those with magnitudes."""
    if magnitudes:
        extinction = float(text.comment(r"\bAv\s*=\s*([\d.]*\d)") or 0)
        if extinction:
            raise ValueError(f"{text.file} has magnitudes with an extinction of A_V = {extinction:g}: bring them without")
    bands, system = _bands(text, magnitudes, passbands, prefixed)
    systems = {}
    for band, column in bands.items():
        values = text.column(column)
        values = np.where(np.abs(values) < FAINTEST, values, np.nan)
        convert = {"AB": vega_to_ab, "ST": vega_to_st}.get(system)
        if convert and band in known_passbands():
            values -= convert(band)
            systems[band] = "Vega"
        else:
            systems[band] = system
        columns[band] = values
    with np.errstate(divide="ignore", invalid="ignore"):
        metallicity = np.log10(np.asarray(z) / z_sun)
    if not np.isfinite(metallicity).all():
        raise ValueError(f"{text.file} has a metallicity Z that is not positive")
    columns["metallicity"] = np.broadcast_to(metallicity, len(text.values))
    header = [line for block, line in text.comments if block == 1 and line.strip("- ")]
    return _from_columns(
        text.file,
        columns,
        text.blocks,
        z_sun=z_sun,
        source=source,
        provenance={"header": {text.file: header}},
        magnitude_systems=systems,
        phase_names=phase_names,
        sha256={text.file: text.sha256},
    )


def _from_columns(file, columns, blocks=None, **known):
    """A grid from equally long columns, one row per star; one age and metallicity must lie in one block."""
    keys, node = np.unique(np.column_stack([columns["metallicity"], columns["log_age"]]), axis=0, return_inverse=True)
    node = node.ravel()
    order = np.lexsort((columns["initial_mass"], node))
    if not (columns["initial_mass"] > 0).all():
        raise ValueError(f"{file} has initial masses that are not positive")
    bands = known["magnitude_systems"]
    nodes = {}
    for key, rows in zip(keys, np.split(order, np.flatnonzero(np.diff(node[order])) + 1)):
        metallicity, log_age = map(float, key)
        if blocks is not None and len(np.unique(blocks[rows])) > 1:
            raise ValueError(f"{file} has log age {log_age:.6g} at [M/H] {metallicity:.3g} twice")
        values = {name: np.asarray(columns[name], float)[rows] for name in COLUMNS}
        values["initial_mass"] = ascending(values["initial_mass"])
        values["phase"] = np.maximum.accumulate(values["phase"].astype(int))
        magnitudes = np.empty((len(rows), len(bands)))
        for i, band in enumerate(bands):
            magnitudes[:, i] = columns[band][rows]
        nodes[metallicity, log_age] = Isochrone(**values, magnitudes=magnitudes)
    _fill(file, nodes, bands, known["z_sun"])
    try:
        return IsochroneGrid(nodes, **known)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _fill(file, nodes, bands, z_sun):
    """Put something in the place of missing magnitudes."""
    borrowed = dict.fromkeys(bands, 0)
    for (metallicity, log_age), stars in nodes.items():
        missing = ~(np.abs(stars.magnitudes) < FAINTEST)
        for i, band in enumerate(bands):
            gone = missing[:, i]
            if not gone.any():
                continue
            if band in known_passbands():
                corrected = corrected_magnitudes(stars, metallicity + np.log10(z_sun / 0.02), [band])
                stars.magnitudes[gone, i] = corrected[gone, 0]
            elif gone.all():
                raise ValueError(f"{file} has no magnitude in {band} at log age {log_age:.6g}, [M/H] {metallicity:.3g}")
            else:
                index, correction = np.arange(len(gone)), stars.magnitudes[:, i] + 2.5 * stars.log_luminosity
                correction[gone] = np.interp(index[gone], index[~gone], correction[~gone])
                stars.magnitudes[gone, i] = correction[gone] - 2.5 * stars.log_luminosity[gone]
                borrowed[band] += gone.sum()
    borrowed = ", ".join(f"{n} in {band}" for band, n in borrowed.items() if n)
    if borrowed:
        warnings.warn(
            f"{file} lacks magnitudes, {borrowed}: these stars take the bolometric correction of their neighbours",
            AstropyUserWarning,
        )


def _read_parsec(file, z_sun=PARSEC_Z_SUN, passbands=None):
    text = _read_text(file, PARSEC_COLUMNS["initial_mass"])
    version = text.comment(r"generated by CMD\s+([\d.]+)")
    closed = text.comments[-1][1].startswith("isochrone terminated")
    if version and version.startswith("3") and not closed:
        raise ValueError(
            f"{text.file} does not end with '#isochrone terminated' as the output of CMD 3 does: it seems truncated; "
            "add the line if the file is complete"
        )
    columns = _columns(text, PARSEC_COLUMNS)
    release = text.comment(r"PARSEC (?:release|track)s?\s+(?:version\s+)?(v?[\d.]+\w*)")
    source = " ".join(["PARSEC", *filter(None, [release, version and f"(CMD {version})"])])
    if any(name.endswith("mag") for name in text.names):
        magnitudes = [name for name in text.names if name.endswith("mag") and name != "mbolmag"]
    else:
        known = {*OLD_PARSEC_OTHERS, *(spelling for spellings in PARSEC_COLUMNS.values() for spelling in spellings)}
        magnitudes = [name for name in text.names if name not in known] if "M_ini" in text.names else []
    z = _parsec_metallicity(text)
    # isochrones end with a dead star of luminosity 1e-9 or so
    alive = columns["log_luminosity"] > -9
    if not alive.any():
        raise ValueError(f"{text.file} has no living star")
    phase_names = PLAIN_PHASES if "Phase" in text.names else CMD_PHASES
    text, columns, z = _where(alive, text, columns, z)
    return _grid(text, columns, z, z_sun, source, phase_names, magnitudes, passbands, prefixed=True)


def _where(chosen, text, columns, z):
    """Some of the rows."""
    text = text._replace(values=text.values[chosen], blocks=text.blocks[chosen])
    return text, {name: column[chosen] for name, column in columns.items()}, np.broadcast_to(z, len(chosen))[chosen]


def _parsec_metallicity(text):
    """Z of the rows: from a column, from comment lines that say ``Isochrone Z = 0.0152``, or from the file name."""
    for name in ("Zini", "Z"):
        if name in text.names:
            return text.column(name)
    stated = [(block, re.search(r"Isochrone\s+Z\s*=\s*([\d.]+(?:[eE][-+]?\d+)?)", line)) for block, line in text.comments]
    stated = {block: float(match[1]) for block, match in stated if match}
    if stated and min(stated) <= text.blocks[0]:
        starts = np.array(sorted(stated))
        return np.array([stated[start] for start in starts])[np.searchsorted(starts, text.blocks, side="right") - 1]
    match = re.search(r"z(0\.\d+)", Path(text.file).name, re.IGNORECASE)
    if match:
        return float(match[1])
    raise ValueError(
        f"{text.file} has no column Zini or Z, no comment like 'Isochrone Z = 0.0152', and no metallicity in its name such as z0.0200"
    )


def _read_mist(file, z_sun=MIST_Z_SUN, passbands=None):
    text = _read_text(file, ["EEP"])
    blocks, counts = np.unique(text.blocks, return_counts=True)
    announced = text.comment(r"number of isochrones\s*=\s*(\d+)")
    if announced and int(announced) != len(blocks):
        raise ValueError(f"{text.file} has {len(blocks)} of {announced} isochrones: it seems truncated")
    rows = dict(zip(blocks, counts))
    for block, line in text.comments:
        match = re.match(r"number of EEPs, cols\s*=\s*(\d+)", line)
        if match and int(match[1]) != rows.get(block, 0):
            raise ValueError(f"{text.file} has an isochrone with {rows.get(block, 0)} of {match[1]} stars: it seems truncated")
    columns = _columns(text, MIST_COLUMNS)
    magnitudes = []
    if text.comment(r"(photometric system)"):
        known = {*MIST_OTHERS, *(spelling for spellings in MIST_COLUMNS.values() for spelling in spellings)}
        magnitudes = [name for name in text.names if name not in known]
    version = text.comment(r"MIST version number\s*=\s*(\S+)")
    stars = columns["log_g"] <= 7
    text, columns, z = _where(stars, text, columns, _mist_metallicity(text))
    source = " ".join(filter(None, ["MIST", version]))
    return _grid(text, columns, z, z_sun, source, MIST_PHASES, magnitudes, passbands, prefixed=False)


def _mist_metallicity(text):
    """Zinit, from the line below its name in the header."""
    lines = [line.split() for _, line in text.comments]
    for names, values in zip(lines, lines[1:]):
        if "Zinit" in names and len(values) == len(names):
            return float(values[names.index("Zinit")])
    raise ValueError(f"{text.file} has no metallicity Zinit in its header")


def _read_ecsv(file):
    name, text, sha256 = _content(file)
    try:
        table = Table.read(text.splitlines(), format="ascii.ecsv")
    except Exception as error:
        raise ValueError(f"{name} is no complete ECSV table: {error}") from None
    needed = ("metallicity", "log_age", *COLUMNS)
    missing = {*needed, "z_sun"} - set(table.colnames) - set(table.meta)
    if missing:
        raise ValueError(f"{name} is no table of isochrones: it lacks {', '.join(sorted(missing))}")
    meta = table.meta
    if len(table) != meta.get("rows", len(table)) or not len(table):
        raise ValueError(f"{name} has {len(table)} of {meta.get('rows', 'some')} rows: it seems truncated")
    columns = {}
    for column in table.colnames:
        values, unit = table[column], ECSV_UNITS.get(column, u.mag)
        try:
            if values.unit not in (None, u.dex):
                if isinstance(unit, u.DexUnit) != isinstance(values.unit, u.DexUnit):
                    raise TypeError(f"they are in '{values.unit}'")
                values = u.Quantity(values, subok=True).to(unit)
            columns[column] = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} has values in column {column} that are no numbers of unit {unit}: {error}") from None
    for column in needed:
        if not np.isfinite(columns[column]).all():
            raise ValueError(f"{name} has values in column {column} that are no finite numbers")
    systems = meta.get("magnitude_systems", {})
    return _from_columns(
        name,
        columns,
        z_sun=meta["z_sun"],
        source=meta.get("source", name),
        provenance=meta.get("provenance"),
        magnitude_systems={band: systems.get(band, "Vega") for band in table.colnames if band not in needed},
        phase_names=meta.get("phase_names"),
        sha256={**meta.get("sha256", {}), name: sha256},
    )


def _write_ecsv(grid, path, overwrite=False):
    pieces = {name: [] for name in ("metallicity", "log_age", *COLUMNS)}
    magnitudes = []
    for (metallicity, log_age), stars in grid._nodes.items():
        pieces["metallicity"].append(np.full(len(stars.mass), metallicity))
        pieces["log_age"].append(np.full(len(stars.mass), log_age))
        for name in COLUMNS:
            pieces[name].append(getattr(stars, name))
        magnitudes.append(stars.magnitudes)
    table = QTable({name: np.concatenate(arrays) for name, arrays in pieces.items()})
    for name in ("initial_mass", "mass"):
        table[name] = table[name] << u.Msun
    for band, column in zip(grid.bands, np.concatenate(magnitudes).T):
        table[band] = column << u.mag
    table.meta = {"clustercnn": "isochrones", "rows": len(table)}
    for name in ("z_sun", "source", "provenance", "magnitude_systems", "phase_names", "sha256"):
        table.meta[name] = getattr(grid, name)
    table.write(path, format="ascii.ecsv", overwrite=overwrite)


def _merge(grids):
    """One grid from several."""
    first = grids[0]
    nodes, sources, sha256, provenance = {}, {}, {}, {}
    for grid in grids:
        file = list(grid.sha256)[-1]
        for what in ("z_sun", "magnitude_systems", "phase_names"):
            if getattr(grid, what) != getattr(first, what):
                raise ValueError(
                    f"{list(first.sha256)[-1]} and {file} differ in {what}: {getattr(first, what)} and {getattr(grid, what)}"
                )
        order = [grid.bands.index(band) for band in first.bands]
        for key, stars in grid._nodes.items():
            if key in nodes:
                raise ValueError(f"{file} has log age {key[1]:.6g} at [M/H] {key[0]:.3g}, as a file before it")
            nodes[key] = Isochrone(*(getattr(stars, name) for name in COLUMNS), stars.magnitudes[:, order])
        sources[grid.source] = None
        sha256.update(grid.sha256)
        for name, value in grid.provenance.items():
            if isinstance(value, dict):
                provenance.setdefault(name, {}).update(value)
            else:
                provenance.setdefault(name, value)
    known = {what: getattr(first, what) for what in ("z_sun", "magnitude_systems", "phase_names")}
    return IsochroneGrid(nodes, source="; ".join(sources), provenance=provenance, sha256=sha256, **known)


def _several(read):
    """A reader of one file as a reader of a list of files."""

    def read_all(files, **kwargs):
        files = files if isinstance(files, list) else [files]
        grids = [read(file, **kwargs) for file in files]
        return grids[0] if len(grids) == 1 else _merge(grids)

    return read_all


def _head(path, opened):
    """The words of the comment lines at the beginning of a file."""
    if opened is None:
        packed = Path(path).open("rb")
    else:
        position, content = opened.tell(), opened.read()
        opened.seek(position)
        packed = io.BytesIO(content.encode() if isinstance(content, str) else content)
    name = path or getattr(opened, "name", "the file")
    try:
        with packed, get_readable_fileobj(packed, encoding="binary") as file:
            start = file.read(65536).decode("utf-8-sig", errors="replace")
    except Exception as error:  # each way of packing has its own
        raise ValueError(f"{name} cannot be read: {error}") from None
    if not start.strip():
        raise ValueError(f"{name} is empty")
    return [line.lstrip("#% \t").split() for line in start.splitlines() if line.lstrip().startswith("#")]


def _is_ecsv(origin, path, opened, *args, **kwargs):
    words = _head(path, opened)
    return bool(words) and words[0][:1] == ["ECSV"]


def _is_parsec(origin, path, opened, *args, **kwargs):
    words = _head(path, opened)  # the comments of an ECSV file may quote a header
    return words[:1] and words[0][:1] != ["ECSV"] and any({"Mini", "M_ini"} & set(line) for line in words)


def _is_mist(origin, path, opened, *args, **kwargs):
    words = _head(path, opened)
    return words[:1] and words[0][:1] != ["ECSV"] and any({"EEP", "initial_mass"} <= set(line) for line in words)


registry.register_reader("parsec", IsochroneGrid, _several(_read_parsec))
registry.register_reader("mist", IsochroneGrid, _several(_read_mist))
registry.register_reader("ecsv", IsochroneGrid, _several(_read_ecsv))
registry.register_writer("ecsv", IsochroneGrid, _write_ecsv)
registry.register_identifier("parsec", IsochroneGrid, _is_parsec)
registry.register_identifier("mist", IsochroneGrid, _is_mist)
registry.register_identifier("ecsv", IsochroneGrid, _is_ecsv)
