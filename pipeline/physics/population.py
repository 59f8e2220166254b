"""One realisation of substructure, scaled and balanced: what of a scene the class decides."""

import dataclasses
import math

import numpy as np

from pipeline.core.config import StrictModel
from pipeline.core.errors import PhysicsError
from pipeline.core.seeding import Stream, child_rngs, image_rng
from pipeline.physics import compensation
from pipeline.physics.components import FieldComponent, Perturbers, TruthColumn
from pipeline.physics.host import Host
from pipeline.physics.substructure.base import SUBSTRUCTURE, Population

#: A population that would hold more than this share of the mass in the ring is drawn again.
_MAX_SUBSTRUCTURE = 0.5
_MAX_REDRAWS = 1000

#: Columns of the truth that the class decides, whatever its kind.
CLASS_TRUTH = {
    "theta_E_macro": TruthColumn("arcsec", "Einstein radius of the macro lens alone"),
    "n_sub": TruthColumn("", "number of perturbers"),
    "m_sub": TruthColumn("M_sun", "total bound mass of the perturbers"),
    "m_max": TruthColumn("M_sun", "bound mass of the most massive perturber"),
    "m_tot_2d": TruthColumn("M_sun", "projected mass of the perturbers inside theta_E"),
    "f_sub": TruthColumn("", "mean convergence of a field population over 1/2"),
    "log10_axion_mass": TruthColumn("", "log10 of the axion mass in eV"),
    "axion_mass": TruthColumn("eV", "mass of the axion"),
    "n_redrawn": TruthColumn("", "populations refused because they outweigh the macro lens"),
}


def draw_population(
    block: StrictModel, host: Host, seed: int, index: int, *, signal_scale: float, mass_leak: bool
) -> tuple[Population, tuple[FieldComponent, ...], dict[str, float]]:
    """Substructure of image ``index`` after ``signal_scale`` and compensation.

    Parameters
    ----------
    block : StrictModel
        ``Config`` of a kind of substructure.
    host : Host
    seed, index : int
    signal_scale : float
        Factor on every mass.
    mass_leak : bool
        Leave the macro lens as it is (a defect of the legacy presets).

    Returns
    -------
    population : Population
        With the disc that balances its mean mass.
    fields : tuple of FieldComponent
        Its random fields.
    truth : dict of float
        Columns of ``CLASS_TRUTH`` other than those of single kinds.

    Raises
    ------
    PhysicsError
        If 1000 draws in a row are too heavy for the lens.
    """
    kind = str(getattr(block, "kind"))  # noqa: B009  # every Config of a kind has it
    rng = image_rng(seed, index, Stream.SUBSTRUCTURE)
    draw = SUBSTRUCTURE.load(kind).draw
    for n_redrawn in range(_MAX_REDRAWS):
        population: Population = draw(block, host, rng)
        masses = tuple(
            compensation.scaled(p, signal_scale) for p in population.perturbers if len(p)
        )
        components = _realised(population, signal_scale, seed, index)
        inside = compensation.mean_deflection(masses, host, host.theta_E)
        perturbers, theta_macro, net = masses, host.theta_E, inside
        net += compensation.mean_field_deflection(components, host, host.theta_E)
        if not mass_leak:
            if masses and population.disc_radius > 0:
                disc = compensation.negative_disc(masses, population.disc_radius, host)
                perturbers = (*masses, disc)
                net += compensation.mean_deflection((disc,), host, host.theta_E)
            if abs(net) > _MAX_SUBSTRUCTURE * host.theta_E:
                continue
            theta_macro = compensation.macro_einstein_radius(host.theta_E, host.slope, net)
        truth = {
            "theta_E_macro": theta_macro,
            "m_tot_2d": math.pi * host.sigma_crit * host.theta_E * inside,
            "n_redrawn": float(n_redrawn),
            **_mass_truth(masses, population.disc_radius, host),
        }
        return dataclasses.replace(population, perturbers=perturbers), components, truth
    raise PhysicsError(
        f"{kind}: {_MAX_REDRAWS} populations in a row hold more than half of the mass in "
        "the ring; lower their masses or signal_scale"
    )


def _realised(
    population: Population, signal_scale: float, seed: int, index: int
) -> tuple[FieldComponent, ...]:
    """Random fields of a population, each from its own child of the image's stream FIELD."""
    rngs = child_rngs(seed, index, Stream.FIELD, len(population.fields))
    return tuple(
        compensation.scaled_field(field.realise(rng), signal_scale)
        for field, rng in zip(population.fields, rngs, strict=True)
    )


def _mass_truth(
    perturbers: tuple[Perturbers, ...], disc_radius: float, host: Host
) -> dict[str, float]:
    mass = np.concatenate([p.mass for p in perturbers]) if perturbers else np.zeros(0)
    total = float(mass.sum())
    spread = math.nan if perturbers else 0.0
    if disc_radius > 0:
        spread = 2.0 * total / (host.sigma_crit * math.pi * disc_radius**2)
    return {
        "n_sub": float(len(mass)),
        "m_sub": total,
        "m_max": float(mass.max()) if len(mass) else 0.0,
        "f_sub": spread,
    }
