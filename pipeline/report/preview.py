"""A contact sheet of a preset in seconds, without a dataset: every class, and what it changes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.config import hint
from pipeline.core.errors import ConfigError
from pipeline.core.files import atomic_path, require_writable_parent
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.dataset.generate import record
from pipeline.detectability.measure import Survey, change_in_sigma
from pipeline.engines.base import ENGINES
from pipeline.physics.scene import draw_scene, smooth_twin
from pipeline.report.pictures import stretch_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Most lenses on one sheet.
MAX_LENSES = 24
#: Height and width of one picture, and room for titles, names and colour bars, inches.
_CELL, _TOP, _LEFT, _RIGHT = 1.45, 0.75, 1.0, 0.9
_INK, _MUTED = "#1b1e24", "#626a76"
_STRETCH = 6.0
#: A change this strong has the full colour: one bright lens must not hide all others.
_MAX_SIGMA = 5.0
#: Angles that may be marked under a picture, arcsec.
_TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_MIN_WIDTH = 7.4  # inches; the title fits


@dataclass(frozen=True)
class Preview:
    """What was drawn."""

    out: str
    preset: str
    class_names: tuple[str, ...]
    lenses: int
    engine: str
    #: Largest change of a pixel by substructure, by class, electron/s.
    largest_change: dict[str, float]

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"{self.out}: {self.lenses} lenses, each as {', '.join(self.class_names)}"


@dataclass(frozen=True)
class Twins:
    """The same lenses in every class, first band, electron/s.

    ``observed`` (K, n, H, W) with noise; ``change`` (K, n, H, W) noiseless image minus its smooth
    twin; ``in_sigma`` (K, n, H, W) the same over the noise of the twin, None without noise.
    """

    observed: NDArray[np.float64]
    change: NDArray[np.float64]
    in_sigma: NDArray[np.float64] | None


def write_preview(
    preset: str | Path,
    out: Path | None = None,
    *,
    n_lenses: int = 6,
    engine: str = "lenstronomy",
    overrides: tuple[str, ...] = (),
) -> Preview:
    """Draw a preset's contact sheet.

    Parameters
    ----------
    preset : str or Path
        Preset name or YAML file.
    out : Path, optional
        PNG; ``NAME-preview.png`` in the current folder by default.
    n_lenses : int
        Lenses 0, 1, 2, ... of the preset, each drawn once in every class.
    engine : str
        What renders; lenstronomy compiles nothing, so it is the fastest for a few images.
    overrides : tuple of str
        ``"key.key=value"``.

    Raises
    ------
    ConfigError
    EngineError
    OutputError
        If the picture cannot be written.
    """
    if not 1 <= n_lenses <= MAX_LENSES:
        raise ConfigError(f"--n must be from 1 to {MAX_LENSES}, found {n_lenses}")
    config = load_dataset_config(preset, (*overrides, f"engine={engine}"))
    name = Path(preset).stem
    path = out if out is not None else Path(f"{name}-preview.png")
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path}: a preview is a .png{hint(path.suffix, ('.png',))}")
    require_writable_parent(path)
    twins = draw_twins(config, n_lenses)
    figure = draw_sheet(name, config, twins)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    largest = {
        c: float(np.abs(x).max()) for c, x in zip(config.class_names, twins.change, strict=True)
    }
    return Preview(
        str(path), str(preset), config.class_names, n_lenses, config.engine.kind, largest
    )


def draw_twins(config: DatasetConfig, n_lenses: int) -> Twins:
    """Simulate the first lenses once in every class: same galaxies, same noise.

    Parameters
    ----------
    config : DatasetConfig
    n_lenses : int

    Returns
    -------
    Twins
    """
    engine = ENGINES.load(config.engine.kind).build(config.engine)
    scenes = [
        draw_scene(config.scenes, config.seed, i, class_name=name)
        for name in config.class_names
        for i in range(n_lenses)
    ]
    noiseless = engine.render(scenes, config.grid, config.instruments)
    twins = [smooth_twin(s) for s in scenes]
    smooth = engine.render(twins, config.grid, config.instruments)
    shape = (len(config.class_names), n_lenses, config.n_pix, config.n_pix)
    observed = record(config, noiseless, scenes)[:, 0].astype(np.float64)
    in_sigma = None
    if not Survey(config.scenes, config.seed, config.grid, config.instruments).unmeasurable:
        changed = change_in_sigma(noiseless, smooth, twins, config.grid, config.instruments)
        in_sigma = changed[:, 0].reshape(shape)
    return Twins(observed.reshape(shape), (noiseless - smooth)[:, 0].reshape(shape), in_sigma)


def draw_sheet(name: str, config: DatasetConfig, twins: Twins) -> "Figure":
    """Lay pictures out: a row a class, then a row for each class that changes something.

    Parameters
    ----------
    name : str
        Of the preset.
    config : DatasetConfig
    twins : Twins

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import FuncNorm, Normalize
    from matplotlib.figure import Figure

    n_lenses = twins.observed.shape[1]
    changing = [k for k, change in enumerate(twins.change) if np.abs(change).max() > 0]
    n_rows = len(twins.observed) + len(changing)
    width = max(_LEFT + n_lenses * _CELL + _RIGHT, _MIN_WIDTH)
    height = _TOP + n_rows * _CELL + 0.45
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        n_rows, n_lenses, left=_LEFT / width, right=(_LEFT + n_lenses * _CELL) / width,
        top=1 - _TOP / height, bottom=0.45 / height, wspace=0.04, hspace=0.04,
    )  # fmt: skip
    black, white = stretch_limits(twins.observed.reshape(-1, *twins.observed.shape[2:]))
    grey = FuncNorm((_stretch(black, white), _unstretch(black, white)), vmin=black, vmax=white)
    # DeepLenseSim's Model I returns counts, not a rate.
    unit = "counts" if config.instruments[0].defects.double_poisson else "e⁻/s"
    for k, images in enumerate(twins.observed):
        axes = [figure.add_subplot(grid[k, j]) for j in range(n_lenses)]
        _row(figure, axes, images, config, (config.class_names[k], "gray", grey, unit))
    for row, k in enumerate(changing, start=len(twins.observed)):
        drawn, per = (
            (twins.change[k], "e⁻/s") if twins.in_sigma is None else (twins.in_sigma[k], "σ")
        )
        limit = float(np.quantile(np.abs(drawn), 0.999))
        limit = limit if twins.in_sigma is None else min(limit, _MAX_SIGMA)
        axes = [figure.add_subplot(grid[row, j]) for j in range(n_lenses)]
        label = f"{config.class_names[k]}\n− smooth"
        _row(
            figure,
            axes,
            drawn,
            config,
            (label, "RdBu_r", Normalize(-limit, limit), per),
        )
    _title(figure, name, config, height)
    return figure


