"""The options that many commands share, written once so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_HOME = Path(".teal")
DEFAULT_PORT = 8080
DEFAULT_ADMIN_PORT = 8090

Home = Annotated[Path, typer.Option("--home", metavar="DIR", help="Where models, state and logs are kept.")]
Server = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Operating port of a gateway elsewhere, e.g. http://127.0.0.1:8090."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys instead of text.")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept in the history.")]
Override = Annotated[
    bool, typer.Option("--override", help="Also where evidence is missing; never where it speaks against.")
]
Revision = Annotated[
    int | None,
    typer.Option(
        "--revision",
        metavar="N",
        min=0,
        help="Only if the model is still as you saw it: the revision that teal status shows.",
    ),
]
Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port for predictions.")]
AdminPort = Annotated[int, typer.Option("--admin-port", min=1, max=65535, help="Port for operating; loopback only.")]
Model = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.", show_default=False)]
OptionalModel = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Name of the model; all of them if left out.", show_default=False)
]
