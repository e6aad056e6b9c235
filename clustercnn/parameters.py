# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The physical parameters of a cluster, their ranges and their priors: the one place that knows what an age is."""

import textwrap
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.table import Column, QTable

__all__ = ["Parameter", "ParameterSpace", "as_quantity", "positive_quantity", "power_law"]

_ROUNDING = 1e-6  # share of a range by which a bound in single precision may lie outside


def in_short(value):
    """
    What a message shows of a value: the beginning of its ``repr``, on one line.

    Parameters
    ----------
    value : object
        Anything, such as an array of a million numbers.

    Returns
    -------
    text : str

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.parameters import in_short
    >>> print(in_short(3.0), in_short(np.ones((1000, 1))))
    3.0 array([[1.], [1.], [1.], ..., [1.], ...
    """
    return textwrap.shorten(repr(value), 40, placeholder=" ...")


def as_quantity(value, unit, name):
    """
    Check that a physical argument carries a unit and convert it.

    Parameters
    ----------
    value : `~astropy.units.Quantity`
        What the caller gave; a column of a plain `~astropy.table.Table` that has a unit will do.
    unit : `~astropy.units.Unit`
        The unit to convert to.
    name : str
        The name of the argument, for the message.

    Returns
    -------
    quantity : `~astropy.units.Quantity`
        ``value`` in ``unit``.

    Raises
    ------
    TypeError
        If ``value`` is not a `~astropy.units.Quantity`.
    `~astropy.units.UnitsError`
        If its unit cannot be converted.

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn.parameters import as_quantity
    >>> as_quantity(20 * u.Myr, u.yr, "age")
    <Quantity 20000000. yr>
    """
    unit = u.Unit(unit)
    if isinstance(value, Column) and value.unit is not None:
        value = QTable({name: value})[name]  # masked where the column is
    if not isinstance(value, u.Quantity):
        raise TypeError(f"{name} must be a Quantity such as 1 * u.Unit('{unit}'), not {in_short(value)}")
    try:
        return value.to(unit)
    except u.UnitConversionError:
        raise u.UnitsError(f"{name} must have a unit that converts to '{unit}', not '{value.unit}'") from None


def positive_quantity(value, unit, name):
    """
    Check that a physical argument is one positive, finite number with a unit, and convert it.

    Parameters
    ----------
    value, unit, name
        As for `as_quantity`.

    Returns
    -------
    quantity : `~astropy.units.Quantity`
        ``value`` in ``unit``.

    Raises
    ------
    TypeError, `~astropy.units.UnitsError`
        As `as_quantity`.
    ValueError
        If ``value`` is an array, zero, negative or not finite.

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn.parameters import positive_quantity
    >>> positive_quantity(4500 * u.kpc, u.Mpc, "distance")
    <Quantity 4.5 Mpc>
    """
    quantity = as_quantity(value, unit, name)
    if quantity.ndim or not (np.isfinite(quantity) and quantity > 0):
        raise ValueError(f"{name} must be one positive number, such as 1 {unit}, not {value}")
    return quantity


