"""From an error to an exit code and one sentence. Nothing else in the command line decides either.

0  done
1  failed: not found, nobody answers, too late, refused by prepare, our own fault
2  usage or conflict: an unknown option, a value that cannot be, a command that contradicts the present state
130  ended with Ctrl-C before it was done
"""

from contracts.errors import Conflict, InvalidInput, TealError

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130


class RegistrationRefused(TealError):
    """The model could not become a version. The command was right, the model was not: that is a failure, not usage."""

    code = "registration_refused"


def exit_code(error: TealError) -> int:
    return USAGE if isinstance(error, InvalidInput | Conflict) else FAILED


def as_json(error: TealError) -> dict[str, str]:
    return {"error": error.message, "code": error.code}
