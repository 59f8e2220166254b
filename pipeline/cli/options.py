"""Options that several commands share, with one wording each."""

from typing import Annotated

from cyclopts import Parameter

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