@dataclass(frozen=True)
class Parameter:
    """
    One physical parameter: its unit, its range, and how it is measured along it.

    Parameters
    ----------
    name : str
        The field's name of it, such as ``"age"``.
    lower, upper : `~astropy.units.Quantity`
        The range, with units that convert to each other; the unit of ``lower`` is the parameter's. Of ``6 * u.dex(u.yr)`` it is yr.
    scale : {'log', 'linear'}
        The coordinate is the decimal logarithm of the value, or the value itself.
    bins : int
        Number of equal bins along the coordinate, for histograms and the grid head.

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn.parameters import Parameter
    >>> Parameter("a_v", 0 * u.mag, 3 * u.mag, scale="linear", bins=10).bounds
    (0.0, 3.0)
    """

    name: str
    lower: u.Quantity
    upper: u.Quantity
    scale: str = "log"
    bins: int = 20

    def __post_init__(self):
        if self.scale not in ("log", "linear"):
            raise ValueError(f"scale of {self.name} must be 'log' or 'linear', not {self.scale!r}")
        if not isinstance(self.lower, u.Quantity):
            raise TypeError(f"lower of {self.name} must be a Quantity such as 3 * u.Myr, not {in_short(self.lower)}")
        if isinstance(self.lower, u.LogQuantity):
            object.__setattr__(self, "lower", self.lower.physical)
        upper = as_quantity(self.upper, self.lower.unit, f"upper of {self.name}")
        object.__setattr__(self, "upper", upper)
        if self.lower.ndim or upper.ndim or not (np.isfinite(self.lower) and np.isfinite(upper)):
            raise ValueError(f"lower and upper of {self.name} must be one finite number each, not {self.lower} and {upper}")
        if self.scale == "log" and self.lower <= 0:
            raise ValueError(f"lower of {self.name} must be positive on a log scale, not {self.lower}")
        if not self.lower < upper:
            raise ValueError(f"lower of {self.name} must be below upper, not {self.lower} and {upper}")
        if self.bins < 1:
            raise ValueError(f"bins of {self.name} must be at least 1, not {self.bins}")

    @property
    def unit(self):
        """The unit of the values."""
        return self.lower.unit

    @property
    def bounds(self):
        """Lower and upper end of the coordinate (float, float)."""
        return float(self.to_coordinate(self.lower)), float(self.to_coordinate(self.upper))

    def to_coordinate(self, value):
        """Coordinate of a Quantity: log10 of its value in `unit`, or the value in `unit`."""
        plain = as_quantity(value, self.unit, self.name).value
        return np.log10(plain) if self.scale == "log" else plain

    def from_coordinate(self, coordinate):
        """Quantity at a coordinate."""
        coordinate = np.asarray(coordinate, dtype=float)
        return (10.0**coordinate if self.scale == "log" else coordinate) * self.unit

    def edges(self):
        """Edges of the bins as a Quantity (bins + 1)."""
        return self.from_coordinate(np.linspace(*self.bounds, self.bins + 1))

    def to_dict(self):
        """A JSON-able description."""
        return {
            "name": self.name,
            "unit": self.unit.to_string(),
            "lower": float(self.lower.value),
            "upper": float(self.upper.value),
            "scale": self.scale,
            "bins": self.bins,
        }

    @classmethod
    def from_dict(cls, description):
        """The parameter that `to_dict` described."""
        unit = u.Unit(description["unit"])
        return cls(
            description["name"],
            description["lower"] * unit,
            description["upper"] * unit,
            scale=description["scale"],
            bins=int(description["bins"]),
        )


