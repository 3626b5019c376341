import signal
import subprocess
import sys
import time
import warnings

import pytest

from robustaug import __version__
from robustaug.cli import main as module

COMMANDS = [
    [],
    ["run"],
    ["train"],
    ["eval"],
    ["attack"],
    ["verify"],
    ["compare"],
    ["report"],
    ["checkpoint"],
    ["ops"],
    ["doctor"],
]
COMMANDS += [["ops", name] for name in ("list", "show", "preview")]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(robustaug, command):
    called = robustaug(*command, "--help")
    assert called.code == 0
    assert "Usage: robustaug" in called.out
    assert "--help" in called.out


def test_help_and_import_do_not_wait_for_what_they_do_not_need():
    heavy = ("torch", "numpy", "scipy", "sklearn", "plotly", "pyarrow", "pydantic")
    for code in (
        "import robustaug",
        "from robustaug.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass",
    ):
        check = f"{code}\nimport sys\nsys.exit([name for name in {heavy} if name in sys.modules] or 0)"
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_version(robustaug):
    assert robustaug("--version").out == f"robustaug {__version__}\n"


def test_an_unknown_command_or_option_is_bad_input(robustaug):
    called = robustaug("trian")
    assert called.code == 2
    assert "No such command 'trian'" in called.err
    assert robustaug("run", "a.yaml", "--nothing").code == 2
    assert robustaug("run").code == 2


def test_bad_input_is_one_line_and_debug_shows_where(robustaug):
    called = robustaug("run", "nowhere.yaml")
    assert called == (2, "", "error: no config at nowhere.yaml; give the path of a YAML file\n")
    for arguments in (["--debug", "run", "nowhere.yaml"], ["run", "nowhere.yaml", "--debug"]):
        with pytest.raises(FileNotFoundError, match="no config at"):
            module.main(arguments)


def test_our_warnings_are_one_line_and_those_of_others_say_where(robustaug, monkeypatch):
    from robustaug.train.tracking import TrackingWarning

    def look(*_):
        shown = [warnings.formatwarning("so it is", kind, "a.py", 3) for kind in (TrackingWarning, UserWarning)]
        assert shown[0] == "warning: so it is\n"
        assert "a.py:3: UserWarning: so it is" in shown[1]
        return 0

    usual = warnings.formatwarning
    monkeypatch.setattr(module, "_invoke", look)
    assert robustaug("ops").code == 0
    assert warnings.formatwarning is usual


def raising(error):
    def command(*_, **__):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ValueError("a\nb"), 2, "error: a\n       b\n"),
        (FileNotFoundError(2, "No such file or directory", "x.png"), 2, "error: x.png: no such file or directory\n"),
        (OSError(28, "No space left on device"), 2, "error: no space left on device\n"),
        (ImportError("timm is missing: pip install 'robustaug[timm]'"), 2, "error: timm is missing"),
        (type("OutOfMemoryError", (RuntimeError,), {})(), 2, "error: the device is out of memory; set a smaller"),
        (RuntimeError("boom\nmore"), 70, "internal error: RuntimeError: boom; run again with --debug"),
        (AssertionError(), 70, "internal error: AssertionError:"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to continue\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_become_a_line_and_a_code(robustaug, monkeypatch, error, code, text):
    monkeypatch.setattr("robustaug.registry.lookup", raising(error))
    called = robustaug("ops", "show", "image.rotate")
    assert called.code == code
    assert called.err.startswith(text)
    assert "Traceback" not in called.err


def test_a_closed_pipe_is_no_error():
    command = [sys.executable, "-m", "robustaug.cli.main", "ops", "list", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # long before the list is ready
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


@pytest.fixture
def hearing():
    """Hear interrupts: a job in a shell's background ignores them, and so do these tests when they are one."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.mark.parametrize("then", [lambda: time.sleep(20), raising(RuntimeError("nothing was compiled"))])
def test_an_interrupt_while_an_object_is_let_go_is_not_lost(robustaug, monkeypatch, hearing, then):
    class Leaving:
        def __del__(self):
            raise KeyboardInterrupt  # what Python does with it: "Exception ignored in", and on

    def write(folder):
        Leaving()
        then()

    monkeypatch.setattr("robustaug.report.write", write)
    called = robustaug("report", "anywhere")
    assert called.code == 130
    assert called.err == "interrupted; run the same command again to continue\n"