def _row(
    figure: "Figure",
    axes: list["Axes"],
    images: NDArray[np.float64],
    config: DatasetConfig,
    style: tuple[str, str, Any, str],  # Any: a matplotlib norm
) -> None:
    """One row of pictures with its name on the left and its colour bar on the right."""
    label, colours, norm, unit = style
    half = config.n_pix * config.pixel_scale / 2
    for j, (axis, image) in enumerate(zip(axes, images, strict=True)):
        drawn = axis.imshow(
            image, origin="lower", cmap=colours, norm=norm, extent=(-half, half, -half, half),
            interpolation="nearest",
        )  # fmt: skip
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)
        if axis.get_subplotspec().is_first_row():  # type: ignore[union-attr]
            axis.set_title(f"lens {j}", fontsize=8.5, color=_MUTED, pad=4)
        if axis.get_subplotspec().is_last_row():  # type: ignore[union-attr]
            tick = max((t for t in _TICKS if t <= 0.75 * half), default=_TICKS[0])
            axis.set_xticks([-tick, 0, tick], [f"−{tick:g}", "0", f"{tick:g}″"], fontsize=7)
            axis.tick_params(colors=_MUTED, length=2)
    axes[0].set_ylabel(label, fontsize=9.5, color=_INK, rotation=0, ha="right", va="center")
    box = axes[-1].get_position()
    width = 0.1 / figure.get_figwidth()
    bar_axes = figure.add_axes(
        (box.x1 + width, box.y0 + 0.06 * box.height, width, 0.88 * box.height)
    )
    bar = figure.colorbar(drawn, cax=bar_axes)
    bar.locator = _locator(norm)
    bar.update_ticks()
    bar.ax.tick_params(labelsize=6.5, colors=_MUTED, length=2)
    bar.set_label(unit, fontsize=7, color=_MUTED, labelpad=1)
    bar.outline.set_visible(False)


def _locator(norm: Any) -> Any:  # Any: matplotlib norms and locators
    from matplotlib.ticker import FixedLocator, MaxNLocator

    if norm.vmin < 0 and norm.vmin == -norm.vmax:
        return MaxNLocator(4, symmetric=True)
    top = 10.0 ** np.floor(np.log10(norm.vmax))
    kept: list[float] = []
    for tick in (0.0, 3 * top, top, 0.3 * top, 0.1 * top):
        apart = all(abs(float(norm(tick)) - float(norm(other))) > 0.08 for other in kept)
        if norm.vmin <= tick <= norm.vmax and apart:
            kept.append(tick)
    return FixedLocator(sorted(kept))


def _title(figure: "Figure", name: str, config: DatasetConfig, height: float) -> None:
    left = 0.12 / figure.get_figwidth()
    figure.text(left, 1 - 0.28 / height, name, fontsize=13, weight="bold", color=_INK)
    what = (
        f"{config.n_pix} × {config.n_pix} pixels of {config.pixel_scale:g}″, {_band(config)}, "
        f"seed {config.seed}, engine {config.engine.kind}. Down a column only the class changes."
    )
    figure.text(left, 1 - 0.47 / height, what, fontsize=8, color=_MUTED)


def _stretch(black: float, white: float) -> Any:  # Any: a function of arrays
    def forward(value: Any) -> Any:
        x = (np.asarray(value, float) - black) / (white - black)
        return np.arcsinh(_STRETCH * x) / np.arcsinh(_STRETCH)

    return forward


def _unstretch(black: float, white: float) -> Any:  # Any: a function of arrays
    def inverse(value: Any) -> Any:
        x = np.sinh(np.asarray(value, float) * np.arcsinh(_STRETCH)) / _STRETCH
        return black + (white - black) * x

    return inverse


def _band(config: DatasetConfig) -> str:
    n_bands = len(config.bands)
    return config.bands[0] + (f" (first of {n_bands} bands)" if n_bands > 1 else "")
