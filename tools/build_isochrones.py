# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Build ``clustercnn/stellar/data/isochrones_sse.npz``: isochrones after Hurley, Pols & Tout (2000).

``python tools/build_isochrones.py`` needs cosmic-popsynth (GPL-3; a build tool only, nothing of it is shipped) and the
bolometric corrections of ``tools/build_bolometric_corrections.py``. Per metallicity:

1. tracks of single stars from 0.08 to 120 Msun, each resampled at fixed fractions of each evolutionary phase;
2. a fine isochrone at each age: where the age crosses the times of equal phase fraction along the mass axis;
3. 200 knots of it, chosen greedily so that magnitudes interpolated in initial mass reproduce the light.
"""

import argparse
import heapq
import json
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

from clustercnn.stellar.imf import get_imf
from clustercnn.stellar.isochrones import SOLAR_LOG_G, SOLAR_LOG_TEFF
from clustercnn.stellar.photometry import absolute_magnitudes

__all__ = ["Tracks", "choose_knots", "evolve", "fine_isochrone"]

METALLICITIES = (0.014, 0.02, 0.03)
Z_SUN = 0.02
LOG_AGES = np.round(np.arange(6.6, 10.101, 0.05), 2)
KNOTS = 200
SINGLE_STARS = 3e-5  # error of a segment per mag of its worst star, in units of the cluster's light
BANDS = ("F275W", "F336W", "F438W", "F555W", "F814W", "WFC3_IR_F160W")
LAST_PHASE = 9  # SSE types 0-1 main sequence, 2 Hertzsprung gap, 3 RGB, 4 core helium, 5-6 AGB, 7-9 naked helium
# fractions of a phase; dense towards its end, where giants climb fast
FRACTIONS = np.unique(np.concatenate([np.linspace(0, 1, 61), 1 - np.linspace(0, 1, 81) ** 3]))
MASSES = np.unique(np.concatenate([np.geomspace(0.08, 0.6, 60), np.geomspace(0.6, 8, 700), np.geomspace(8, 120, 500)]))


def _setup():
    """Load COSMIC with its recommended settings, but the solar metallicity of the Hurley formulae."""
    import cosmic
    from cosmic import _evolvebin
    from cosmic.consts import ALL_COLUMNS, GROUPED_SETTINGS

    text = (Path(cosmic.__file__).parent / "data" / "cosmic-settings.json").read_text()
    settings = {}
    for category in json.loads(text):
        for setting in category["settings"]:
            value = [o["name"] for o in setting.get("options", []) if o.get("default")]
            if category["category"] == "bse" and value:
                settings[setting["name"].lower()] = value[0]
    settings["zsun"] = Z_SUN  # its default, 0.014, makes red supergiants 3 mag too red
    for group, names in GROUPED_SETTINGS.items():
        for name in names:
            value = settings.get(name.lower())
            if name == "randomseed":
                continue
            if isinstance(value, str):  # "[1.0, 1.0]", and fractions 2.0/21.0
                value = json.loads(value.replace("2.0/21.0", str(2 / 21)))
            setattr(getattr(_evolvebin, group), name.lower(), value)
    _evolvebin.rand1.idum1 = 1
    _evolvebin.cmcpass.using_cmc = 0
    _evolvebin.se_flags.using_sse = 1
    _evolvebin.se_flags.using_metisse = 0
    wanted = ("tphys", "kstar_1", "mass_1", "lum_1", "teff_1", "tms_1")
    index = np.zeros(len(_evolvebin.col.col_inds_bcm), int)
    index[: len(wanted)] = [ALL_COLUMNS.index(name) + 1 for name in wanted]
    for table in ("bpp", "bcm"):
        setattr(_evolvebin.col, f"n_col_{table}", len(wanted))
        setattr(_evolvebin.col, f"col_inds_{table}", index)
    return _evolvebin, len(wanted)


def evolve(mass, metallicity, age=15000.0):
    """
    Every time step of one single star: rows of age (Myr), type, mass, luminosity, temperature, main-sequence lifetime.

    The companion is a massless remnant (type 15), which is how COSMIC evolves single stars.
    """
    if not hasattr(evolve, "engine"):
        evolve.engine = _setup()
    engine, width = evolve.engine
    zero = [0.0, 0.0]
    arguments = [[1 if mass > 0.7 else 0, 15], [mass, 0.0], -1.0, -1.0, metallicity, age, 0.0, [mass, 0.0]]
    *_, n_bpp, n_bcm = engine.evolv2(*arguments, *[zero] * 13, 0.0, np.zeros(20), np.zeros((2, 19)))
    rows = engine.binary.bcm[:n_bcm, :width].copy()
    engine.binary.bpp[:n_bpp] = 0
    engine.binary.bcm[:n_bcm] = 0
    return rows


class Tracks:
    """Tracks of one metallicity, resampled: time and state at (mass, phase, fraction), NaN where a star skips a phase."""

    def __init__(self, metallicity, masses=MASSES):
        self.masses = masses
        shape = (len(masses), LAST_PHASE + 1, len(FRACTIONS))
        self.time = np.full(shape, np.nan)
        self.state = np.full(shape + (3,), np.nan)  # mass, log L, log Teff
        self.main = []
        for i, mass in enumerate(masses):
            self._add(i, evolve(mass, metallicity))

    def _add(self, i, rows):
        rows = rows[np.isfinite(rows).all(axis=1)]
        rows = rows[: np.argmax(rows[:, 1] > LAST_PHASE)] if (rows[:, 1] > LAST_PHASE).any() else rows
        rows[:, 1] = np.where(rows[:, 1] == 0, 1, rows[:, 1])
        state = np.stack([rows[:, 2], np.log10(rows[:, 3]), np.log10(rows[:, 4])], axis=1)
        first = rows[:, 1] == 1
        self.main.append((rows[first, 0], state[first]))
        for phase in np.unique(rows[:, 1]).astype(int):
            inside = np.flatnonzero(rows[:, 1] == phase)
            following = min(inside[-1] + 1, len(rows) - 1)
            start, end = rows[inside[0], 0], rows[following, 0]
            self.time[i, phase] = start + FRACTIONS * (end - start)
            for k in range(3):
                self.state[i, phase, :, k] = np.interp(self.time[i, phase], rows[inside, 0], state[inside, k])


def fine_isochrone(tracks, age):
    """Initial mass (ascending), phase and state (mass, log L, log Teff, log g) of every living star at ``age`` in Myr."""
    mass, phase, state = [], [], []
    # main sequence: the tracks' own masses
    for m, (time, value) in zip(tracks.masses, tracks.main):
        if time[-1] >= age:
            mass.append([m])
            phase.append([1])
            state.append([[np.interp(age, time, value[:, k]) for k in range(3)]])
    # evolved stars, and the main sequence's end: the age crosses T(mass) at a fixed phase and fraction
    difference = tracks.time - age
    crossing = (difference[:-1] > 0) != (difference[1:] > 0)
    crossing &= np.isfinite(difference[:-1]) & np.isfinite(difference[1:])
    crossing[:, 0] = False
    i, k, j = np.nonzero(crossing)
    weight = difference[i, k, j] / (difference[i, k, j] - difference[i + 1, k, j])
    mass.append(tracks.masses[i] ** (1 - weight) * tracks.masses[i + 1] ** weight)
    phase.append(k)
    state.append(tracks.state[i, k, j] * (1 - weight[:, None]) + tracks.state[i + 1, k, j] * weight[:, None])
    mass, phase, state = np.concatenate(mass), np.concatenate(phase), np.concatenate(state)
    # one phase ends at the mass where the next begins: a hair apart, or the jump between them would be a slope
    mass, index = np.unique(mass * (1 + 1e-10 * phase), return_index=True)
    phase, state = phase[index], state[index]
    # Humphreys-Davidson limit: the most massive stars never become red supergiants
    hot = (mass > 40) & (phase > 1)
    state[hot, 2] = np.maximum(state[hot, 2], 4.0)
    log_g = SOLAR_LOG_G + np.log10(state[:, 0]) + 4 * (state[:, 2] - SOLAR_LOG_TEFF) - state[:, 1]
    return mass, phase, np.column_stack([state, log_g])


def choose_knots(mass, phase, magnitudes, number=KNOTS):
    """
    Indices of ``number`` points between which magnitudes interpolate best in initial mass.

    Both ends of each phase are kept. Then the segment that misplaces most light (largest share over the bands, Kroupa
    stars) is split where it does, again and again; a small term for the worst magnitude serves single stars.
    """
    flux = 10 ** (-0.4 * magnitudes)
    weight = np.gradient(mass) * get_imf("kroupa").pdf(mass)
    share = weight[:, None] / (flux * weight[:, None]).sum(axis=0)

    def error(i, j):
        """Error of the segment from i to j, and the point at which to split it."""
        inside = slice(i + 1, j)
        if j - i < 2:
            return 0.0, i
        fraction = ((mass[inside] - mass[i]) / (mass[j] - mass[i]))[:, None]
        guess = magnitudes[i] * (1 - fraction) + magnitudes[j] * fraction
        lost = np.abs(10 ** (-0.4 * guess) - flux[inside]) * share[inside]
        off = SINGLE_STARS * np.abs(guess - magnitudes[inside]).max(axis=1)
        return lost.sum(axis=0).max() + off.max(), i + 1 + int(np.argmax(lost.max(axis=1) + off))

    ends = np.flatnonzero(np.diff(phase))
    knots = sorted({0, len(mass) - 1, *ends, *(ends + 1)})
    heap = []
    for i, j in zip(knots[:-1], knots[1:]):
        value, worst = error(i, j)
        heapq.heappush(heap, (-value, i, worst, j))
    while len(knots) < number:
        _, i, worst, j = heapq.heappop(heap)
        knots.append(worst)
        for a, b in ((i, worst), (worst, j)):
            value, split = error(a, b)
            heapq.heappush(heap, (-value, a, split, b))
    return np.sort(knots)


def light(mass, magnitudes):
    """Integrated magnitude per band of Kroupa stars, magnitudes linear in mass between the points given."""
    fine = np.unique(np.concatenate([mass, *(mass[:-1] + f * np.diff(mass) for f in (0.2, 0.4, 0.6, 0.8))]))
    flux = [10 ** (-0.4 * np.interp(fine, mass, m)) for m in magnitudes.T]
    return -2.5 * np.log10(np.trapezoid(flux * get_imf("kroupa").pdf(fine), fine, axis=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    default = Path(__file__).parent.parent / "clustercnn" / "stellar" / "data" / "isochrones_sse.npz"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    t_ms = float(evolve(1.0, Z_SUN)[0, 5])
    if abs(t_ms - 11003) > 1:
        raise ValueError(f"t_MS(1 Msun, Z=0.02) is {t_ms:.2f} Myr, not 11003: is zsun {Z_SUN}?")
    shape = (len(METALLICITIES), len(LOG_AGES), KNOTS)
    initial = np.empty(shape)
    table = np.empty(shape + (3,))
    phases = np.empty(shape, np.int8)
    worst = 0.0
    for a, z in enumerate(METALLICITIES):
        tracks = Tracks(z)
        for b, log_age in enumerate(LOG_AGES):
            mass, phase, state = fine_isochrone(tracks, 10 ** (log_age - 6))
            magnitudes = absolute_magnitudes(state[:, 1], state[:, 2], state[:, 3], np.log10(z / Z_SUN), BANDS)
            knots = choose_knots(mass, phase, magnitudes)
            initial[a, b], phases[a, b], table[a, b] = (
                mass[knots],
                np.maximum.accumulate(phase[knots]),
                state[knots, :3],
            )
            worst = max(worst, np.abs(light(mass[knots], magnitudes[knots]) - light(mass, magnitudes)).max())
        print(f"Z = {z}: {len(tracks.masses)} tracks; knots against the fine isochrone so far {worst:.4f} mag")
    provenance = {
        "made_by": "tools/build_isochrones.py",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "model": "Hurley, Pols & Tout (2000, MNRAS, 315, 543), single stars",
        "engine": f"cosmic-popsynth {metadata.version('cosmic-popsynth')}, its default winds and time steps, zsun = {Z_SUN}",
        "t_ms_1msun_myr": round(t_ms, 2),
        "knots_worst_mag": round(float(worst), 4),
        "knots_bands": list(BANDS),
        "limits": "log Teff >= 4.0 after the main sequence for initial masses above 40 Msun (Humphreys-Davidson)",
        "phases": "SSE types: 1 main sequence, 2 Hertzsprung gap, 3 RGB, 4 core helium burning, 5 early AGB, 6 TP-AGB, "
        "7-9 naked helium",
    }
    np.savez_compressed(
        args.out,
        provenance=np.array(json.dumps(provenance)),
        z=np.array(METALLICITIES),
        z_sun=np.array(Z_SUN),
        log_ages=LOG_AGES,
        initial_mass=initial,
        mass=np.round(table[..., 0], 4).astype(np.float32),
        log_luminosity=np.round(table[..., 1], 4).astype(np.float32),
        log_teff=np.round(table[..., 2], 4).astype(np.float32),
        phase=phases,
    )
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} kB, t_MS {t_ms:.2f} Myr, worst {worst:.4f} mag")


if __name__ == "__main__":
    main()
