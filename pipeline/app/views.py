"""What the page shows, as HTML: pictures with their scales, probabilities, posteriors, warnings.

Every text that comes from a file is escaped. Colours are those of the page's theme, light or dark.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.app.answer import Answer
from pipeline.dataset.live import LiveImage
from pipeline.inference.columns import QUANTILES
from pipeline.inference.score import NOTE
from pipeline.report.pictures import (
    difference_picture,
    grey_picture,
    heat_picture,
    stretch_limits,
)
from pipeline.report.scores_section import FLAGS
from pipeline.statistics.regression import CENTRAL, PROBABILITIES, readings

if TYPE_CHECKING:
    from pipeline.detectability.dprime import DPrime
    from pipeline.tasks.base import TargetTransform

#: Changes that may have the full colour, sigma: few, so that colours hold while a slider moves.
FULL_SIGMA = (3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
#: Lengths a scale bar may have, arcsec.
_BARS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SHIFT = "The image differs from the training images in ways that were not measured."


def hint(text: str) -> str:
    """Grey text where nothing is shown yet."""
    return f'<div class="dl-hint">{escape(text)}</div>'


def problem(title: str, text: str) -> str:
    """What went wrong, and how."""
    return (
        f'<div class="dl-note dl-bad" role="alert"><b>{escape(title)}</b><br>{escape(text)}</div>'
    )


def answer_pictures(answer: Answer, pixel_scale: float) -> str:
    """What the network saw, and what it looked at."""
    if answer.seen is None:
        return ""
    field = answer.seen.shape[-1] * pixel_scale
    black, white = stretch_limits(answer.seen[None].astype(np.float64))
    cards = [
        _card("As the network sees it", grey_picture(answer.seen, black, white), field,
              "cut, resampled and normalised"),
    ]  # fmt: skip
    if answer.saliency is not None:
        cards.append(_saliency(answer, field))
    return f'<div class="dl-pictures">{"".join(cards)}</div>'


def live_pictures(live: LiveImage) -> str:
    """The image that the telescope records, and what substructure changes in it."""
    field = live.config.n_pix * live.config.pixel_scale
    first = live.config.instruments[0]
    image = live.image[0]
    band = f" (first of {len(live.image)} bands)" if len(live.image) > 1 else ""
    black, white = stretch_limits(image[None].astype(np.float64))
    cards = [
        _card("The telescope's image", grey_picture(image, black, white), field,
              f"{first.name}{band}, asinh stretch", ("gray", "sky", f"{white:.3g} e⁻/s")),
    ]  # fmt: skip
    if live.in_sigma is None:
        change = (live.noiseless - live.smooth)[0]
        limit = max(float(np.abs(change).max()), 1e-30)
        bar = ("rdbu", f"−{limit:.2g}", f"+{limit:.2g} e⁻/s")
    else:
        change = live.in_sigma[0]
        typical = float(np.quantile(np.abs(change), 0.99))
        limit = next((step for step in FULL_SIGMA if step >= typical), FULL_SIGMA[-1])
        bar = ("rdbu", f"−{limit:g} σ", f"+{limit:g} σ")
    largest = float(np.abs(change).max())
    caption = (
        "no substructure, no difference" if largest == 0.0
        else f"noise-free, largest {largest:.2g}{'' if live.in_sigma is None else ' σ'}"
    )  # fmt: skip
    cards.append(
        _card("Minus its smooth twin", difference_picture(change, limit), field, caption, bar)
    )
    return f'<div class="dl-pictures">{"".join(cards)}</div>'


def live_detectability(live: LiveImage, found: "DPrime | None") -> str:
    """d′ in numbers; ``found`` is None while it is being computed."""
    if live.d_raw is None:
        return hint("This telescope has no noise, so no d′ is defined.")
    if live.d_raw == 0.0:
        return hint("Without substructure there is nothing to detect: d′ = 0.")
    rest = "…" if found is None else f"{found.prior[0, 0]:.1f}"
    tiles = (
        ("d′", rest, "lens and source unknown, as their priors say"),
        ("d′ at most", f"{live.d_raw:.1f}", "if lens and source were known exactly"),
    )
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd><dd class='dl-small'>{what}</dd></div>"
        for name, value, what in tiles
    )
    return f'<dl class="dl-tiles">{cells}</dl>'


def answer_text(
    answer: Answer, class_names: Sequence[str], targets: "Sequence[TargetTransform]"
) -> str:
    """Everything the network says of an image, or why it says nothing."""
    note = f'<div class="dl-small">{escape(answer.note)}</div>' if answer.note else ""
    row = answer.row
    if "reason" in row:
        words = str(row["reason"]).replace("_", " ")
        return problem(f"No score: {words}", str(row["detail"])) + note
    parts = [_trust(row)]
    if class_names:
        parts.append(_probabilities(row, class_names))
    parts += [_posterior(row, target) for target in targets]
    parts.append(_novelty(row))
    parts.append(_flags(row))
    return f'<div class="dl-answer">{"".join(parts)}{note}<p class="dl-small">{NOTE}</p></div>'


def _trust(row: Mapping[str, Any]) -> str:  # Any: text, number, bool by column
    if row["trusted"]:
        return (
            '<div class="dl-note dl-good"><b>No warning.</b> Nothing speaks against this score.'
            "</div>"
        )
    return (
        '<div class="dl-note dl-warn"><b>Do not believe this score.</b> '
        f"{_SHIFT} The reasons are below.</div>"
    )


def _probabilities(row: Mapping[str, Any], class_names: Sequence[str]) -> str:
    bars = "".join(
        f'<tr{_best(row, name)}><th scope="row">{escape(name)}</th>'
        f'<td class="dl-track"><span class="dl-fill dl-c{k % 6}" '
        f'style="width:{100 * float(row[f"p_{name}"]):.2f}%"></span></td>'
        f"<td class='dl-number'>{100 * float(row[f'p_{name}']):.1f} %</td></tr>"
        for k, name in enumerate(class_names)
    )
    return f'<h4>Calibrated probability</h4><table class="dl-bars">{bars}</table>'


def _best(row: Mapping[str, Any], name: str) -> str:
    return ' class="dl-best"' if row.get("label") == name else ""


def _posterior(row: Mapping[str, Any], target: "TargetTransform") -> str:
    """Intervals of one measured quantity on the range of its training values."""
    is_log = target.function == "log10"
    shown = f"log10_{target.name}" if is_log else target.name
    quantiles = np.array([[float(row[f"{shown}_{name}"]) for name in QUANTILES]])
    (reading,) = readings(quantiles, target.prior)
    at = dict(zip(PROBABILITIES, quantiles[0], strict=True))
    name = target.name.replace("_", " ")
    what = f"log₁₀({name} / {target.unit})" if is_log else f"{name} ({target.unit})"
    sentence = {
        "measured": f"{at[0.5]:.2f} (68 %: {at[0.16]:.2f} to {at[0.84]:.2f})",
        "lower_limit": f"above {at[0.05]:.2f} (95 %)",
        "upper_limit": f"below {at[0.95]:.2f} (95 %)",
        "unconstrained": "this image does not constrain it",
    }[reading]
    low, high = target.prior[0], target.prior[-1]

    def share(value: float) -> float:
        return 100.0 * min(max((value - low) / (high - low), 0.0), 1.0)

    spans = ""
    for percent in (95, 68):
        first, last = (share(quantiles[0, i]) for i in CENTRAL[percent])
        spans += (
            f'<span class="dl-span dl-span{percent}" '
            f'style="left:{first:.1f}%;width:{max(last - first, 0.5):.1f}%"></span>'
        )
    spans += f'<span class="dl-median" style="left:{share(at[0.5]):.1f}%"></span>'
    return (
        f'<h4>{escape(what)}</h4><div class="dl-reading">{escape(sentence)}</div>'
        f'<div class="dl-axis">{spans}</div><div class="dl-ends"><span>{low:.2f}</span>'
        f"<span>68 and 95 % on the range of the training values</span><span>{high:.2f}</span></div>"
    )


def _novelty(row: Mapping[str, Any]) -> str:
    value = float(row["novelty"])
    return (
        f'<h4>Novelty</h4><table class="dl-bars"><tr><th scope="row">{value:.2f}</th>'
        f'<td class="dl-track"><span class="dl-fill dl-grey" style="width:{100 * value:.1f}%">'
        "</span></td><td class='dl-number'></td></tr></table>"
        '<div class="dl-small">Share of validation images that are less unusual; '
        "from 0.99 on the image is foreign to the network.</div>"
    )


def _flags(row: Mapping[str, Any]) -> str:
    flags = [flag for flag in str(row.get("flags") or "").split(",") if flag]
    if not flags:
        return ""
    items = "".join(
        f"<li><code>{escape(flag)}</code> {escape(FLAGS.get(flag, ''))}</li>" for flag in flags
    )
    return f'<h4>Flags</h4><ul class="dl-flags">{items}</ul>'


def _saliency(answer: Answer, field: float) -> str:
    assert answer.saliency is not None
    return _card(
        "What its answer depends on", heat_picture(answer.saliency), field,
        "how much each pixel moves the answer", ("inferno", "little", "most"),
    )  # fmt: skip


def _card(
    title: str, picture: str, field: float, caption: str, bar: tuple[str, str, str] | None = None
) -> str:
    """A picture with a title, a scale bar, and a colour bar (colour map, its two ends)."""
    length = max((b for b in _BARS if b <= 0.4 * field), default=_BARS[0])
    colours = ""
    if bar is not None:
        colours = (
            f'<div class="dl-colours"><span>{escape(bar[1])}</span>'
            f'<i class="dl-{bar[0]}"></i><span>{escape(bar[2])}</span></div>'
        )
    return (
        f'<figure class="dl-card"><figcaption>{escape(title)}</figcaption>'
        f'<div class="dl-frame"><img src="{picture}" alt="{escape(title)}">'
        f'<span class="dl-scale" style="width:{100 * length / field:.2f}%">{length:g}″</span></div>'
        f'{colours}<div class="dl-small">{escape(caption)}</div></figure>'
    )


def live_saliency(answer: Answer, pixel_scale: float) -> str:
    """The picture of what the answer to a simulated image depends on."""
    if answer.seen is None or answer.saliency is None:
        return ""
    field = answer.seen.shape[-1] * pixel_scale
    return f'<div class="dl-pictures">{_saliency(answer, field)}</div>'
