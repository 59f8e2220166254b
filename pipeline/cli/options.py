"""Options that several commands share, with one wording each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token


def _found(type_: Any, tokens: Sequence[Token]) -> Path:  # Any: what cyclopts gives a converter
    from pipeline.checkpoint.spec import find_run

    return find_run(tokens[0].value)


#: A run folder, an exported network, or the name of one that ships.
RunPath = Annotated[Path, Parameter(converter=_found)]
Json = Annotated[
    bool, Parameter(name="--json", negative="", help="Print one JSON object on stdout.")
]
Overrides = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        negative="",
        help="Change one value of the configuration: --set key.key=value; may be repeated.",
    ),
]
Workers = Annotated[
    int | None, Parameter(help="Worker processes; by default one per available core.")
]
Device = Annotated[
    str, Parameter(help="auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.")
]
