"""Deflections on grids: from a convergence by FFT, and between grid points by cubic B-splines.

Grids are centred on the optical axis, point i of n lying at (i - (n-1)/2) cells.
"""

import math

import numpy as np

from pipeline.core.errors import PhysicsError
from pipeline.physics.components import FieldComponent, Floats
from pipeline.physics.profiles.array_api import Array, namespace


def axis(n: int, cell: float) -> Floats:
    """Coordinates of the ``n`` points along one axis, arcsec."""
    return np.asarray((np.arange(n) - (n - 1) / 2.0) * cell, dtype=np.float64)


def gaussian_noise(rng: np.random.Generator, n: int, cell: float, length: float) -> Floats:
    """Periodic Gaussian field of unit variance and correlation exp(-r^2/length^2).

    White noise with the spectral amplitude exp(-k^2 length^2/8), equation (4.10). The power at
    each wave number is right whatever the cell; cells above a third of ``length`` lose variance
    on scales that they cannot hold.

    Parameters
    ----------
    rng : numpy.random.Generator
    n : int
        Points along one side.
    cell, length : float, arcsec

    Returns
    -------
    Floats, shape (n, n)
    """
    k_y = 2.0 * math.pi * np.fft.fftfreq(n, d=cell)[:, None]
    k_x = 2.0 * math.pi * np.fft.rfftfreq(n, d=cell)[None, :]
    amplitude = math.sqrt(math.pi) * length / cell * np.exp(-(k_x**2 + k_y**2) * length**2 / 8.0)
    white = np.fft.rfft2(rng.standard_normal((n, n)))
    return np.asarray(np.fft.irfft2(white * amplitude, s=(n, n)))


def deflection_of(convergence: Floats, cell: float) -> Floats:
    """Deflection of a gridded convergence, alpha_k = -2i k kappa_k/k^2.

    The grid is padded with zeros to twice its side; the mean over that square is taken away, so
    images of the grid a period apart count as little as they can.

    Parameters
    ----------
    convergence : Floats, shape (n, n)
    cell : float, arcsec

    Returns
    -------
    Floats, shape (2, n, n), arcsec
    """
    n = len(convergence)
    k_y = 2.0 * math.pi * np.fft.fftfreq(2 * n, d=cell)[:, None]
    k_x = 2.0 * math.pi * np.fft.rfftfreq(2 * n, d=cell)[None, :]
    k2 = k_x**2 + k_y**2
    k2[0, 0] = 1.0
    potential = -2j * np.fft.rfft2(convergence, s=(2 * n, 2 * n)) / k2
    potential[0, 0] = 0.0
    return np.stack(
        [np.fft.irfft2(k * potential, s=(2 * n, 2 * n))[:n, :n] for k in (k_x, k_y)],
    )


def spline_coefficients(field: FieldComponent) -> Floats:
    """Cubic B-spline coefficients whose spline passes through the field's deflections.

    Returns
    -------
    Floats, shape (2, n, n), arcsec
    """
    from scipy.ndimage import spline_filter  # type: ignore[import-untyped]  # heavy

    return np.stack([spline_filter(part.astype(np.float64)) for part in field.deflection])


def spline(coefficients: Array, cell: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Deflection between the grid points.

    Parameters
    ----------
    coefficients : Array, shape (2, n, n), arcsec
        Of :func:`spline_coefficients`.
    cell : Array, scalar, arcsec
    x, y : Array, arcsec, of one shape
        At least one cell inside the outermost points.

    Returns
    -------
    alpha_x, alpha_y : Array, arcsec
    """
    xp = namespace(x)
    middle = (coefficients.shape[-1] - 1) / 2.0
    u, v = x / cell + middle, y / cell + middle
    column, row = xp.floor(u), xp.floor(v)
    along_x, along_y = spline_weights(u - column), spline_weights(v - row)
    column, row = column.astype(np.int32) - 1, row.astype(np.int32) - 1
    alpha_x = alpha_y = 0.0
    for j in range(4):
        for i in range(4):
            weight = along_y[j] * along_x[i]
            alpha_x = alpha_x + weight * coefficients[0, row + j, column + i]
            alpha_y = alpha_y + weight * coefficients[1, row + j, column + i]
    return alpha_x, alpha_y


def spline_weights(t: Array) -> tuple[Array, Array, Array, Array]:
    """Cubic B-spline weights of the four points around a place ``t`` of a cell, in [0, 1)."""
    s = 1.0 - t
    return (
        s * s * s / 6.0,
        (4.0 - 3.0 * t * t * (2.0 - t)) / 6.0,
        (4.0 - 3.0 * s * s * (2.0 - s)) / 6.0,
        t * t * t / 6.0,
    )


def deflection(field: FieldComponent, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Deflection of one field, arcsec.

    Parameters
    ----------
    field : FieldComponent
    x, y : Floats, arcsec, of one shape

    Returns
    -------
    alpha_x, alpha_y : Floats, arcsec

    Raises
    ------
    PhysicsError
        If a position lies outside the grid.
    """
    check_reach(field, max(float(np.max(np.abs(x))), float(np.max(np.abs(y)))))
    return spline(spline_coefficients(field), field.cell, x, y)


def check_reach(field: FieldComponent, reach: float) -> None:
    """Refuse positions as far as ``reach`` (arcsec, along an axis) that ``field`` does not hold.

    Raises
    ------
    PhysicsError
    """
    if not reach <= field.half_width - field.cell:
        raise PhysicsError(
            f"a random field is known up to {field.half_width:.3g} arcsec from the optical axis "
            f"and asked for at {reach:.3g}: raise its field_of_view"
        )
