"""The command `robustaug`: one file a command; here they meet, and errors become one line and an exit code.

Exit codes: 0 done; 1 a gate or check failed; 2 bad input; 3 a gate is inconclusive; 70 a fault of ours; 75 another
process of the job ended; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from robustaug.cli import ops
from robustaug.cli.attack import attack
from robustaug.cli.checkpoint import checkpoint
from robustaug.cli.compare import compare
from robustaug.cli.doctor import doctor
from robustaug.cli.eval import evaluate
from robustaug.cli.flag import flag
from robustaug.cli.report import report
from robustaug.cli.run import run
from robustaug.cli.slices import slices
from robustaug.cli.train import train
from robustaug.cli.verify import verify
from robustaug.launch import EndedError

app = typer.Typer(
    name="robustaug",
    help="Make a model survive the real world, and measure whether it does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run)
app.command("train")(train)
app.command("eval")(evaluate)
app.command("attack")(attack)
app.command("verify")(verify)
app.command("compare")(compare)
app.command("slices")(slices)
app.command("flag")(flag)
app.command("report")(report)
app.command("checkpoint")(checkpoint)
app.add_typer(ops.app, name="ops")
app.command("doctor")(doctor)

_UsageError: Any = typer.BadParameter.__mro__[2]  # the parser's base error, wherever this typer keeps it
_BAD_INPUT = (ValueError, TypeError, OSError, ImportError)
_DEBUG = "--debug"
_AGAIN_S = 0.01


def _print_version(asked: bool) -> None:
    if asked:
        from robustaug import __version__

        typer.echo(f"robustaug {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show the traceback of an error; works anywhere.")] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code; `arguments` default to the process's own."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own = given[: given.index("--")] if "--" in given else given  # what follows `--` is not ours to read
    debug = _DEBUG in own
    command = [word for word in own if word != _DEBUG] + given[len(own) :]
    try:
        with _plain_warnings():
            code = _invoke(command)
    except Exception as error:
        if debug:
            raise
        code = _explain(error)
    raise SystemExit(code)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Have our own warnings shown as one line, without the place in the code; others say where they come from."""
    usual = warnings.formatwarning

    def formatted(message: Warning | str, category: type[Warning], *place: Any) -> str:
        return (
            f"warning: {message}\n"
            if category.__module__.startswith("robustaug.")
            else usual(message, category, *place)
        )

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = usual


@contextlib.contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Interrupt again where Python dropped an interrupt: while it lets an object go, or in what a compiler calls."""
    usual, main_thread, again = sys.unraisablehook, threading.main_thread(), []

    def heard(lost: Any) -> None:
        if lost.exc_type is not KeyboardInterrupt:
            usual(lost)
            return
        # later, for raised here it would be dropped again; and as a signal, which ends waiting too
        again.append(threading.Timer(_AGAIN_S, signal.pthread_kill, [main_thread.ident, signal.SIGINT]))
        again[-1].daemon = True
        again[-1].start()

    sys.unraisablehook = heard
    try:
        yield
    except Exception as error:
        if again:  # whoever was interrupted did not finish, and stumbled over that
            raise KeyboardInterrupt from error
        raise
    finally:
        sys.unraisablehook = usual
        for timer in again:
            timer.cancel()


def _invoke(command: list[str]) -> int:
    try:
        with _interrupts_kept():
            code = typer.main.get_command(app).main(command, prog_name="robustaug", standalone_mode=False)
        sys.stdout.flush()  # a closed pipe must show here, not while the interpreter shuts down
    except BrokenPipeError:  # `robustaug ops list | head` is no mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except _UsageError as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        typer.echo("interrupted; run the same command again to continue", err=True)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> int:
    """Print an error without its traceback and return the exit code."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's; importing torch to name it would take seconds
        typer.echo("error: the device is out of memory; set a smaller batch_size, or --device cpu", err=True)
        return 2
    if isinstance(error, EndedError):
        if str(error):
            typer.echo(f"error: {error}", err=True)
        return 75
    if "DataLoader worker" in str(error):  # torch raises a RuntimeError, whatever the main process is at
        first = str(error).split(". ")[0]
        typer.echo(f"error: a process that reads data ended ({first}); the same command continues", err=True)
        return 75
    import sqlite3

    if isinstance(error, (*_BAD_INPUT, sqlite3.OperationalError)):  # sqlite's: a full disk, a locked file
        typer.echo("error: " + _words(error).replace("\n", "\n       "), err=True)
        return 2
    summary = f"{type(error).__name__}: {error}".strip().split("\n")[0]
    typer.echo(f"internal error: {summary}; run again with {_DEBUG} for the traceback", err=True)
    return 70


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:  # "[Errno 2] No such file ..." is for programmers
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return f"{' -> '.join(names)}: {error.strerror.lower()}" if names else error.strerror.lower()
    return str(error).strip() or type(error).__name__


if __name__ == "__main__":
    main()
