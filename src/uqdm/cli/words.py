"""Options that hold lists: `--codec uqdm,jpeg`, in the old spelling `--codec uqdm jpeg`.

In the old spelling a list goes on as long as a word can only be part of it. A word that is a file
or a folder, or looks like one, ends a list of codecs. A word without the suffix of a list's files
ends that list. So an argument that follows a list is not swallowed.
"""

import os
import re
from collections.abc import Callable

Belongs = Callable[[str], bool]


def _any(word: str) -> bool:
    return True


def _no_figure(word: str) -> bool:
    return not re.fullmatch(r"fig\d+", word)


def _number(word: str) -> bool:
    return re.fullmatch(r"[\d.,]+", word) is not None


def _ends_in(*suffixes: str) -> Belongs:
    return lambda word: os.path.splitext(word)[1].lower() in suffixes


def codecs() -> list[str]:
    """The names that --codec knows. Some may have `:MODEL` or `@T` behind them."""
    from uqdm.evaluation.classical import CLASSICAL
    from uqdm.evaluation.registry import GAUSSIAN, MODELS

    return ["all", *MODELS, *CLASSICAL, *GAUSSIAN]


def _codec(word: str) -> bool:
    """Whether a word is a codec's name, perhaps a wrong one, and not a picture or a figure."""
    from uqdm.data.datasets import NAMED

    kind = re.split("[:@]", word)[0]
    if kind in codecs():
        return True
    is_set = re.sub(r"[-_ ]", "", word.lower()) in NAMED
    return _no_figure(word) and not is_set and not set(word) & set("./*?[") and not os.path.lexists(word)


_yaml, _toml, _json = _ends_in(".yml", ".yaml"), _ends_in(".toml"), _ends_in(".json")
LISTS: dict[str, dict[str, Belongs]] = {  # for each command: its options, and which further words belong to their list
    "train": {"--data": _any, "--held": _any, "--set": _any},
    "evaluate": {"--codec": _codec, "--published": _yaml, "--beside": _json, "--external": _toml},
    "bulk evaluate": {"--bpp": _number},
    "compare": {"--codec": _codec, "--external": _toml},
    "reproduce": {
        "--data": _no_figure,
        "--published": _yaml,
        "--models": _no_figure,
        "--codec": _codec,
        "--external": _toml,
    },
}
COMMAS = (
    "--codec",
    "--models",
    "--published",
    "--beside",
    "--external",
    "--bpp",
)  # patterns of pictures may hold commas


def spread(words: list[str]) -> list[str]:
    """`--codec A,B` and `--codec A B` as `--codec A --codec B`, in a command that has such
    options.
    """
    lists = LISTS.get(" ".join(words[:1])) or LISTS.get(" ".join(words[:2]), {})
    found: list[str] = []
    option: str | None = None  # the option whose list goes on
    for i, word in enumerate(words):
        if word == "--" or not lists:
            return found + words[i:]
        name, equals, value = word.partition("=")
        if word.startswith("-") and len(word) > 1:
            option = name if name in lists else None
            if option is None:
                found.append(word)
            elif equals:
                found += _each(option, value)
            elif i + 1 == len(words) or words[i + 1].startswith("--"):
                found.append(option)  # it has no value, and click says so
                option = None
            continue
        first = i > 0 and words[i - 1] == option
        if option is not None and (first or lists[option](word)):
            found += _each(option, word)
        else:
            option = None
            found.append(word)
    return found


def _each(option: str, value: str) -> list[str]:
    """One value, or those between its commas, each behind its option. If the whole word exists as a
    file, it is one value.
    """
    parts = value.split(",") if option in COMMAS and not os.path.lexists(value) else [value]
    return [word for part in parts if part or len(parts) == 1 for word in (option, part)]