class ParameterSpace:
    """
    The box of parameters that clusters are drawn from, with a prior that is flat in each coordinate.

    A point of the box is written in three ways: as Quantities (what people see), as coordinates (log10 of the value for a
    logarithmic parameter, else the value: what networks see), and on the unit interval (0 at the lower bound, 1 at the upper).

    Parameters
    ----------
    parameters : sequence of `Parameter`
        In the order of the coordinates.

    Examples
    --------
    >>> from clustercnn.parameters import ParameterSpace
    >>> space = ParameterSpace.paper()
    >>> space.names
    ('age', 'a_v', 'mass', 'half_light_radius')
    >>> space.sample(2, rng=1).colnames
    ['age', 'a_v', 'mass', 'half_light_radius']
    """

    def __init__(self, parameters):
        self.parameters = tuple(parameters)
        if not self.parameters:
            raise ValueError("parameters must hold at least one Parameter")
        for parameter in self.parameters:
            if not isinstance(parameter, Parameter):
                raise TypeError(f'parameters must hold Parameter objects, such as ParameterSpace.paper()["age"], not {parameter!r}')
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"parameters must have different names, not {self.names}")

    @classmethod
    def paper(cls):
        """
        The space of Bialopetravicius & Narbutis (2020, A&A 633, A148).

        Ages 10^6.575 to 10^10.125 yr (half a grid step beyond the 71 isochrones), A_V 0 to 3 mag, masses 10^3.5 to 10^5.5 Msun,
        half-light radii 0.04 to 0.4 arcsec; 20, 10, 14 and 14 bins as in the paper's Table 1.
        """
        return cls(
            [
                Parameter("age", 10**0.575 * u.Myr, 10**4.125 * u.Myr, "log", 20),
                Parameter("a_v", 0.0 * u.mag, 3.0 * u.mag, "linear", 10),
                Parameter("mass", 10**3.5 * u.Msun, 10**5.5 * u.Msun, "log", 14),
                Parameter("half_light_radius", 0.04 * u.arcsec, 0.4 * u.arcsec, "log", 14),
            ]
        )

    @property
    def names(self):
        """Names in the order of the coordinates."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def bounds(self):
        """Coordinates of the box, array of shape (n_parameters, 2)."""
        return np.array([parameter.bounds for parameter in self.parameters])

    @property
    def bins(self):
        """Number of bins per parameter."""
        return tuple(parameter.bins for parameter in self.parameters)

    def __getitem__(self, name):
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise KeyError(f"no parameter {name!r}; there are {self.names}")

    def __len__(self):
        return len(self.parameters)

    def __eq__(self, other):
        return isinstance(other, ParameterSpace) and self.to_dict() == other.to_dict()

    def __hash__(self):
        return hash(self.names)

    def __repr__(self):
        ranges = ", ".join(f"{p.name} {p.lower:.4g}..{p.upper:.4g} ({p.scale})" for p in self.parameters)
        return f"<ParameterSpace {ranges}>"

    def sample(self, n, rng=None):
        """
        Draw points from the prior.

        Parameters
        ----------
        n : int
            How many.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        table : `~astropy.table.QTable`
            One row per point, one column per parameter, in linear units.
        """
        rng = np.random.default_rng(rng)
        coordinates = self.from_unit(rng.random((n, len(self))))
        return QTable(self.from_coordinates(coordinates))

    def to_coordinates(self, values):
        """
        Coordinates of a table or mapping of Quantities.

        Parameters
        ----------
        values : `~astropy.table.QTable` or mapping
            A Quantity for each parameter, scalar or of one shape.

        Returns
        -------
        coordinates : `~numpy.ndarray`
            Shape (..., n_parameters).
        """
        return np.stack(np.broadcast_arrays(*(p.to_coordinate(values[p.name]) for p in self.parameters)), axis=-1)

    def from_coordinates(self, coordinates):
        """Mapping from name to Quantity for coordinates of shape (..., n_parameters)."""
        coordinates = np.asarray(coordinates, dtype=float)
        return {p.name: p.from_coordinate(coordinates[..., i]) for i, p in enumerate(self.parameters)}

    def to_unit(self, coordinates):
        """Coordinates on the unit interval of the box, shape (..., n_parameters)."""
        lower, upper = self.bounds.T
        return (np.asarray(coordinates) - lower) / (upper - lower)

    def from_unit(self, unit):
        """Coordinates at positions on the unit interval, shape (..., n_parameters)."""
        lower, upper = self.bounds.T
        return lower + np.asarray(unit) * (upper - lower)

    def log_prior(self, coordinates):
        """
        Natural logarithm of the prior density per unit of coordinate (dex or linear unit).

        Parameters
        ----------
        coordinates : array_like
            Shape (..., n_parameters).

        Returns
        -------
        log_density : `~numpy.ndarray`
            Shape (...); ``-inf`` outside the box.
        """
        lower, upper = self.bounds.T
        coordinates = np.asarray(coordinates)
        inside = np.all((coordinates >= lower) & (coordinates <= upper), axis=-1)
        return np.where(inside, -np.log(upper - lower).sum(), -np.inf)

    def contains(self, values):
        """
        Whether points lie in the box, or beyond a bound by no more than single precision rounds: a millionth of the range.

        Parameters
        ----------
        values : `~astropy.table.QTable` or mapping
            A Quantity for each parameter, scalar or of one shape.

        Returns
        -------
        inside : `~numpy.ndarray` of bool
            Of the shape of the values.

        Examples
        --------
        >>> from astropy import units as u
        >>> from clustercnn.parameters import Parameter, ParameterSpace
        >>> ParameterSpace([Parameter("a_v", 0 * u.mag, 3 * u.mag, "linear")]).contains({"a_v": [0, 1, 3.1] * u.mag})
        array([ True,  True, False])
        """
        unit = self.to_unit(self.to_coordinates(values))
        return np.all((unit >= -_ROUNDING) & (unit <= 1 + _ROUNDING), axis=-1)

    def to_dict(self):
        """A JSON-able description."""
        return {"parameters": [parameter.to_dict() for parameter in self.parameters]}

    @classmethod
    def from_dict(cls, description):
        """The space that `to_dict` described."""
        return cls([Parameter.from_dict(parameter) for parameter in description["parameters"]])


def power_law(parameter, slope):
    """
    A prior for `ClusterEstimate.reweight <clustercnn.estimate.ClusterEstimate.reweight>`: a power law of one parameter.

    Parameters
    ----------
    parameter : `Parameter`
        Such as ``space["mass"]``.
    slope : float
        Of the number of clusters per unit of the parameter: -2 is the mass function of young clusters, 0 of ages is a constant rate of
        formation, -1 of ages a tenth of the clusters left after each decade.

    Returns
    -------
    prior : callable
        Of a mapping from name to Quantity; its density relative to the flat prior.

    Raises
    ------
    TypeError
        If ``parameter`` is something else, such as its name.
    ValueError
        If the density is infinite at the lower bound.

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn.parameters import ParameterSpace, power_law
    >>> prior = power_law(ParameterSpace.paper()["mass"], -2)
    >>> float(prior({"mass": 1e5 * u.Msun}) / prior({"mass": 1e4 * u.Msun})).__round__(3)  # per dex
    0.1
    """
    if not isinstance(parameter, Parameter):
        raise TypeError(f'parameter must be a Parameter, such as ParameterSpace.paper()["mass"], not {parameter!r}')
    power = slope + 1 if parameter.scale == "log" else slope
    if power < 0 and parameter.lower.value <= 0:
        raise ValueError(f"{parameter.name} may be 0, where a power law with a slope of {slope} is infinite")
    scale = parameter.upper

    def prior(values):
        return (values[parameter.name] / scale).to_value(u.one) ** power

    return prior
