"""The command line: `run_protocol`, and `reprise` with its commands (commands/); `reprise --help` says what each does.

An error that the user can mend is one sentence and exit code 3; an interruption is 130 and can be called again.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .commands import check, data, evidence, label, listing, merge, noise, pages, proofs, run
from .commands._common import HOLDS, INTERRUPTED, USAGE
from .core.errors import UsageError, unknown

COMMANDS = (listing, run, pages, check, noise, merge, data, label, evidence, proofs)
"""In the order of `reprise --help`."""
USAGE_HELP = """exit codes: 0 all is well; 1 a cell failed, or a check found a regression; 2 could not be judged, or
not all is there yet; 3 something asked for cannot be done (one sentence says what); 130 interrupted, call again to
go on"""


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args: Any, **more: Any) -> None:
        # `--seed 5` for `--seeds 5` would be three words of another meaning, taken without a sound.
        super().__init__(*args, **{"allow_abbrev": False, **more})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, after saying which option was meant where one does not exist."""
        words = sys.argv[1:] if args is None else list(args)
        if self._subparsers is not None:  # the rest belongs to the command
            words = list(itertools.takewhile(lambda word: word.startswith("-"), words))
        for word in itertools.takewhile(lambda word: word != "--", words):
            name = word.partition("=")[0]
            if (
                name.startswith("--")
                and " " not in name
                and name not in self._option_string_actions
            ):
                known = (name for name in self._option_string_actions if name.startswith("--"))
                self.error(str(unknown("option", name, known)))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def main(argv: Sequence[str] | None = None) -> int:
    """The umbrella command; returns the exit code."""
    arguments = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that has no τ shows its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return int(arguments.command(arguments))
    except UsageError as error:
        if arguments.verbose:
            traceback.print_exc()
        print(f"reprise: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("reprise: interrupted; call again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `reprise list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return HOLDS
    except OSError as error:  # a folder that may not be searched, a name too long for the disk
        if arguments.verbose:
            traceback.print_exc()
        print(
            f"reprise: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr
        )
        return USAGE


def run_protocol(argv: Sequence[str] | None = None) -> int:
    """`run_protocol X` is `reprise run X`."""
    return main(["run", *(sys.argv[1:] if argv is None else argv)])


def parser() -> argparse.ArgumentParser:
    """The arguments of every command."""
    whole = _Parser(
        prog="reprise",
        description="Re-run the tables and figures of papers, and say whether they agree.",
        epilog=USAGE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = _Parser(add_help=False)
    common.add_argument(
        "--root", type=Path, default=Path(), help="folder of results/, reports/ and runs/ (here)"
    )
    common.add_argument(
        "-v", "--verbose", action="store_true", help="show the traceback of an error, too"
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, parents=[common])
        made.set_defaults(command=function)
        return made

    for module in COMMANDS:
        module.add_to(add)
    return whole


if __name__ == "__main__":
    sys.exit(main())
