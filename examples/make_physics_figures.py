"""Draw the pictures of docs/physics.md: what each part of the simulation does to one lens.

Every picture shows the same lens (same galaxies, same noise), so only the named part differs::

    python examples/make_physics_figures.py                  # all, into docs/figures
    python examples/make_physics_figures.py --only vortex fdm
    python examples/make_physics_figures.py --instruments    # the table of docs/physics.md
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import AsinhNorm, LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.core.files import atomic_path
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.dataset.generate import record
from pipeline.engines.base import ENGINES, Engine
from pipeline.physics import fields
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import instrument_names, load_instrument
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.scene import Scene, draw_scene, smooth_twin

type Image = NDArray[np.float64]

#: The lens of the pictures: a bright, well-resolved ring of contrast_hst.
SEED, INDEX = 5, 159
#: Where galaxies are shown without lens and telescope.
CLOSE = Grid(80, 0.0125, 2)
#: Points along the side of a map of convergence.
N_MAP = 160
#: Core given to point masses in maps of convergence, arcsec.
POINT_CORE = 0.03
#: Height and width of one panel with its colour bar, inches, and dots per inch.
PANEL, DPI = (2.75, 2.95), 100
INK, MUTED = "#1b1e24", "#626a76"


@dataclass(frozen=True)
class Family:
    """One picture: the substructure block of a class, and what its title says of the truth."""

    title: str
    block: str
    #: Truth columns of the title, with their format.
    shown: tuple[tuple[str, str], ...] = ()


LIGHT = "m_min: 1.0e7, m_max: 3.16e10, sigma_sub: 0.05"
FAMILIES = {
    "smooth": Family("no substructure", "{kind: smooth}"),
    "point_masses": Family(
        "point masses as DeepLenseSim codes them",
        "{kind: point_masses, slope_bug: true, count_bug: true}",
        (("n_sub", "{:.0f} points"), ("m_sub", "{:.1e} M☉")),
    ),
    "cdm": Family(
        "cold dark matter",
        f"{{kind: cdm, {LIGHT}}}",
        (("n_sub", "{:.0f} subhalos"), ("m_max", "heaviest {:.1e} M☉")),
    ),
    "vortex": Family(
        "vortex of an axion condensate",
        "{kind: vortex, mass: 6.0e9, log10_axion_mass: -23.3}",
        (("vortex_half_length", "half length {:.2f}″"), ("m_sub", "{:.1e} M☉")),
    ),
    "wdm": Family(
        "warm dark matter, half-mode mass 10^8.5",
        f"{{kind: wdm, {LIGHT}, log10_half_mode_mass: 8.5}}",
        (("n_sub", "{:.0f} of the cold twin's subhalos"),),
    ),
    "fdm": Family(
        "fuzzy dark matter, log10 m = −22.6",
        f"{{kind: fdm, {LIGHT}, log10_axion_mass: -22.6, field_of_view: 4.0, pixel_scale: 0.05}}",
        (("granule_length", "granules of {:.3f}″"), ("granule_sigma_kappa", "σ_κ = {:.3f}")),
    ),
    "sidm": Family(
        "self-interacting dark matter",
        f"{{kind: sidm, {LIGHT}, collapsed_fraction: 0.5}}",
        (("n_sub", "{:.0f} subhalos"), ("n_collapsed", "{:.0f} collapsed")),
    ),
    "los": Family(
        "subhalos and the line of sight",
        f"{{kind: los, {LIGHT}, delta_los: 1.0}}",
        (("n_sub", "{:.0f} halos"), ("n_los", "{:.0f} along the line of sight")),
    ),
}


def configuration(block: str, *overrides: str, preset: str = "contrast_hst") -> DatasetConfig:
    """Return a preset with one class ``it`` of the given substructure."""
    classes = f"scenes.classes=[{{name: it, substructure: {block}}}]"
    return load_dataset_config(preset, [classes, f"seed={SEED}", *overrides])


def deflection(scene: Scene, x: Image, y: Image) -> Image:
    """Deflection of a scene by this package's own formulas, arcsec, shape (2, H, W)."""
    total = np.zeros((2, *x.shape))
    for mass in scene.macro:
        total += PROFILES[mass.profile].deflection(x, y, **mass.params)
    for group in scene.perturbers:
        name, params = group.profile, dict(group.params)
        if name == "point_mass":  # its convergence cannot be drawn
            name, params["core"] = "plummer", np.full(len(group), POINT_CORE)
        for row in zip(*params.values(), strict=True):
            total += PROFILES[name].deflection(x, y, **dict(zip(params, row, strict=True)))
    for field in scene.fields:
        total += fields.deflection(field, x, y)
    return total


def convergence(scene: Scene, half_width: float) -> Image:
    """Mean convergence of each cell of a map: half the flux of the deflection through its edges."""
    scale = 2.0 * half_width / N_MAP
    x, y = Grid(N_MAP, scale).rays()
    step = 0.499 * scale
    along_x = deflection(scene, x + step, y)[0] - deflection(scene, x - step, y)[0]
    along_y = deflection(scene, x, y + step)[1] - deflection(scene, x, y - step)[1]
    return np.asarray((along_x + along_y) / (4.0 * step))


