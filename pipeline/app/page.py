"""The page: one tab scores a file, the other simulates a lens and asks the network about it.

Components and events only; every handler calls the scorer or the simulator and shows what it says.
The three answers to a slider (picture, network, d′) are events of their own, so that the picture
never waits for the others. The slider starts only the first of them: where several events of one
trigger are repeated for the last value, Gradio repeats all of them for each, and never stops.
"""

import functools
import threading
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.app import views
from pipeline.app.answer import Scorer
from pipeline.app.network import Network
from pipeline.core.errors import ConfigError, EngineError, PhysicsError
from pipeline.dataset.live import LiveImage, LiveSimulator
from pipeline.physics.instrument import instrument_names, load_instrument

if TYPE_CHECKING:
    from concurrent.futures import Future

    from gradio import Blocks

ACCEPTED = "FITS, also packed (.gz, .bz2, .fz), .npy, .npz or .png"
_EMPTY = f"Drop an image on the left: {ACCEPTED}."
#: Realisations that the page offers.
_REALISATIONS = 99
_GROUPS = {"lens": "Lens", "source": "Source", "telescope": "Telescope"}


class Page:
    """Handlers of the page's events.

    Parameters
    ----------
    scorer : Scorer
    network : Future of Network
    simulator : LiveSimulator or None
        None leaves out the tab that simulates.
    """

    def __init__(
        self, scorer: Scorer, network: "Future[Network]", simulator: LiveSimulator | None
    ) -> None:
        self._scorer = scorer
        self._network = network
        self._simulator = simulator
        self._lock = threading.Lock()
        self._simulated = functools.lru_cache(maxsize=4)(self._simulate)

    def score(self, path: str | None) -> tuple[str, str]:
        """Pictures and text for an uploaded file."""
        if not path:
            return "", views.hint(_EMPTY)
        answer = self._scorer.score_file(Path(path))
        network = self._network.result()
        return (
            views.answer_pictures(answer, self._scorer.target.pixel_scale),
            views.answer_text(answer, network.class_names, network.targets),
        )

    def picture(self, class_name: str, index: float, instrument: str, *values: float) -> str:
        """Pictures of the lens that the sliders describe."""
        live = self._live(class_name, index, instrument, values)
        return live if isinstance(live, str) else views.live_pictures(live)

    def answer(
        self, class_name: str, index: float, instrument: str, *values: float
    ) -> tuple[str, str]:
        """Saliency and the network's answer to it."""
        live = self._live(class_name, index, instrument, values)
        if isinstance(live, str):
            return "", ""
        answer = self._scorer.score_live(live)
        network = self._network.result()
        return (
            views.live_saliency(answer, self._scorer.target.pixel_scale),
            views.answer_text(answer, network.class_names, network.targets),
        )

    def detectability(self, class_name: str, index: float, instrument: str, *values: float) -> str:
        """d′ of its substructure."""
        live = self._live(class_name, index, instrument, values)
        if isinstance(live, str):
            return ""
        assert self._simulator is not None
        found = self._simulator.detectability(live) if live.d_raw else None
        return views.live_detectability(live, found)

    def _live(
        self, class_name: str, index: float, instrument: str, values: Sequence[float]
    ) -> LiveImage | str:
        """The simulated lens, or why there is no such lens."""
        try:
            with self._lock:  # three events ask for the same lens
                return self._simulated(class_name, int(index), instrument, tuple(values))
        except (ConfigError, PhysicsError, EngineError) as error:
            return views.problem("There is no such lens", str(error))

    def _simulate(
        self, class_name: str, index: int, instrument: str, values: tuple[float, ...]
    ) -> LiveImage:
        assert self._simulator is not None
        return self._simulator.simulate(
            values, class_name=class_name, index=index, instrument=instrument
        )


def build_page(page: Page, title: str, simulator: LiveSimulator | None, note: str) -> "Blocks":
    """Lay out the page.

    Parameters
    ----------
    page : Page
    title : str
        What answers here, shown at the top.
    simulator : LiveSimulator or None
    note : str
        What the sliders start from.
    """
    import gradio as gr

    with gr.Blocks(title="DeepLense", analytics_enabled=False) as blocks:
        gr.HTML(f'<div class="dl-head"><h1>DeepLense</h1><p>{escape(title)}</p></div>')
        with gr.Tabs():
            with gr.Tab("Score an image"):
                _score_tab(page)
            if simulator is not None:
                with gr.Tab("Simulate a lens"):
                    _simulate_tab(page, simulator, note, blocks)
    page_itself: Blocks = blocks
    return page_itself


