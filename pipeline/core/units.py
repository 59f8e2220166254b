"""Quantities in YAML: a plain number in the canonical unit, or a string such as ``"50 mas"``.

The canonical units are those of the whole package: arcsec, rad, M_sun, kpc, eV, s, mag, electrons.
"""

import math
import re

from pipeline.core.errors import UnitError

#: For each canonical unit, the units that convert to it and their size in it.
TABLE: dict[str, dict[str, float]] = {
    "arcsec": {
        "arcsec": 1.0,
        "mas": 1e-3,
        "arcmin": 60.0,
        "deg": 3600.0,
        "rad": math.degrees(1.0) * 3600.0,
    },
    "rad": {"rad": 1.0, "deg": math.radians(1.0)},
    "M_sun": {"M_sun": 1.0, "Msun": 1.0, "solMass": 1.0},
    "kpc": {"kpc": 1.0, "pc": 1e-3, "Mpc": 1e3},
    "kpc^-2": {"kpc^-2": 1.0},
    "eV": {"eV": 1.0},
    "km/s": {"km/s": 1.0},
    "s": {"s": 1.0, "min": 60.0, "h": 3600.0},
    "mag": {"mag": 1.0},
    "mag/arcsec^2": {"mag/arcsec^2": 1.0},
    "electron": {"electron": 1.0, "e-": 1.0},
    "electron/ADU": {"electron/ADU": 1.0, "e-/ADU": 1.0},
    "electron/s": {"electron/s": 1.0, "e-/s": 1.0},
}

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*?)?\s*")


def parse_quantity(value: object, unit: str) -> object:
    """Convert a string with a unit to a float in ``unit``; pass anything else through untouched.

    Raises
    ------
    UnitError
        If the text is no number, or its unit is none of those that convert to ``unit``.
    """
    if not isinstance(value, str):
        return value
    match = _QUANTITY.fullmatch(value)
    known = TABLE[unit]
    if match is None:
        raise UnitError(f"{value!r} is not a number with a unit; expected e.g. '1.0 {unit}'")
    number, name = float(match[1]), match[2] or unit
    if name not in known:
        raise UnitError(f"unit {name!r} does not convert to {unit}; known: {', '.join(known)}")
    return number * known[name]