def panel(axes: Axes, image: Image, half: float, title: str, style: tuple[str, Any, str]) -> None:
    """One map with its colour bar; ``style`` is colours, norm and label of the bar."""
    colours, norm, label = style
    drawn = axes.imshow(
        image,
        origin="lower",
        cmap=colours,
        norm=norm,
        extent=(-half, half, -half, half),
        interpolation="nearest",
    )
    axes.set_title(title, fontsize=8.5, color=INK)
    tick = 1.0 if half > 1.0 else 0.4
    names = [f"−{tick:g}", "0", f"{tick:g}″"]
    axes.set_xticks([-tick, 0.0, tick], names)
    axes.set_yticks([-tick, 0.0, tick], names)
    axes.tick_params(labelsize=7, colors=MUTED, length=2)
    bar = axes.figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03)
    bar.ax.minorticks_off()
    bar.set_ticks(ticks(norm))
    bar.ax.set_yticklabels([f"{t:g}".replace("-", "−") for t in bar.get_ticks()])
    bar.ax.tick_params(labelsize=6.5, colors=MUTED, length=2)
    bar.set_label(label, fontsize=7, color=MUTED)


def ticks(norm: Any) -> list[float]:
    """Round values for a colour bar, few enough to read."""
    steps = [m * 10.0**k for k in range(-5, 3) for m in (1.0, 2.0, 5.0)]
    if isinstance(norm, LogNorm):
        return [t for t in steps if norm.vmin <= t <= norm.vmax]
    largest = max(t for t in steps if t <= norm.vmax)
    if isinstance(norm, AsinhNorm):
        positive = [t for t in (largest, largest / 5, largest / 20) if t >= norm.linear_width / 2]
    else:
        positive = [largest, largest / 2]
    return [*(-t for t in positive if -t >= norm.vmin), 0.0, *reversed(positive)]


