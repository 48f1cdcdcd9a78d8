"""What a shell offers for a word that is not finished: paths, and names of models, codecs and
presets. Click completes commands, options and choices by itself.

What a word may be follows from the metavar that its help shows. So nothing is said twice.
"""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from uqdm.cli.words import codecs


def _models() -> Iterable[str]:
    from uqdm import library

    return (one.name for one in library.available())


def _presets() -> Iterable[str]:
    from uqdm.training.presets import PRESETS

    return PRESETS


class Word(click.types.StringParamType):
    """A word as it is typed, with what can be offered for it: names, then paths."""

    def __init__(self, names: Callable[[], Iterable[str]] = tuple, paths: bool = False) -> None:
        self._names, self._paths = names, paths

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """See `click.ParamType`. The shell itself completes paths, where no name fits."""
        found = [CompletionItem(name) for name in self._names() if name.startswith(incomplete)]
        return found if found or not self._paths else [CompletionItem(incomplete, type="file")]


PATH = Word(paths=True)
WORDS = {  # metavar, and option where one metavar has two meanings -> what completes it
    **dict.fromkeys(("FILE", "FOLDER", "IN", "OUT", "[OUT]", "RUN", "PICTURE", "PATH", "PATH …", "DATA …"), PATH),
    **dict.fromkeys(("IN... [OUT]", "FILE|FOLDER|URL"), PATH),
    "NAME|PATH": Word(_models, paths=True),
    "NAME,…": Word(codecs),
    "--models": Word(_models, paths=True),
    "--preset": Word(_presets),
}


def complete(group: click.Group) -> None:
    """Gives the plain words of a group's commands, and of those below it, what completes them."""
    for command in group.commands.values():
        if isinstance(command, click.Group):
            complete(command)
        for one in command.params:
            if type(one.type) is click.types.StringParamType:
                one.type = next((WORDS[key] for key in (*one.opts, one.metavar) if key in WORDS), one.type)