def _score_tab(page: Page) -> None:
    import gradio as gr

    with gr.Row():
        with gr.Column(scale=2, min_width=260):
            upload = gr.File(label="Image", height=150, elem_id="upload")
            gr.HTML(
                f'<p class="dl-small">{ACCEPTED}. It is cut around its middle and brought to the '
                "network's pixel scale. Files go to the machine that serves this page only.</p>"
            )
            text = gr.HTML(views.hint(_EMPTY), elem_id="score-text")
        with gr.Column(scale=3, min_width=320):
            pictures = gr.HTML(elem_id="score-pictures")
    upload.change(
        page.score, upload, [pictures, text], api_name="score", show_progress="minimal",
        show_progress_on=text,
    )  # fmt: skip


def _simulate_tab(page: Page, simulator: LiveSimulator, note: str, blocks: "Blocks") -> None:
    import gradio as gr

    names = list(simulator.config.class_names)
    with gr.Row():
        with gr.Column(scale=2, min_width=300, elem_id="knobs"):
            inputs = _controls(simulator, names)
            gr.HTML(f'<p class="dl-small">{escape(note)}</p>')
        with gr.Column(scale=3, min_width=320):
            pictures = gr.HTML(elem_id="live-pictures")
            detectability = gr.HTML(elem_id="live-detectability")
            with gr.Row():
                with gr.Column(min_width=240):
                    saliency = gr.HTML(elem_id="live-saliency")
                with gr.Column(min_width=240):
                    text = gr.HTML(elem_id="live-text")
    moved = [getattr(c, "input") for c in inputs]  # noqa: B009  # gradio adds events at run time
    common: dict[str, Any] = {  # Any: keywords of gradio
        "inputs": inputs, "trigger_mode": "always_last", "show_progress": "hidden",
    }  # fmt: skip
    shown = gr.on(
        [*moved, blocks.load], page.picture, outputs=pictures, api_name="picture", **common
    )
    shown.then(page.answer, outputs=[saliency, text], api_name="answer", **common)
    shown.then(page.detectability, outputs=detectability, api_name="detectability", **common)


def _controls(simulator: LiveSimulator, names: list[str]) -> list[Any]:  # Any: gradio components
    """Class, realisation, telescope, then a slider for each knob, in the order of the knobs."""
    import gradio as gr

    sliders: dict[str, Any] = {}  # Any: gradio components
    first = names[-1]
    class_name = gr.Radio(names, value=first, label="Class", elem_id="class")
    index = gr.Slider(
        0, _REALISATIONS, 0, step=1, label="Realisation of halos and noise", buttons=[],
    )  # fmt: skip
    for group, title in _GROUPS.items():
        with gr.Accordion(title, open=group == "lens"):
            if group == "telescope":
                instrument = _telescopes(simulator)
            _sliders(simulator, group, sliders)
        if group == "source":
            with gr.Accordion("Substructure", open=True):
                _sliders(simulator, "substructure", sliders)
                groups = []
                for name in names:
                    with gr.Column(visible=name == first) as column:
                        _sliders(simulator, name, sliders)
                    groups.append(column)
    class_name.change(
        lambda chosen: [gr.Column(visible=name == chosen) for name in names],
        class_name, groups, show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    exposures = sliders.get("instruments.0.n_exposures")
    if exposures is not None:
        own = {i.name: i.n_exposures for i in simulator.config.instruments}
        instrument.input(
            lambda name: own[name] if name in own else load_instrument(name).n_exposures,
            instrument, exposures, show_progress="hidden", api_visibility="private",
        )  # fmt: skip
    return [class_name, index, instrument, *(sliders[knob.key] for knob in simulator.knobs)]


def _telescopes(simulator: LiveSimulator) -> Any:  # Any: a gradio component
    import gradio as gr

    own = list(simulator.config.bands)
    others = [name for name in instrument_names() if name not in own]
    return gr.Dropdown(
        [(f"{own[0]} (training data)", own[0]), *(others if len(own) == 1 else [])],
        value=own[0], label="Instrument", elem_id="instrument",
    )  # fmt: skip


def _sliders(simulator: LiveSimulator, group: str, found: dict[str, Any]) -> None:  # Any: as above
    """A slider for each knob of a group, two a row."""
    import gradio as gr

    knobs = [knob for knob in simulator.knobs if knob.group == group]
    for pair in (knobs[i : i + 2] for i in range(0, len(knobs), 2)):
        with gr.Row():
            for knob in pair:
                unit = f" ({knob.unit})" if knob.unit else ""
                known = "" if knob.known is None else (
                    f"trained on {knob.known[0]:.3g} … {knob.known[1]:.3g}"
                )  # fmt: skip
                found[knob.key] = gr.Slider(
                    knob.low, knob.high, round(knob.value, 4), step=knob.step,
                    label=knob.label + unit, info=known or None, min_width=150, buttons=[],
                    elem_id=knob.key.replace(".", "-"),
                )  # fmt: skip
