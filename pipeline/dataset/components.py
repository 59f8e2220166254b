"""Every mass and light of every scene as rows of numbers: the ragged lists of a dataset.

Each component is one row: three codes (role, part, profile) and its numbers (redshift, mass, up to
eight parameters of its profile, a magnitude for each band). A perturber list of n masses is n rows
of one part. What is no sum of profiles is not in them: random fields and stamps of galaxies, which
are drawn again from the configuration.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.layout import COUNT, OFFSET, ArraySpec
from pipeline.physics.components import LightComponent, MassComponent, Perturbers
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.scene import Scene

CODE: Final = "components/code"
VALUE: Final = "components/value"
#: Field of :class:`Scene` each row belongs to; the position is the code stored on disk.
ROLES = ("macro", "perturbers", "source", "lens_light", "subtracted_light")
_LIGHT = {
    "sersic": {"r_eff": "arcsec", "n": "", "e1": "", "e2": ""},
    "image": {"scale": "arcsec", "phi": "rad"},
}
_CENTER = {"center_x": "arcsec", "center_y": "arcsec"}
#: Profile -> its parameters with units, in the order of the columns p0, p1, ...
PARAMETERS: Mapping[str, Mapping[str, str]] = {
    **{name: {p.name: p.unit for p in profile.parameters} for name, profile in PROFILES.items()},
    **{name: {**units, **_CENTER} for name, units in _LIGHT.items()},
}
#: The position is the code stored on disk, with the names among the attributes.
_PROFILES = tuple(PARAMETERS)
_N_PARAMETERS = max(map(len, PARAMETERS.values()))
_Z, _MASS, _FIRST = 0, 1, 2


def component_arrays(bands: Sequence[str]) -> tuple[ArraySpec, ...]:
    """Arrays of the components: where each image's rows are, and the rows."""
    parameters = [f"p{k}" for k in range(_N_PARAMETERS)]
    columns = ["z", "mass", *parameters, *(f"magnitude_{band}" for band in bands)]
    units = ["", "M_sun", *[""] * _N_PARAMETERS, *["mag"] * len(bands)]
    code = {
        "columns": ["role", "part", "profile"],
        "roles": list(ROLES),
        "profiles": list(_PROFILES),
        "description": "what each row is: its role, the number of its list there, its profile",
    }
    value = {
        "columns": columns,
        "units": units,
        "parameters": {name: [[p, u] for p, u in PARAMETERS[name].items()] for name in _PROFILES},
        "description": "numbers of each row; p0, p1, ... are the profile's parameters in order; "
        "NaN where there is no such value",
    }
    where = {"description": "first row of the image in components/code and components/value"}
    n_rows = {"description": "number of rows of the image there"}
    return (
        ArraySpec(OFFSET, (), "<i8", -1, where),
        ArraySpec(COUNT, (), "<i4", -1, n_rows),
        ArraySpec(CODE, (3,), "<i2", -1, code, ragged=True),
        ArraySpec(VALUE, (len(columns),), "<f8", np.nan, value, ragged=True),
    )


def encode(scenes: Sequence[Scene], n_bands: int) -> dict[str, NDArray[Any]]:
    """Rows of all scenes in order, and how many each has.

    Parameters
    ----------
    scenes : sequence of Scene
    n_bands : int

    Returns
    -------
    dict
        Of the arrays ``components/count``, ``components/code`` and ``components/value``.
    """
    codes: list[NDArray[np.int16]] = []
    values: list[NDArray[np.float64]] = []
    count = np.zeros(len(scenes), np.int32)
    for i, scene in enumerate(scenes):
        for role, name in enumerate(ROLES):
            for part, component in enumerate(getattr(scene, name)):
                rows = _rows(component, n_bands)
                code = np.empty((len(rows), 3), np.int16)
                code[:] = role, part, _PROFILES.index(component.profile)
                codes.append(code)
                values.append(rows)
                count[i] += len(rows)
    n_columns = _FIRST + _N_PARAMETERS + n_bands
    return {
        COUNT: count,
        CODE: np.concatenate([np.empty((0, 3), np.int16), *codes]),
        VALUE: np.concatenate([np.empty((0, n_columns)), *values]),
    }


def decode(
    code: NDArray[np.int16], value: NDArray[np.float64]
) -> dict[str, tuple[Any, ...]]:  # Any: components of the role
    """Components of one scene, by field of :class:`Scene`; the inverse of :func:`encode`.

    Parameters
    ----------
    code : NDArray, shape (n, 3)
    value : NDArray, shape (n, K)
    """
    found: dict[str, tuple[Any, ...]] = {}
    for role, name in enumerate(ROLES):
        parts = []
        for part in range(int(code[code[:, 0] == role, 1].max(initial=-1)) + 1):
            rows = (code[:, 0] == role) & (code[:, 1] == part)
            parts.append(_component(name, _PROFILES[code[rows, 2][0]], value[rows]))
        found[name] = tuple(parts)
    return found


def _rows(
    component: MassComponent | Perturbers | LightComponent, n_bands: int
) -> NDArray[np.float64]:
    n = len(component) if isinstance(component, Perturbers) else 1
    rows = np.full((n, _FIRST + _N_PARAMETERS + n_bands), np.nan)
    for k, name in enumerate(PARAMETERS[component.profile], start=_FIRST):
        rows[:, k] = component.params[name]
    if isinstance(component, LightComponent):
        magnitude = np.atleast_1d(component.magnitude)
        rows[0, _FIRST + _N_PARAMETERS :][: len(magnitude)] = magnitude
        return rows
    rows[:, _Z] = component.z
    if isinstance(component, Perturbers):
        rows[:, _MASS] = component.mass
    return rows


def _component(
    role: str, profile: str, rows: NDArray[np.float64]
) -> MassComponent | Perturbers | LightComponent:
    names = PARAMETERS[profile]
    columns = {name: rows[:, k] for k, name in enumerate(names, start=_FIRST)}
    if role == "perturbers":
        return Perturbers(profile, rows[:, _Z], columns, rows[:, _MASS])
    params = {name: float(column[0]) for name, column in columns.items()}
    if role == "macro":
        return MassComponent(profile, float(rows[0, _Z]), params)
    magnitude = rows[0, _FIRST + _N_PARAMETERS :]
    return LightComponent(profile, params, magnitude[np.isfinite(magnitude)])
