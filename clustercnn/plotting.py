# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Every picture: colour images, recovered against true parameters, posteriors, completeness.

Each function draws into the axes or figure that it is given, or makes one, and returns it.  matplotlib is imported when a
picture is asked for, never before.
"""

import numpy as np
from astropy import units as u
from astropy.table import QTable, Row
from astropy.utils.masked import Masked

from clustercnn.parameters import as_quantity

__all__ = [
    "color_image",
    "plot_completeness",
    "plot_history",
    "plot_image",
    "plot_joint",
    "plot_overview",
    "plot_posterior",
    "plot_recovery",
]

_NAMES = {
    "age": "age",
    "a_v": r"$A_V$",
    "mass": "mass",
    "half_light_radius": r"half-light radius $r_h$",
    "visibility": "visibility (S/N)",
}
_LOGARITHMIC = ("age", "mass", "half_light_radius")
_CELLS = 64  # of a density, along each axis
_INK, _TRUTH = "#31688e", "#d1495b"


def _unit(unit):
    return "arcsec" if unit == u.arcsec else f"{unit:latex_inline}"


def _label(name, unit):
    """``age [Myr]``: what an axis says."""
    return f"{_NAMES.get(name, name)} [{_unit(unit)}]"


def _value(low, middle, high, unit):
    """A median with its errors, to two digits of the smaller error."""
    power = int(np.floor(np.log10(middle))) if middle >= 1e4 else 0
    low, middle, high = np.array([low, middle, high]) / 10**power
    error = max(min(middle - low, high - middle), 1e-3)
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    times = rf"\times10^{{{power}}}" if power else ""
    return rf"${middle:.{digits}f}_{{-{middle - low:.{digits}f}}}^{{+{high - middle:.{digits}f}}}{times}$ {_unit(unit)}"


def _scale(ax, which, scale, lower, upper):
    """Set scale and limits of the x or y axis; a logarithmic axis that spans little gets plain numbers."""
    getattr(ax, f"set_{which}scale")(scale)
    getattr(ax, f"set_{which}lim")(lower, upper)
    if scale == "log" and upper < 50 * lower:
        from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

        axis = getattr(ax, f"{which}axis")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())


def _axes(ax, **subplot):
    """The axes given, or new ones on a figure of their own."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(layout="constrained", **subplot)
    return ax


def _show_color(ax, image, **keywords):
    ax.imshow(image, origin="lower", interpolation="nearest", **keywords)


# ---------------------------------------------------------------------------------------------------------------- images