def sheet(title: str, n_panels: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of one row of panels under a title."""
    figure = Figure(
        figsize=(n_panels * PANEL[1], PANEL[0]), facecolor="white", layout="constrained"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    return figure, list(np.ravel(figure.subplots(1, n_panels)))


def save(figure: Figure, path: Path) -> None:
    """Write a PNG whole, or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    print(f"{path} {path.stat().st_size / 1e3:.0f} kB")


def observed(config: DatasetConfig, scene: Scene, engine: Engine) -> tuple[Image, Image]:
    """Image with noise and the noiseless one, first band, electron/s."""
    noiseless = engine.render([scene], config.grid, config.instruments)
    return record(config, noiseless, [scene])[0, 0].astype(np.float64), noiseless[0, 0]


def brightness(image: Image) -> tuple[str, Any, str]:
    """Style of an image of the sky."""
    top = float(np.quantile(image, 0.999))
    return "gray", AsinhNorm(linear_width=0.15 * top, vmin=-0.02 * top, vmax=top), "e⁻/s"


def signed(image: Image, label: str, quantile: float, linear: float = 1.0) -> tuple[str, Any, str]:
    """Style of a map around zero, its colours linear up to a share ``linear`` of the limit."""
    limit = float(np.quantile(np.abs(image), quantile)) or 1.0
    norm = Normalize(-limit, limit)
    if linear < 1.0:
        norm = AsinhNorm(linear_width=linear * limit, vmin=-limit, vmax=limit)
    return "RdBu_r", norm, label


def draw_family(name: str, out: Path, engine: Engine) -> None:
    """Image, image minus smooth twin and convergence of one kind of substructure."""
    family = FAMILIES[name]
    config = configuration(family.block)
    scene = draw_scene(config.scenes, config.seed, INDEX)
    half = config.grid.half_width
    noisy, image = observed(config, scene, engine)
    twin = smooth_twin(scene)
    facts = ", ".join(text.format(scene.truth[column]) for column, text in family.shown)
    figure, axes = sheet(f"{family.title}: {facts}" if facts else family.title, 3)
    panel(axes[0], noisy, half, "image", brightness(noisy))
    if name == "smooth":
        bare = engine.render(
            [scene], config.grid, (config.instruments[0].with_changes(psf={"kind": "none"}),)
        )
        panel(axes[1], bare[0, 0], half, "without PSF and noise", brightness(bare[0, 0]))
        kappa = convergence(scene, half)
        style = ("magma", LogNorm(0.2, 5.0), "κ")
        panel(axes[2], kappa, half, "convergence", style)
    else:
        change = image - engine.render([twin], config.grid, config.instruments)[0, 0]
        panel(axes[1], change, half, "image − smooth twin", signed(change, "e⁻/s", 0.9995))
        kappa = convergence(scene, half) - convergence(twin, half)
        panel(axes[2], kappa, half, "convergence − smooth twin", signed(kappa, "Δκ", 0.998, 0.05))
    save(figure, out / f"{name}.png")


def draw_macro(out: Path, engine: Engine) -> None:
    """What multipoles of the macro lens change."""
    plain = configuration("{kind: smooth}")
    bent = configuration("{kind: smooth}", preset="hard_multipole")
    scenes = [draw_scene(config.scenes, SEED, INDEX) for config in (plain, bent)]
    images = engine.render(scenes, plain.grid, plain.instruments)[:, 0]
    half = plain.grid.half_width
    names = " and ".join(f"a{m} = {scenes[1].truth[f'a_{m}']:+.3f}" for m in (3, 4))
    title = f"multipoles of the macro lens: {names}, in units of θ_E".replace("-", "−")
    figure, axes = sheet(title, 3)
    panel(axes[0], images[1], half, "image, no noise", brightness(images[1]))
    change = images[1] - images[0]
    panel(axes[1], change, half, "image − without multipoles", signed(change, "e⁻/s", 0.9995))
    kappa = convergence(scenes[1], half) - convergence(scenes[0], half)
    panel(axes[2], kappa, half, "convergence − without", signed(kappa, "Δκ", 0.998, 0.2))
    save(figure, out / "multipoles.png")


def draw_sources(out: Path, engine: Engine) -> None:
    """The same lens in front of a smooth and of a clumpy galaxy, and what these look like."""
    figure, axes = sheet("sources: Sérsic, and clumpy (hard_clumpy)", 4)
    for k, preset in enumerate(("contrast_hst", "hard_clumpy")):
        config = configuration("{kind: smooth}", preset=preset)
        scene = draw_scene(config.scenes, SEED, INDEX)
        bare = Scene(**{**scene.__dict__, "macro": (), "perturbers": ()})
        eye = config.instruments[0].with_changes(
            pixel_scale=CLOSE.pixel_scale, psf={"kind": "none"}
        )
        unlensed = engine.render([bare], CLOSE, (eye,))[0, 0]
        lensed = engine.render([scene], config.grid, config.instruments)[0, 0]
        half = config.grid.half_width
        name = ("Sérsic", "clumpy")[k]
        style = brightness(unlensed)
        panel(axes[2 * k], unlensed, CLOSE.half_width, f"{name}, not lensed, no PSF", style)
        panel(axes[2 * k + 1], lensed, half, f"{name}, lensed", brightness(lensed))
    save(figure, out / "sources.png")


def draw_instruments(out: Path, engine: Engine) -> None:
    """The same lens with subhalos through several telescopes."""
    names = ("hst_acs_f814w", "euclid_vis", "roman_f106", "jwst_f200w_zodiacal", "lsst_i")
    figure, axes = sheet("one lens through five telescopes, noise included", len(names))
    for name, place in zip(names, axes, strict=True):
        scale = load_instrument(name).pixel_scale
        size = (f"n_pix={2 * int(2.0 / scale)}", "supersample=4", f"instruments=[{name}]")
        config = configuration(f"{{kind: cdm, {LIGHT}}}", *size)
        noisy, _ = observed(config, draw_scene(config.scenes, SEED, INDEX), engine)
        panel(place, noisy, config.grid.half_width, name, brightness(noisy))
    save(figure, out / "instruments.png")


def instrument_table() -> str:
    """Markdown table of every shipped instrument, from the YAML files."""
    lines = [
        "| instrument | band | pixel ″ | PSF | zero point | sky mag/″² | read noise e⁻ "
        "| exposure s | most numbers from |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in instrument_names():
        it = load_instrument(name)
        psf = it.psf.kind
        psf += f" {it.psf.fwhm:g}″" if hasattr(it.psf, "fwhm") else ""
        low, high = it.exposure_time.support()
        time = f"{low:g}" if low == high else f"{low:.4g} to {high:.4g}"
        sky = "–" if it.sky_brightness is None else f"{it.sky_brightness:g}"
        source = Counter(it.references.values()).most_common(1)[0][0]
        lines.append(
            f"| `{name}` | {it.band} | {it.pixel_scale:g} | {psf} | {it.zero_point:g} | {sky} "
            f"| {it.read_noise:g} | {time} × {it.n_exposures} | {source} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    others = {"multipoles": draw_macro, "sources": draw_sources, "telescopes": draw_instruments}
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--only", nargs="*", choices=[*FAMILIES, *others])
    parser.add_argument("--instruments", action="store_true", help="print the table and stop")
    parser.add_argument("--engine", default="lenstronomy", choices=ENGINES.kinds())
    args = parser.parse_args()
    if args.instruments:
        print(instrument_table())
        return
    args.out.mkdir(parents=True, exist_ok=True)
    engine = ENGINES.load(args.engine).build(ENGINES.config({"kind": args.engine}))
    for name in args.only or [*FAMILIES, *others]:
        if name in FAMILIES:
            draw_family(name, args.out, engine)
        else:
            others[name](args.out, engine)


if __name__ == "__main__":
    main()
