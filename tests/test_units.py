"""Units of attenuation are linear maps of value and std."""

import pytest

from pdip.errors import InputError
from pdip.units import Unit


def test_water_is_zero_and_air_minus_thousand_hounsfield():
    unit = Unit.of("HU", water=0.0193)
    assert unit(0.0193, 0.000193) == pytest.approx((0.0, 10.0))
    assert unit(0.0, 0.0) == pytest.approx((-1000.0, 0.0))
    assert Unit.of("1/cm")(0.02, 0.003) == pytest.approx((0.2, 0.03))
    assert Unit.of("1/mm")(0.02, 0.003) == (0.02, 0.003)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("1/m",), "one of 1/mm, 1/cm, HU, got '1/m'"),
        (("HU",), "--water 0.0206"),
        (("HU", 20.6), "between 0 and 1 1/mm, got 20.6"),
        (("1/cm", 0.02), "for HU, but the unit is 1/cm"),
    ],
)
def test_units_that_make_no_sense_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        Unit.of(*arguments)


def test_a_water_in_1_cm_is_asked_about():
    assert "give --water 0.0206" in Unit.of("HU", water=0.206).doubt
    assert Unit.of("HU", water=0.0206).doubt == Unit.of("1/cm").doubt == ""