def color_image(images, bands=None):
    """
    A colour composite of three bands, after Lupton et al. (2004).

    Each band is freed of its median and scaled to its own bright pixels, so that the colours show differences between
    objects and not the units or depths of the images.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage`
        Any unit; masked and non-finite pixels come out black.
    bands : tuple of str, optional
        The bands shown as blue, green and red; by default the first, middle and last.

    Returns
    -------
    rgb : `~numpy.ndarray`
        Shape (ny, nx, 3), uint8, for ``imshow(rgb, origin="lower")``.
    """
    from astropy.visualization import make_lupton_rgb

    if bands is None:
        bands = [images.bands[k] for k in (0, len(images.bands) // 2, -1)]
    pixels = images.to_array(nan="mask")
    planes = []
    for band in bands:
        plane = pixels[images.bands.index(band)]
        faint, middle, bright = np.nanpercentile(plane, [16, 50, 99.5])
        noise = max(middle - faint, np.finfo(np.float32).tiny)
        # -1 is black too, and not the 0 / 0 of the stretch
        planes.append(np.nan_to_num((plane - middle + noise) / max(bright - middle, noise), nan=-1))
    blue, green, red = planes
    return make_lupton_rgb(red, green, blue, minimum=0, stretch=0.4, Q=12)


def plot_image(images, positions=None, radius=12, labels=None, color="white", bands=None, ax=None):
    """
    A colour image with circles around sources.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage`
        What to show.
    positions : array of shape (n, 2), `~astropy.coordinates.SkyCoord` or table, optional
        Sources to circle.
    radius : float
        Radius of the circles in pixels.
    labels : sequence of str, optional
        A text beside each circle.
    color : color
        Colour of circles and labels.
    bands : tuple of str, optional
        Blue, green and red band, see `color_image`.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        With pixel coordinates.
    """
    ax = _axes(ax, figsize=(7, 7))
    _show_color(ax, color_image(images, bands))
    if positions is not None:
        _circles(ax, images.pixel_positions(positions), radius, color, labels)
    ax.set(xlabel="x [pixel]", ylabel="y [pixel]")
    return ax


def _circles(ax, positions, radius, color, labels=None, **style):
    from matplotlib.collections import EllipseCollection

    size = np.full(len(positions), 2.0 * radius)
    style = {"facecolors": "none", "linewidths": 0.9} | style
    ax.add_collection(EllipseCollection(size, size, np.zeros_like(size), units="x", offsets=positions, edgecolors=color,
                                        offset_transform=ax.transData, **style))
    for (x, y), text in zip(positions, labels if labels is not None else []):
        ax.annotate(text, (x + 0.7 * radius, y + 0.7 * radius), color=color, fontsize=8, annotation_clip=True)


# ------------------------------------------------------------------------------------------------------ true and inferred


def plot_recovery(truth, inferred, names=("age", "a_v", "mass", "half_light_radius"), axes=None):
    """
    Inferred against true parameters, one panel each, with 68 % intervals.

    The number in a panel is the robust scatter, 1.48 times the median absolute deviation of inferred minus true; in dex
    where the axes are logarithmic.

    Parameters
    ----------
    truth : `~astropy.table.QTable`
        A column with a unit for each name; sources of which it is not known (NaN, masked) are left out.
    inferred : `~clustercnn.estimate.ClusterEstimate` or `~astropy.table.QTable`
        The same sources in the same order: an estimate, or a table with the columns ``name``, ``name_lo``, ``name_hi`` for each name.
        The visibility, if there is one, colours the points.
    names : tuple of str
        What to show.
    axes : sequence of `~matplotlib.axes.Axes`, optional
        One for each name.

    Returns
    -------
    axes : `~numpy.ndarray` of `~matplotlib.axes.Axes`
        One for each name.
    """
    if hasattr(inferred, "to_table"):
        inferred = inferred.to_table()
    truth, inferred = (QTable(table, copy=False) for table in (truth, inferred))  # in plain tables units stand beside the numbers
    if len(truth) != len(inferred):
        raise ValueError(f"truth and inferred must have one row per source each, not {len(truth)} and {len(inferred)}")
    if axes is None:
        import matplotlib.pyplot as plt

        _, axes = plt.subplots(1, len(names), figsize=(3.4 * len(names), 3.4), layout="constrained", squeeze=False)
    axes = np.ravel(axes)
    shade = np.clip(u.Quantity(inferred["visibility"]).value, 1, None) if "visibility" in inferred.colnames else None
    if shade is not None and not np.isfinite(shade).any():
        shade = None
    for ax, name in zip(axes, names):
        points = _plot_one_recovery(ax, name, truth[name], inferred, shade)
    if shade is not None:
        bar = ax.figure.colorbar(points, ax=list(axes), pad=0.02, aspect=40)
        bar.set_label(_NAMES["visibility"])
    return axes


def _plot_one_recovery(ax, name, true, inferred, shade):
    unit = inferred[name].unit if true.unit is None else true.unit
    columns = [as_quantity(true, unit, f"{name} of truth")] + [inferred[f"{name}{end}"] for end in ("_lo", "", "_hi")]
    columns = [_numbers(column, unit) for column in columns]
    known = np.isfinite(columns).all(axis=0)
    true, low, middle, high = (column[known] for column in columns)
    logarithmic = name in _LOGARITHMIC
    ax.vlines(true, low, high, color="0.75", lw=0.8, zorder=1)
    colors = {"c": _INK} if shade is None else {"c": shade[known], "cmap": "viridis", "norm": "log"}
    points = ax.scatter(true, middle, s=16, zorder=2, linewidths=0, **colors)
    if len(true):
        lower, upper = min(true.min(), low.min()), max(true.max(), high.max())
        ends = (lower / 1.1, upper * 1.1) if logarithmic else (lower - 0.1, upper + 0.1)
        ax.plot(ends, ends, color=_TRUTH, lw=1, zorder=0)
        for which in "xy":
            _scale(ax, which, "log" if logarithmic else "linear", *ends)
        error = np.log10(middle / true) if logarithmic else middle - true
        scatter = 1.48 * np.median(np.abs(error - np.median(error)))
        ax.text(0.05, 0.95, rf"$\sigma$ = {scatter:.2f} {'dex' if logarithmic else unit}", transform=ax.transAxes,
                va="top", fontsize="small")
    ax.set(xlabel=f"true {_label(name, unit)}", ylabel="inferred", box_aspect=1)
    return points


def plot_completeness(curves, axes=None):
    """
    Recovered fraction of injected clusters along each of their parameters.

    Parameters
    ----------
    curves : dict
        Name of a parameter to `~astropy.table.QTable` with ``lower``, ``upper``, ``fraction`` and ``error``, see
        `clustercnn.simulation.recovered_fraction`.
    axes : sequence of `~matplotlib.axes.Axes`, optional
        One for each name.

    Returns
    -------
    axes : `~numpy.ndarray` of `~matplotlib.axes.Axes`
        One for each name.
    """
    if axes is None:
        import matplotlib.pyplot as plt

        _, axes = plt.subplots(1, len(curves), figsize=(3 * len(curves), 2.8), sharey=True, layout="constrained", squeeze=False)
    axes = np.ravel(axes)
    for ax, (name, curve) in zip(axes, curves.items()):
        unit = curve["lower"].unit
        lower, upper = curve["lower"].value, curve["upper"].to_value(unit)
        fraction, error = np.asarray(curve["fraction"]), np.asarray(curve["error"])
        logarithmic = name in _LOGARITHMIC
        middle = np.sqrt(lower * upper) if logarithmic else (lower + upper) / 2
        ax.stairs(fraction, [*lower, upper[-1]], baseline=None, color=_INK, lw=1.5)
        ax.errorbar(middle, fraction, error, fmt="none", ecolor=_INK, elinewidth=1)
        _scale(ax, "x", "log" if logarithmic else "linear", lower[0], upper[-1])
        ax.set(xlabel=_label(name, unit), ylim=(0, 1.05))
    axes[0].set_ylabel("recovered fraction")
    return axes


# ----------------------------------------------------------------------------------------------------------- posteriors


def plot_history(history, axes=None):
    """
    How a training went: losses and the class AUC against the mocks seen.

    Parameters
    ----------
    history : `~astropy.table.QTable`
        Of `ClusterNet.fit <clustercnn.network.ClusterNet.fit>`: ``samples``, ``train_nll`` and, where there was a validation, ``nll`` and ``auc``.
    axes : sequence of `~matplotlib.axes.Axes`, optional
        Two panels; default: a new figure.

    Returns
    -------
    axes : `~numpy.ndarray` of `~matplotlib.axes.Axes`

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from clustercnn.plotting import plot_history
    >>> history = QTable({"samples": [1000, 2000], "train_nll": [1.0, -0.5], "nll": [0.4, -0.7], "auc": [0.8, 0.9]})
    >>> axes = plot_history(history)
    """
    import matplotlib.pyplot as plt

    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for name, label in (("train_nll", "training"), ("nll", "validation")):
        if name in history.colnames:
            axes[0].plot(history["samples"], history[name], label=label)
    axes[0].legend()
    axes[0].set(xlabel="mocks seen", ylabel="negative log posterior density")
    if "auc" in history.colnames:
        axes[1].plot(history["samples"], 1 - np.asarray(history["auc"]))
        axes[1].set(yscale="log")
    axes[1].set(xlabel="mocks seen", ylabel="1 - AUC of the class")
    return np.asarray(axes)


def _density(samples, bounds):
    """
    Histogram of draws, smoothed with Scott's bandwidth and reflected at the bounds, as the prior has hard edges.

    ``samples`` has shape (k, d), ``bounds`` (d, 2); returns the density per cell with sum 1, ``_CELLS`` along each axis.
    """
    from scipy.ndimage import gaussian_filter

    counts, _ = np.histogramdd(samples, bins=_CELLS, range=bounds)
    width = len(samples) ** (-1 / (samples.shape[1] + 4))
    spread = np.subtract(*np.percentile(samples, [84, 16], axis=0)) / 2
    cell = np.ptp(bounds, axis=1) / _CELLS
    smooth = gaussian_filter(counts, np.maximum(width * spread / cell, 0.5), mode="reflect")
    return smooth / max(smooth.sum(), np.finfo(float).tiny)


def _parameter(estimate, i, name):
    """Coordinates of the draws of source ``i``, its parameter, and cell edges in its unit."""
    space = estimate.space
    if name not in space.names:
        raise ValueError(f"names must be among {space.names}, not {name!r}")
    parameter = space[name]
    samples = np.asarray(estimate.draws[i, :, space.names.index(name)], dtype=float)
    edges = parameter.from_coordinate(np.linspace(*parameter.bounds, _CELLS + 1)).value
    return samples, parameter, edges


def _with_units(truth):
    """True values as Quantities, though in a row of a plain table units stand beside the numbers."""
    return QTable(truth.table[truth.index : truth.index + 1])[0] if isinstance(truth, Row) else truth


def _numbers(column, unit):
    """A column as numbers, NaN where it is masked."""
    values = column.to_value(unit)
    return values.filled(np.nan) if isinstance(values, Masked) else values


def _span(ax, which, parameter):
    _scale(ax, which, parameter.scale, parameter.lower.value, parameter.upper.value)


def plot_joint(estimate, i, names=("age", "a_v"), truth=None, ax=None):
    """
    The joint posterior of two parameters of one source, with its 68 % and 95 % regions.

    Parameters
    ----------
    estimate : `~clustercnn.estimate.ClusterEstimate`
        Posterior draws.
    i : int
        Which source.
    names : tuple of two str
        The parameters along x and y; the axes span the prior.
    truth : mapping or table row, optional
        True values with units, marked by a cross.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The map.
    """
    ax = _axes(ax, figsize=(4.2, 3.6))
    (x, horizontal, x_edges), (y, vertical, y_edges) = (_parameter(estimate, i, name) for name in names)
    density = _density(np.stack([x, y], axis=1), np.array([horizontal.bounds, vertical.bounds])).T
    ax.pcolormesh(x_edges, y_edges, density, cmap="Blues", shading="flat", rasterized=True)
    levels = _levels(density, (0.95, 0.68))
    if len(levels):
        centers = [p.from_coordinate(np.linspace(*p.bounds, 2 * _CELLS + 1)[1::2]).value for p in (horizontal, vertical)]
        ax.contour(*centers, density, levels, colors="0.25", linewidths=(0.7, 1.3)[-len(levels):])
    if (truth := _with_units(truth)) is not None:
        x, y = (as_quantity(truth[p.name], p.unit, p.name).value for p in (horizontal, vertical))
        ax.plot(x, y, "+", ms=12, mew=2, color=_TRUTH)
    _span(ax, "x", horizontal)
    _span(ax, "y", vertical)
    ax.set(xlabel=_label(names[0], horizontal.unit), ylabel=_label(names[1], vertical.unit))
    return ax


def _levels(density, fractions):
    """Densities whose contours hold the given fractions, ascending and distinct."""
    falling = np.sort(density.ravel())[::-1]
    held = np.cumsum(falling)
    levels = [falling[min(np.searchsorted(held, fraction), len(falling) - 1)] for fraction in fractions]
    return np.unique([level for level in levels if 0 < level < density.max()])


def plot_posterior(estimate, i, truth=None, figure=None):
    """
    All that is known of one source: the marginals of its parameters and their joint posteriors.

    Parameters
    ----------
    estimate : `~clustercnn.estimate.ClusterEstimate`
        Posterior draws.
    i : int
        Which source.
    truth : mapping or table row, optional
        True values with units.
    figure : `~matplotlib.figure.Figure` or `~matplotlib.figure.SubFigure`, optional
        Where to draw.

    Returns
    -------
    figure : `~matplotlib.figure.Figure` or `~matplotlib.figure.SubFigure`
        Marginals on the diagonal with median and 68 % interval, joint posteriors below it.
    """
    names = estimate.space.names
    size = len(names)
    truth = _with_units(truth)
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(2.1 * size, 2.1 * size), layout="constrained")
    axes = figure.subplots(size, size, sharex="col", squeeze=False)
    for row, below in enumerate(names):
        for column, name in enumerate(names):
            ax = axes[row, column]
            if column > row:
                ax.axis("off")
            elif column < row:
                plot_joint(estimate, i, (name, below), truth, ax)
            else:
                _plot_marginal(estimate, i, name, truth, ax)
            ax.label_outer(remove_inner_ticks=True)
    lines = []
    if estimate.p_cluster is not None:
        lines.append(f"p(cluster) = {np.asarray(estimate.p_cluster)[i]:.2f}")
    if estimate.visibility is not None:
        lines.append(f"visibility = {u.Quantity(estimate.visibility).value[i]:.0f}")
    axes[0, -1].text(1, 1, "\n".join(lines), transform=axes[0, -1].transAxes, ha="right", va="top")
    return figure


def _plot_marginal(estimate, i, name, truth, ax):
    samples, parameter, edges = _parameter(estimate, i, name)
    low, middle, high = parameter.from_coordinate(np.quantile(samples, [0.16, 0.5, 0.84], method="weibull")).value
    ax.stairs(_density(samples[:, None], np.array([parameter.bounds])), edges, fill=True, color=_INK, alpha=0.35)
    ax.axvline(middle, color=_INK, lw=1.2)
    ax.axvspan(low, high, color=_INK, alpha=0.15, lw=0)
    if truth is not None:
        ax.axvline(as_quantity(truth[name], parameter.unit, name).value, color=_TRUTH, lw=1.2)
    _span(ax, "x", parameter)
    ax.set_title(_value(low, middle, high, parameter.unit), fontsize="medium")
    ax.set(xlabel=_label(name, parameter.unit), yticks=[])


# ------------------------------------------------------------------------------------------------------ one field at once


def plot_overview(images, truth, catalog, pairs, estimate, accepted):
    """
    A field of injected clusters and what was found of them, on one page.

    The colour image with the true clusters (dotted) and the sources taken for clusters (white), recovered against true
    parameters, and three of the clusters, bright to faint, with their joint posteriors of age and extinction.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage`
        The field.
    truth, catalog : `~astropy.table.QTable`
        Positions, true parameters, and the catalogue.
    pairs : `~astropy.table.QTable`
        Rows ``first`` of the truth and ``second`` of the catalogue that are the same object, see
        `~clustercnn.matching.match_positions`.
    estimate : `~clustercnn.estimate.ClusterEstimate`
        Posterior draws of the pairs.
    accepted : array_like of bool
        Sources of the catalogue that are taken for clusters.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        The page.
    """
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(15, 8.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.36, 1))
    above, below = right.subfigures(2, 1, height_ratios=(1.4, 1))
    accepted = np.asarray(accepted, dtype=bool)
    kept = accepted[pairs["second"]]
    pairs, estimate = pairs[kept], estimate[kept]
    true, found = truth[pairs["first"]], catalog[pairs["second"]]

    field = left.subplots()
    pixels = color_image(images)
    _show_color(field, pixels)
    _circles(field, images.pixel_positions(truth), 15, "gold", linestyles="dotted", linewidths=1.2)
    _circles(field, images.pixel_positions(catalog[accepted]), 11, "white")
    field.set(xlabel="x [pixel]", ylabel="y [pixel]")
    field.set_title(f"{len(truth)} clusters (dotted), {accepted.sum()} sources taken for clusters (white), "
                    f"{len(pairs)} in common", fontsize="medium")
    plot_recovery(true, found, axes=above.subplots(2, 2))

    bright_first = np.argsort(-u.Quantity(found["visibility"]).value)
    shown = [bright_first[k] for k in np.unique((np.linspace(0.1, 0.8, 3) * len(found)).astype(int))] if len(found) else []
    axes = below.subplots(2, 3, squeeze=False)
    for ax in axes.ravel()[[k for k in range(6) if k % 3 >= len(shown)]]:
        ax.axis("off")
    for number, (k, stamp, posterior) in enumerate(zip(shown, *axes), 1):
        (x, y), = images.pixel_positions(found[k:k + 1])
        _show_color(stamp, pixels, extent=np.array([-0.5, pixels.shape[1] - 0.5, -0.5, pixels.shape[0] - 0.5]))
        stamp.set(xlim=(x - 32, x + 32), ylim=(y - 32, y + 32), xticks=[], yticks=[])
        stamp.set_title(f"{number}: visibility {u.Quantity(found['visibility']).value[k]:.0f}", fontsize="medium")
        field.annotate(str(number), (x + 12, y + 12), color="white", weight="bold")
        plot_joint(estimate, k, truth=true[k], ax=posterior)
        posterior.label_outer()
    return figure
