"""The command line: sepo demo | pretrain | finetune | sample | evaluate | design | export | report.

Exit codes: 0 done; 1 it could not be done, and stderr says why; 2 the words were not understood; 130 Ctrl-C. A command
is imported when it is called, so that --help and --version do not wait for torch.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from sepo import __version__
from sepo.cli.errors import Answered, UsageError, told

DONE, FAILED, MISUNDERSTOOD, INTERRUPTED = 0, 1, 2, 130

COMMANDS = {
    "demo": "Digits, from nothing to a report: pretrain, fine-tune with SEPO, judge.",
    "pretrain": "Train a discrete diffusion model on data.",
    "finetune": "Fine-tune a model with SEPO on a reward.",
    "sample": "Draw samples from a model.",
    "evaluate": "Reward, metrics and held-out bound of a model.",
    "design": "From a table of measured sequences to ranked designs.",
    "export": "Write a model in the layout it was published in.",
    "report": "Draw report.html again from the files of a run.",
}

HELP = f"""\
usage: sepo COMMAND [--option value ...]

Fine-tune discrete diffusion models on any reward.

{chr(10).join(f"  {name:<10}{summary}" for name, summary in COMMANDS.items())}

  sepo COMMAND --help   the options of a command
  sepo --version        the version
  --debug               with any command: show the stack trace of an error

Exit codes: 0 done, 1 an error (stderr says which), 2 an option that was not understood, 130 Ctrl-C."""


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. words: what stands behind `sepo`; None: of this process."""
    given = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP)
        return DONE
    if given[0] in ("-V", "--version"):
        print(f"sepo {__version__}")
        return DONE
    try:
        return _command(given[0])(given[1:])
    except Answered:
        return DONE
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()
        return DONE
    except Exception as error:
        message = None if debug else told(error)
        if message is None:
            raise
        print(f"sepo: {message}", file=sys.stderr)
        return MISUNDERSTOOD if isinstance(error, UsageError) else FAILED


def _command(name: str):
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(COMMANDS)}."
        raise UsageError(f"{name!r} is no command. {hint}")
    return import_module(f"sepo.cli.{name}").run
