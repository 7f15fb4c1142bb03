"""The command `teal`: which commands there are, and what happens to an error that leaves one of them.

`teal --help` must be instant, so nothing heavy is imported before a command runs: httpx, SQLAlchemy, FastAPI and
TensorFlow are reached only from inside functions of deploy.cli.connect and deploy.cli.serve, for that reason alone.
"""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer
from typer.main import get_command

from contracts.errors import TealError
from deploy.cli import audit, explain, failures, operate, plans, predict, registry, render, serve, steer

app = typer.Typer(
    name="teal",
    help="Serve TensorFlow models and move traffic between a blue and a green version.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 failed, 2 usage or conflict.",
)


@app.callback(invoke_without_command=True)
def teal(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the release and stop.")] = False,
) -> None:
    if show_version:
        render.line(f"teal {version('teal')}")
    elif context.invoked_subcommand is None:
        render.line(context.get_help())


app.command("up")(serve.up)
app.command("demo")(serve.demo)
app.command("register")(registry.register)
app.command("models")(registry.models)
app.command("deploy")(operate.deploy)
app.command("status")(operate.status)
# A negative number must reach the check that explains weights, not the one that explains options.
app.command("weight", context_settings={"ignore_unknown_options": True})(steer.weight)
app.command("promote")(steer.promote)
app.command("skip")(steer.skip)
app.command("extend")(steer.extend)
app.command("pause")(steer.pause)
app.command("resume")(steer.resume)
app.command("abort")(steer.abort)
app.command("rollback")(steer.rollback)
app.command("undo")(steer.undo)
app.add_typer(plans.app, name="plan")
app.command("history")(registry.history)
app.command("explain")(explain.explain)
app.add_typer(audit.app, name="audit")
app.command("predict")(predict.predict)
app.command("drain")(operate.drain)
app.command("delete")(registry.delete)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. No traceback leaves here unless TEAL_DEBUG is set."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        outcome = get_command(app)(words, prog_name="teal", standalone_mode=False)
        sys.stdout.flush()  # so that a reader who left is noticed here and not at interpreter exit
    except TealError as error:
        if os.environ.get("TEAL_DEBUG"):
            raise
        return _fail(error, "--json" in words)
    except typer.TyperException as error:
        render.error(f"{error.format_message()} (see: {_help_of(error)})")
        return failures.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return failures.INTERRUPTED  # whoever pressed Ctrl-C knows it
    except BrokenPipeError:
        # The reader left (`teal history | head`). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failures.FAILED
    except Exception as error:  # the last place that can turn a mistake of ours into a sentence
        if os.environ.get("TEAL_DEBUG"):
            raise
        render.error(
            f"teal met an error it did not expect: {type(error).__name__}: {error}; "
            "TEAL_DEBUG=1 in the environment shows where"
        )
        return failures.FAILED
    return outcome if isinstance(outcome, int) else failures.OK


def _fail(error: TealError, as_json: bool) -> int:
    render.error(error.message)
    if as_json:
        render.json_value(failures.as_json(error))
    return failures.exit_code(error)


def _help_of(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else "teal --help"


if __name__ == "__main__":
    sys.exit(main())
