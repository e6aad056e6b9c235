# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Parameters: units are checked, coordinates and Quantities turn into each other, the prior is what it says.
"""

import json

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given
from hypothesis import strategies as st

from clustercnn.parameters import Parameter, ParameterSpace, as_quantity, positive_quantity, power_law

PAPER = ParameterSpace.paper()
UNIT_INTERVAL = st.lists(st.floats(0, 1), min_size=4, max_size=4)


def test_units_are_converted():
    age = as_quantity(0.02 * u.Gyr, u.Myr, "age")
    assert age.unit == u.Myr and age.value == pytest.approx(20)
    assert as_quantity([1, 2] * u.pc, "kpc", "distance").value == pytest.approx([1e-3, 2e-3])


@pytest.mark.parametrize("bare", [20000.0, 5, np.float64(3), [1, 2], np.ones(3), "3 Msun", None])
def test_bare_numbers_are_refused_with_an_example(bare):
    with pytest.raises(TypeError, match=r"mass must be a Quantity such as 1 \* u.Unit\('solMass'\), not"):
        as_quantity(bare, u.Msun, "mass")


@pytest.mark.parametrize("wrong", [3 * u.pc, 3 * u.dimensionless_unscaled, u.Quantity(3), 3 * u.mag])
def test_wrong_units_are_refused(wrong):
    with pytest.raises(u.UnitsError, match="mass must have a unit that converts to 'solMass'"):
        as_quantity(wrong, u.Msun, "mass")


@given(st.floats(1e-3, 1e3), st.sampled_from(["yr", "Myr", "Gyr", "s"]))
def test_a_coordinate_does_not_depend_on_the_unit(value, unit):
    age = PAPER["age"]
    quantity = value * u.Gyr
    assert age.to_coordinate(quantity.to(unit)) == pytest.approx(np.log10(value) + 3, abs=1e-12)


@given(st.floats(-3, 6), st.sampled_from(PAPER.names))
def test_parameter_round_trip(coordinate, name):
    parameter = PAPER[name]
    value = parameter.from_coordinate(coordinate)
    assert value.unit == parameter.unit
    assert parameter.to_coordinate(value) == pytest.approx(coordinate, abs=1e-12)


def test_ends_may_have_different_units():
    age = Parameter("age", 1 * u.Myr, 10 * u.Gyr, bins=8)
    assert age.unit == u.Myr and age.upper.unit == u.Myr
    assert age.bounds == pytest.approx((0, 4))
    np.testing.assert_allclose(age.edges().to_value(u.yr), 10 ** np.arange(6, 10.1, 0.5))


def test_bounds_in_dex_are_those_they_stand_for():
    one, two = Parameter("age", 6 * u.dex(u.yr), 10 * u.dex(u.yr)), Parameter("age", 1e6 * u.yr, 1e10 * u.yr)
    assert one.to_dict() == two.to_dict() and one.bounds == (6.0, 10.0)


def test_names_in_place_of_parameters():
    with pytest.raises(TypeError, match="parameters must hold Parameter objects, .* not 'age'"):
        ParameterSpace(["age"])
    with pytest.raises(TypeError, match="parameter must be a Parameter, .* not 'mass'"):
        power_law("mass", -2)


def test_edges_of_a_linear_parameter():
    a_v = Parameter("a_v", 0 * u.mag, 3 * u.mag, scale="linear", bins=6)
    np.testing.assert_allclose(a_v.edges().to_value(u.mag), [0, 0.5, 1, 1.5, 2, 2.5, 3], atol=1e-15)


@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"scale": "ln"}, ValueError, "scale of age must be 'log' or 'linear', not 'ln'"),
    ({"lower": 3.0}, TypeError, "lower of age must be a Quantity such as 3"),
    ({"upper": 10.0}, TypeError, "upper of age must be a Quantity"),
    ({"upper": 10 * u.pc}, u.UnitsError, "upper of age must have a unit that converts to 'Myr'"),
    ({"lower": 0 * u.Myr}, ValueError, "lower of age must be positive on a log scale"),
    ({"lower": -1 * u.Myr}, ValueError, "lower of age must be positive on a log scale"),
    ({"lower": 10 * u.Gyr}, ValueError, "lower of age must be below upper"),
    ({"lower": 20 * u.Myr, "upper": 20 * u.Myr}, ValueError, "lower of age must be below upper"),
    ({"lower": np.nan * u.Myr}, ValueError, "lower and upper of age must be one finite number each"),
    ({"upper": np.inf * u.Myr}, ValueError, "lower and upper of age must be one finite number each"),
    ({"upper": [1, 2] * u.Gyr}, ValueError, "lower and upper of age must be one finite number each"),
    ({"bins": 0}, ValueError, "bins of age must be at least 1"),
])
def test_broken_parameters(changes, error, message):
    with pytest.raises(error, match=message):
        Parameter(**{"name": "age", "lower": 1 * u.Myr, "upper": 1 * u.Gyr, **changes})


def test_a_parameter_is_a_constant():
    with pytest.raises(AttributeError):
        PAPER["age"].lower = 1 * u.Myr


def test_the_space_of_the_paper():
    assert PAPER.names == ("age", "a_v", "mass", "half_light_radius")
    assert PAPER.bins == (20, 10, 14, 14) and len(PAPER) == 4
    np.testing.assert_allclose(PAPER.bounds, [[0.575, 4.125], [0, 3], [3.5, 5.5], np.log10([0.04, 0.4])], atol=1e-12)
    assert [parameter.unit for parameter in PAPER.parameters] == [u.Myr, u.mag, u.Msun, u.arcsec]
    assert "age 3.758 Myr..1.334e+04 Myr (log)" in repr(PAPER)


@given(UNIT_INTERVAL)
def test_space_round_trips(unit):
    coordinates = PAPER.from_unit(unit)
    assert np.all((coordinates >= PAPER.bounds[:, 0]) & (coordinates <= PAPER.bounds[:, 1] + 1e-12))
    np.testing.assert_allclose(PAPER.to_unit(coordinates), unit, atol=1e-12)
    values = PAPER.from_coordinates(coordinates)
    np.testing.assert_allclose(PAPER.to_coordinates(values), coordinates, atol=1e-12)


def test_shapes_of_coordinates():
    coordinates = PAPER.from_unit(np.random.default_rng(0).random((5, 2, 4)))
    values = PAPER.from_coordinates(coordinates)
    assert list(values) == list(PAPER.names) and values["mass"].shape == (5, 2)
    np.testing.assert_allclose(PAPER.to_coordinates(values), coordinates)
    one = {"half_light_radius": 100 * u.mas, "mass": 1e4 * u.Msun, "a_v": [0.5, 1] * u.mag, "age": 1e8 * u.yr}
    np.testing.assert_allclose(PAPER.to_coordinates(one), [[2, 0.5, 4, -1], [2, 1, 4, -1]])
    with pytest.raises(KeyError, match="a_v"):
        PAPER.to_coordinates({"age": 1 * u.Myr})
    with pytest.raises(TypeError, match="age must be a Quantity"):
        PAPER.to_coordinates({**one, "age": 100.0})


def test_samples_are_flat_in_the_coordinates():
    table = PAPER.sample(4000, rng=3)
    assert isinstance(table, QTable) and table.colnames == list(PAPER.names)
    unit = np.sort(PAPER.to_unit(PAPER.to_coordinates(table)), axis=0)
    assert unit.min() >= -1e-12 and unit.max() <= 1 + 1e-12
    # Kolmogorov and Smirnov: 1.63 / sqrt(n) is passed by 99 % of flat samples
    distance = np.abs(unit - (np.arange(4000)[:, None] + 0.5) / 4000).max(axis=0)
    assert np.all(distance < 1.63 / np.sqrt(4000))
    drawn = PAPER.to_unit(PAPER.to_coordinates(table))
    correlation = np.corrcoef(drawn.T) - np.eye(4)
    assert np.abs(correlation).max() < 4 / np.sqrt(4000)


def test_samples_follow_the_generator():
    def mass(rng):
        return PAPER.sample(3, rng)["mass"].value.tolist()

    assert mass(5) == mass(np.random.SeedSequence(5)) == mass(np.random.default_rng(5)) != mass(6)
    generator = np.random.default_rng(5)
    assert mass(generator) != mass(generator)
    assert mass(None) != mass(None)
    assert len(PAPER.sample(0, 1)) == 0


def test_prior_integrates_to_one():
    inside = PAPER.from_unit(np.full(4, 0.5))
    volume = np.prod(np.diff(PAPER.bounds, axis=1))
    assert np.exp(PAPER.log_prior(inside)) * volume == pytest.approx(1)
    assert PAPER.log_prior(inside) == pytest.approx(-np.log(3.55 * 3 * 2 * 1))


def test_prior_is_zero_outside():
    points = np.tile(PAPER.from_unit(np.full(4, 0.5)), (10, 1))
    for i in range(4):
        points[2 * i, i] = PAPER.bounds[i, 0] - 1e-6
        points[2 * i + 1, i] = PAPER.bounds[i, 1] + 1e-6
    points[8, 2] = np.nan
    density = PAPER.log_prior(points)
    assert density.shape == (10,) and np.all(np.isneginf(density[:9])) and np.isfinite(density[9])
    assert np.all(np.isfinite(PAPER.log_prior(PAPER.bounds.T)))


def test_descriptions_go_through_json():
    other = ParameterSpace([PAPER["age"], Parameter("ellipticity", 0 * u.one, 0.9 * u.one, "linear", 3)])
    for space in (PAPER, other):
        again = ParameterSpace.from_dict(json.loads(json.dumps(space.to_dict())))
        assert again == space and again.bins == space.bins
        np.testing.assert_array_equal(again.bounds, space.bounds)
    assert PAPER != other and PAPER != "paper"
    wider = ParameterSpace([Parameter("age", 1 * u.Myr, 20 * u.Gyr), *PAPER.parameters[1:]])
    assert wider != PAPER


def test_broken_spaces():
    with pytest.raises(ValueError, match="at least one Parameter"):
        ParameterSpace([])
    with pytest.raises(ValueError, match="different names"):
        ParameterSpace([PAPER["age"], PAPER["age"]])
    with pytest.raises(KeyError, match="no parameter 'radius'; there are"):
        PAPER["radius"]


def test_positive_quantity():
    assert positive_quantity(4500 * u.kpc, u.Mpc, "distance") == 4.5 * u.Mpc
    with pytest.raises(TypeError, match="distance must be a Quantity"):
        positive_quantity(4.5, u.Mpc, "distance")
    for wrong in (0, -1, np.nan, np.inf, [1, 2]):
        with pytest.raises(ValueError, match="distance must be one positive number, such as 1 Mpc"):
            positive_quantity(wrong * u.Mpc, u.Mpc, "distance")


def test_columns_of_plain_tables_have_units_too():
    column = Table({"age": [10, 20] * u.Myr})["age"]
    assert list(as_quantity(column, u.yr, "age").value) == [1e7, 2e7]
    masked = Table({"age": MaskedColumn([10, 20], unit="Myr", mask=[False, True])})["age"]
    assert as_quantity(masked, u.Myr, "age").mask.tolist() == [False, True]
    with pytest.raises(TypeError, match="age must be a Quantity"):
        as_quantity(Table({"age": [10, 20]})["age"], u.yr, "age")
