# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What the answer owes to the model: mocks with one thing changed and the same seed else, through the network as it is.

    python benchmarks/validation/sensitivity.py --data DIR

``DIR`` holds isochrones/isoc_z0.0200.dat (PARSEC, as FSPS has it) and psf/f*_sub4.fits (Tiny Tim); without it both are left out.
Shifts are of the posterior medians of the same clusters, in units of half the 68 % interval; the mass is the true one throughout,
so that another mass-to-light ratio shows as a shift of the mass. The loss of NLL beside the unchanged mocks holds the wrong
model, and, where the disc is another one, what crowding takes from any observer. Where the network is told of uncertain zero points,
so it is for the unchanged mocks beside which PARSEC's stand. Writes sensitivity.ecsv and sensitivity.png.
"""

import warnings

import numpy as np
from astropy import units as u
from astropy.io import fits
from common import ACCENT, INK, PLOTTED, TITLES, answers, arguments, fields, network, pyplot, recovery, save, spread, stream, write

from clustercnn.profiles import get_profile
from clustercnn.psf import as_psf
from clustercnn.simulation import BackgroundFields, GalaxyDisc
from clustercnn.simulation.noise import Detector
from clustercnn.stellar import IsochroneGrid

UNCERTAIN = 0.1, 0.2  # mag: what the network is told that the zero points may be off, in place of the stars


def other_discs(args, mocks, brighter=0.0 * u.mag / u.arcsec**2, star_formation=1.0):
    """The reference discs, brighter by so much and with so many times the recent star formation."""
    made = []
    for rng in np.random.default_rng(args.settings["field_seed"]).spawn(args.settings["n_fields"]):
        disc = GalaxyDisc.draw(mocks.instrument, rng, distance=mocks.distance)
        disc.surface_brightness -= brighter
        disc.recent_star_formation *= star_formation
        made.append(disc.rates(tuple(args.settings["field_shape"]), rng))
    return BackgroundFields(made)


def variants(args, mocks):
    """Names, streams, made when they are needed, and what the network is told."""
    same, (poor, *_, rich) = {"background": mocks.background}, IsochroneGrid.default().metallicities
    changes = {
        "Z = 0.014": {"metallicity": poor}, "Z = 0.03": {"metallicity": rich},
        "IMF of Chabrier": {"imf": "chabrier"}, "IMF of Salpeter": {"imf": "salpeter"},
        "R_V = 2.6": {"r_v": 2.6}, "R_V = 4": {"r_v": 4.0},
        "EFF, gamma = 2.2": {"profiles": [get_profile("eff", gamma=2.2)]},
        "EFF, gamma = 3.5": {"profiles": [get_profile("eff", gamma=3.5)]},
        "King, c = 1": {"profiles": [get_profile("king", concentration=1.0)]},
        "King, c = 1.5": {"profiles": [get_profile("king", concentration=1.5)]},
        "Plummer": {"profiles": [get_profile("plummer")]},
    }
    for name, change in changes.items():
        yield name, lambda change=change: stream(args, **same, **change), {}
    for factor in (0.95, 1.05):
        distance = factor * mocks.distance
        yield f"distance {100 * factor - 100:+.0f} %", lambda distance=distance: stream(
            args, distance=distance, background=fields(args, distance=distance)
        ), {}
    yield "discs 0.5 mag brighter", lambda: stream(args, background=other_discs(args, mocks, brighter=0.5 * u.mag / u.arcsec**2)), {}
    yield "3 times the star formation", lambda: stream(args, background=other_discs(args, mocks, star_formation=3.0)), {}
    for error in UNCERTAIN:
        yield f"{error:g} mag told", lambda: mocks, {"zero_point_error": error * u.mag}
    if args.data is not None:
        parsec = IsochroneGrid.read(args.data / "isochrones" / "isoc_z0.0200.dat")  # of Z = 0.02, as the default
        for error in (0.0, *UNCERTAIN):
            name, told = (f"PARSEC, {error:g} mag told", {"zero_point_error": error * u.mag}) if error else ("PARSEC", {})
            yield name, lambda: stream(args, **same, isochrones=parsec, metallicity=parsec.metallicities[0]), told
        psf = {band: tiny_tim(args.data / "psf" / f"{band.lower()}_sub4.fits") for band in mocks.instrument.bands}
        computed = stream(args, psf=psf, background=fields(args, psf=psf))
        yield "Tiny Tim PSF", lambda: computed, {}
        yield "Tiny Tim PSF, told", lambda: computed, {"psf": psf}


def tiny_tim(path):
    """A PSF of Tiny Tim, four times subsampled, with the diffusion of charge that its header describes and leaves to the user."""
    pixels, header = fits.getdata(path).astype(float), fits.getheader(path)
    diffusion = np.array([line.split() for line in list(header["COMMENT"])[-3:]], dtype=float)
    steps = [(i, j, np.roll(pixels, (4 * (i - 1), 4 * (j - 1)), axis=(0, 1))) for i in range(3) for j in range(3)]
    spread_out = sum(diffusion[i, j] * moved for i, j, moved in steps)
    middle = np.unravel_index(np.argmax(pixels), pixels.shape)
    return as_psf(spread_out, oversampling=4, pixel_integrated=False, center=tuple(int(i) for i in middle[::-1]))


def rows_of(name, plain, other):
    """Shift, its scatter, coverage and loss for each parameter."""
    rows, loss = [], other.nll - plain.nll
    for found in recovery(other):
        parameter = found["parameter"]
        shift = (other.quantile(parameter) - plain.quantile(parameter)) / plain.half_width(parameter)
        moved, n = other.error(parameter) - plain.error(parameter), len(shift)
        rows.append({"changed": name, "parameter": parameter, "n": n, "shift": np.median(shift),
                     "shift_error": spread(shift)["bias_error"], "scatter": spread(shift)["sigma"],
                     "shift_physical": np.median(moved), "held_68": found["held_68"], "held_95": found["held_95"],
                     "nll_loss": loss.mean(), "nll_loss_error": loss.std() / np.sqrt(n)})
    return rows


def draw(rows):
    """Shifts per parameter, and the loss."""
    plt = pyplot()
    names = list(dict.fromkeys(row["changed"] for row in rows))
    parameters = list(dict.fromkeys(row["parameter"] for row in rows))
    figure, axes = plt.subplots(1, 5, figsize=(13, 0.28 * len(names) + 1.2), sharey=True, layout="constrained")
    place = np.arange(len(names))
    for ax, parameter in zip(axes, parameters):
        part = [row for row in rows if row["parameter"] == parameter]
        ax.barh(place, [row["shift"] for row in part], color=INK)
        ax.errorbar([row["shift"] for row in part], place, xerr=[row["scatter"] for row in part], fmt="none", ecolor="0.6", lw=1)
        ax.axvline(0, color="k", lw=0.8)
        ax.set(xlabel=f"shift of {PLOTTED[parameter]} [half 68 %]")
    axes[0].set_yticks(place, names)
    axes[0].invert_yaxis()
    part = [row for row in rows if row["parameter"] == parameters[0]]
    axes[4].barh(place, [row["nll_loss"] for row in part], xerr=[row["nll_loss_error"] for row in part], color=ACCENT)
    axes[4].axvline(0.5, color="k", lw=0.8, ls="--")
    axes[4].set(xlabel="loss of NLL [nat]")
    save(figure, "sensitivity")


def main():
    args = arguments(__doc__, samples=2000, data=(None, "folder with isochrones/ and psf/"))
    net, mocks = network(args.model), stream(args)
    plain = answers(net, mocks, args.samples, title="unchanged")
    rows = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the isochrones begin at")  # those of PARSEC, at 0.1 Msun
        beside = {0.0: plain}  # by what is told of the zero points
        for name, make, told in variants(args, mocks):
            found, error = answers(net, make(), args.samples, title=name, **told), told.get("zero_point_error", 0 * u.mag).value
            rows += rows_of(name, beside.get(error, plain), found)
            beside.setdefault(error, found)
    sky = Detector.from_instrument(mocks.instrument).sky[:, None, None].astype(np.float32)
    left = answers(net, mocks, args.samples, change=lambda pixels, start: pixels + sky, title="sky left in")
    rows += rows_of("sky left in", plain, left)
    page = []
    for name in dict.fromkeys(row["changed"] for row in rows):
        part = [row for row in rows if row["changed"] == name]
        shifts = {TITLES[row["parameter"]]: f"{row['shift']:+.2f} ± {row['shift_error']:.2f}" for row in part}
        held = ", ".join(f"{row['held_68']:.2f}" for row in part)
        loss = f"{part[0]['nll_loss']:+.2f} ± {part[0]['nll_loss_error']:.2f}"
        page.append({"changed": name} | shifts | {"68 % hold": held, "loss [nat]": loss})
    note = f"{args.samples:,} {args.clusters}, {net!r}; the unchanged mocks have an NLL of {plain.nll.mean():.2f}."
    write("sensitivity", rows, note, page)
    draw(rows)


if __name__ == "__main__":
    main()
