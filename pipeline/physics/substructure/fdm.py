"""Fuzzy dark matter: cold subhalos thinned below a mass, and granules of interfering waves.

Numbers after Schive et al. (2016); granules as a Gaussian random field (PHYSICS 4.5). The halos
are those of the cold twin of the same seed, so the fuzzy set is a subset of the cold one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from pipeline.core.priors import Uniform
from pipeline.physics import cosmology, fields
from pipeline.physics.components import FieldComponent, Floats, TruthColumn
from pipeline.physics.geometry import Grid
from pipeline.physics.host import Host
from pipeline.physics.quantities import Angle, Log10AxionMassPrior
from pipeline.physics.subhalos import SubhaloConfig, draw_halos, thinned, truncated_halos
from pipeline.physics.substructure import cdm
from pipeline.physics.substructure.base import Population

TRUTH: Mapping[str, TruthColumn] = {
    **cdm.TRUTH,
    "log10_axion_mass": TruthColumn("", "log10 of the axion mass in eV"),
    "axion_mass": TruthColumn("eV", "mass of the axion"),
    "log10_suppression_mass": TruthColumn("", "log10 of the mass in M_sun below which halos lack"),
    "granule_length": TruthColumn("arcsec", "reduced de Broglie length of the granules"),
    "granule_sigma_kappa": TruthColumn("", "rms convergence of the granules at theta_E"),
    "granules_resolved": TruthColumn("", "1 if the granules are in the image, 0 if only a label"),
}

#: Granules smaller than this many pixels change no image (PHYSICS 4.5).
RESOLVED_PIXELS = 0.2
#: Cells per granule length, unless ``max_cells`` forbids.
CELLS_PER_LENGTH = 3.0
_MIN_CELLS = 64
#: Cells kept around the field of view, so that no spline sees an edge.
_MARGIN = 8


class Config(SubhaloConfig):
    """Subhalos and granules of fuzzy dark matter; ``n_min`` counts halos before the thinning."""

    kind: Literal["fdm"] = "fdm"
    log10_axion_mass: Log10AxionMassPrior = Uniform(low=-22.0, high=-20.5)  # of eV
    dark_fraction: float = Field(default=0.5, ge=0, le=1)  # of the convergence at theta_E
    field_of_view: Angle  # side of the image; the periodic noise fills twice that
    pixel_scale: Angle  # of the image
    max_cells: int = Field(default=1024, ge=_MIN_CELLS)  # along the side of the noise

    def check_grid(self, grid: Grid) -> None:
        """Refuse images that the granules do not fill, or of other pixels.

        Raises
        ------
        ValueError
        """
        if self.field_of_view < 2.0 * grid.half_width * (1.0 - 1e-9):
            raise ValueError(
                f"field_of_view {self.field_of_view:g} arcsec is smaller than the image, "
                f"{2.0 * grid.half_width:g} arcsec"
            )
        if abs(self.pixel_scale - grid.pixel_scale) > 1e-9 * grid.pixel_scale:
            raise ValueError(
                f"pixel_scale {self.pixel_scale:g} is not that of the image, "
                f"{grid.pixel_scale:g} arcsec"
            )


@dataclass(frozen=True)
class Granules:
    """Gaussian random convergence of a lens, without its noise.

    Attributes
    ----------
    length : float, arcsec
        Reduced de Broglie length: the correlation is exp(-r^2/length^2).
    sigma : float
        Rms convergence at the Einstein radius.
    theta_E, center_x, center_y : float, arcsec
        Of the lens.
    field_of_view : float, arcsec
    n_cells : int
        Along the side of the periodic noise, which is twice the field of view.
    """

    length: float
    sigma: float
    theta_E: float
    center_x: float
    center_y: float
    field_of_view: float
    n_cells: int

    @property
    def cell(self) -> float:
        """Distance between grid points, arcsec."""
        return 2.0 * self.field_of_view / self.n_cells

    def sigma_kappa(self, radius: Floats) -> Floats:
        """Rms convergence at projected radii (arcsec), by equation (4.9).

        The dark convergence is a fixed share of an isothermal lens outside theta_E and flat
        inside, where stars take over; this choice only weakens the granules near the centre.
        """
        inner = np.maximum(radius, self.length)
        dark = np.minimum(1.0, self.theta_E / inner)
        return np.asarray(self.sigma * dark * np.sqrt(self.theta_E / inner))

    def convergence(self, rng: np.random.Generator) -> Floats:
        """Convergence of one realisation, shape (n_cells, n_cells)."""
        noise = fields.gaussian_noise(rng, self.n_cells, self.cell, self.length)
        points = fields.axis(self.n_cells, self.cell)
        x, y = points[None, :] - self.center_x, points[:, None] - self.center_y
        return noise * self.sigma_kappa(np.hypot(x, y))

    def realise(self, rng: np.random.Generator) -> FieldComponent:
        """Deflection over the field of view; see ``RandomField``."""
        deflection = fields.deflection_of(self.convergence(rng), self.cell)
        cut = slice(self.n_cells // 4 - _MARGIN, -(self.n_cells // 4 - _MARGIN))
        return FieldComponent(self.cell, deflection[:, cut, cut].astype(np.float32))


def draw(config: Config, host: Host, rng: np.random.Generator) -> Population:
    """Draw the cold subhalos, keep those that fuzzy dark matter keeps, and describe the granules.

    Parameters
    ----------
    config : Config
    host : Host
    rng : numpy.random.Generator

    Returns
    -------
    Population
    """
    sigma_sub, cold = draw_halos(config, host, rng)
    prior_rng, thin_rng = rng.spawn(2)
    log10_mass = config.log10_axion_mass.draw(prior_rng)
    m_0 = suppression_mass(10.0**log10_mass)
    keep = thin_rng.random(len(cold.mass)) < subhalo_suppression(cold.mass, m_0)
    length = cosmology.reduced_de_broglie_length(10.0**log10_mass, host.sigma_v)
    angle = length / host.kpc_per_arcsec
    sigma = granule_sigma_kappa(0.5, config.dark_fraction, angle, host.theta_E)
    resolved = angle >= RESOLVED_PIXELS * config.pixel_scale and config.dark_fraction > 0
    granules = Granules(
        length=angle,
        sigma=sigma,
        theta_E=host.theta_E,
        center_x=host.center_x,
        center_y=host.center_y,
        field_of_view=config.field_of_view,
        n_cells=_n_cells(config, angle),
    )
    truth = {
        "sigma_sub": sigma_sub,
        "log10_axion_mass": log10_mass,
        "axion_mass": 10.0**log10_mass,
        "log10_suppression_mass": math.log10(m_0),
        "granule_length": angle,
        "granule_sigma_kappa": sigma,
        "granules_resolved": float(resolved),
    }
    return Population(
        perturbers=(truncated_halos(thinned(cold, keep), host),),
        fields=(granules,) if resolved else (),
        truth=truth,
        disc_radius=config.field_radius * host.theta_E,
    )


def _n_cells(config: Config, length: float) -> int:
    """Cells along the noise: a power of two, few sizes so that engines compile seldom."""
    wanted = CELLS_PER_LENGTH * 2.0 * config.field_of_view / length
    power = 1 << max(math.ceil(math.log2(wanted)), 0)
    return min(max(power, _MIN_CELLS), 1 << (config.max_cells.bit_length() - 1))


def suppression_mass(axion_mass: float) -> float:
    """Mass 1.6e10 (m/1e-22 eV)^(-4/3) M_sun below which halos lack (Schive et al. 2016).

    Parameters
    ----------
    axion_mass : float, eV

    Returns
    -------
    float, M_sun
    """
    return float(1.6e10 * (axion_mass / 1e-22) ** (-4.0 / 3.0))


def subhalo_suppression(mass: Floats, m_0: float) -> Floats:
    """Fraction of subhalos kept, (1 + (m/M_0)^-1.1)^-2.2 (Schive et al. 2016).

    Parameters
    ----------
    mass : Floats, shape (n,), M_sun
    m_0 : float, M_sun

    Returns
    -------
    Floats, shape (n,)
    """
    return np.asarray((1.0 + (mass / m_0) ** -1.1) ** -2.2)


def granule_sigma_kappa(
    convergence: float, dark_fraction: float, length: float, radius: float
) -> float:
    """Rms convergence of granules in an isothermal lens, equation (4.9).

    kappa f sqrt(length / (2 sqrt(pi) radius)).

    Parameters
    ----------
    convergence : float
        Of all matter at ``radius``.
    dark_fraction : float
        Of that convergence.
    length, radius : float, of one unit
        Reduced de Broglie length and projected radius.

    Returns
    -------
    float
    """
    return convergence * dark_fraction * math.sqrt(length / (2.0 * math.sqrt(math.pi) * radius))
