"""Exit statuses, and what the terminal shows of an error: a message, never a traceback.

0 done; 1 the user's model, data, target or machine, or interrupted; 2 usage; 3 our own fault, with
the path of a dump file that holds traceback, versions and command line.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import click

from tilewright.tools.cli.group import COMMANDS, COMPLETE_VARIABLE, PROGRAM, cli

DONE, USER, USAGE, OURS = 0, 1, 2, 3

# By name: importing these classes here would load numpy and LLVM before every command.
USER_ERRORS = frozenset(
    {
        "tilewright.compiler.errors.UserError",
        "tilewright.runtime.errors.TilewrightError",
        "tilewright.backends.target.UnknownTargetError",
        "tilewright.backends.reference.interpreter.DataError",
    }
)
COMPILER_MODULES = frozenset(
    {
        *("google", "highspy", "llvmlite", "mlir", "ml_dtypes", "networkx"),
        *("onnx", "scipy", "torch_mlir"),
    }
)
# What the system refuses because of the machine's state, not because we asked wrongly.
MACHINE_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO),
    }
)
ISSUES = "report it with that file"


def run(arguments: Sequence[str]) -> int:
    """Run one command line; gives the exit status and prints what went wrong to stderr."""
    try:
        status = cli.main(
            list(arguments),
            prog_name=PROGRAM,
            complete_var=COMPLETE_VARIABLE,
            standalone_mode=False,
        )
        sys.stdout.flush()
    except click.ClickException as wrong:
        wrong.show(sys.stderr)
        return _told(arguments, USAGE, wrong, wrong.format_message())
    except BrokenPipeError:
        _let_go_of_stdout()
        return USER
    except (KeyboardInterrupt, click.Abort) as stop:
        return _say(arguments, USER, stop, f"{_command(arguments)}: interrupted")
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in COMPILER_MODULES:
            return _ours(arguments, missing)
        text = (
            f"{_command(arguments)}: this needs the compiler; "
            'try: pip install "tilewright[compiler]"'
        )
        return _say(arguments, USER, missing, text)
    except MemoryError as error:
        text = f"{_command(arguments)}: out of memory\n  try: a machine with more memory"
        return _say(arguments, USER, error, text)
    except OSError as refusal:
        if refusal.errno not in MACHINE_ERRORS:
            return _ours(arguments, refusal)
        place = refusal.filename or _command(arguments)
        _let_go_of_stdout()
        return _say(arguments, USER, refusal, f"{place}: {refusal.strerror}")
    except Exception as error:  # noqa: BLE001 (reported below, with a dump)
        if is_users(error):
            return _say(arguments, USER, error, str(error))
        return _ours(arguments, error)
    return status if isinstance(status, int) else DONE


def is_users(error: BaseException) -> bool:
    """True for the errors that model, data or target cause."""
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    return bool(names & USER_ERRORS)


def _command(arguments: Sequence[str]) -> str:
    return next((word for word in arguments if word in COMMANDS), PROGRAM)


def _say(arguments: Sequence[str], status: int, error: BaseException, text: str) -> int:
    print(text, file=sys.stderr)
    return _told(arguments, status, error, text)


def _told(
    arguments: Sequence[str],
    status: int,
    error: BaseException,
    text: str,
    dump: str | None = None,
) -> int:
    """Under --json the error is the document; otherwise stderr has said it."""
    if "--json" in arguments:
        found = {"exit": status, "type": type(error).__name__, "message": text}
        for part in ("where", "what", "found", "hint"):
            if getattr(error, part, None):
                found[part] = str(getattr(error, part))
        if dump is not None:
            found["dump"] = dump
        print(json.dumps({"error": found}, indent=1))
        sys.stdout.flush()
    return status


def _ours(arguments: Sequence[str], error: BaseException) -> int:
    summary = str(error).partition("\n")[0][:300] or type(error).__name__
    text = f"{_command(arguments)}: internal error: {type(error).__name__}: {summary}"
    try:
        dump = write_dump(arguments, error)
    except OSError as refusal:
        text += f"\n  no dump could be written: {refusal.strerror}"
        return _say(arguments, OURS, error, text)
    text += f"\n  the details are in {dump}\n  try: {ISSUES}"
    print(text, file=sys.stderr)
    return _told(arguments, OURS, error, text, dump)


def write_dump(arguments: Sequence[str], error: BaseException) -> str:
    """Write what a report of `error` needs to a new temporary file; gives its path."""
    lines = [
        f"command: {PROGRAM} {shlex.join(arguments)}",
        f"time: {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}",
        f"python: {sys.version}",
        f"platform: {platform.platform()}",
        *(f"{name}: {_version(name)}" for name in _packages()),
        "",
        "".join(traceback.format_exception(error)),
    ]
    handle, path = tempfile.mkstemp(prefix="tilewright-dump-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write("\n".join(lines))
    return path


def _packages() -> tuple[str, ...]:
    from tilewright.tools.bench.machine import PACKAGES

    return (*PACKAGES, "click", "rich")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _let_go_of_stdout() -> None:
    """Point stdout elsewhere; Python would try to flush it again at exit and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
