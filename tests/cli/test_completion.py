"""What the shells offer, asked from the shells themselves; and the help that `uqdm help` shows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from commands import Run, failed, succeeded

from uqdm.cli import main
from uqdm.cli.completion import Word

OFFERED = {  # a line, its last word not finished -> what is offered
    "uqdm trunc": {"truncate"},
    "uqdm help trunc": {"truncate"},
    "uqdm bulk ": {"compress", "decompress", "evaluate"},
    "uqdm compress a.png --skip": {"--skip-existing"},
    "uqdm compress a.png --backend o": {"onnxruntime"},
    "uqdm compress a.png --model na": {"nano"},
    "uqdm train --preset tiny-": {"tiny-vdm"},
    "uqdm evaluate . --codec jpeg2000-": {"jpeg2000-97"},
    "uqdm reproduce fig1": {"fig1", "fig10"},
    "uqdm info pho": {"photo.uqdm"},
    "uqdm compress my\\ p": {"my photo.png"},
    "uqdm compress a.png --model ./mo": {"models"},
}
SHELLS = {  # shell -> a program that takes lines and prints what is offered, a line each, then "--"
    "bash": """
compopt() { [ "$2" = default ] && mapfile -t COMPREPLY < <(compgen -f -- "$word"); }
eval "$(_UQDM_COMPLETE=bash_source uqdm)"
complete -p uqdm >&2 || exit 1
for line in "$@"; do
  eval "COMP_WORDS=($line)"
  [ "${line: -1}" = " " ] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); word=${COMP_WORDS[COMP_CWORD]}; COMPREPLY=()
  _uqdm_completion uqdm
  printf '%s\\n' "${COMPREPLY[@]}" --
done
""",
    "zsh": """
compdef() { :; }
compadd() { print -rl -- ${(P)5}; }
_describe() { print -rl -- ${${(P)3}%%:*}; }
_path_files() { print -rl -- ${(Q)words[CURRENT]}*(N); }
eval "$(_UQDM_COMPLETE=zsh_source uqdm)"
for line in "$@"; do
  words=("${(z@)line}"); [[ $line = *" " ]] && words+=(""); CURRENT=${#words}
  _uqdm_completion
  print -- --
done
""",
    "fish": """
_UQDM_COMPLETE=fish_source uqdm | source
for line in $argv
  complete -C $line | string replace -r '\\t.*' ''
  echo -- --
end
""",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_complete_commands_options_names_and_paths(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "bin" / "uqdm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uqdm "$@"\n')
    program.chmod(0o755)
    for name in ("photo.uqdm", "my photo.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(main.callback.__code__.co_filename).parents[2]))  # type: ignore[union-attr]
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "script").write_text(SHELLS[shell])
    ran = subprocess.run([shell, "script", *OFFERED], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    offered = [part.split("\n") for part in ran.stdout.split("--\n")[:-1]]
    found = [{word.removeprefix("./").rstrip("/") for word in words if word} for words in offered]
    assert dict(zip(OFFERED, found, strict=True)) == OFFERED


def test_every_plain_word_of_a_command_is_completed_or_named_here() -> None:
    free = {
        "--device",
        "--size",
        "--crop",
        "--ray",
        "--suffix",
        "--set",
        "command",
    }  # have no list, or one of their own
    found = set()

    def look(group: click.Group) -> None:
        for command in group.commands.values():
            if isinstance(command, click.Group):
                look(command)
            plain = [one for one in command.params if isinstance(one.type, click.types.StringParamType)]
            found.update(name for one in plain if not isinstance(one.type, Word) for name in one.opts[:1])

    look(main)
    assert found == free


def test_help_shows_what_the_option_shows(run: Run) -> None:
    for words in ((), ("compress",), ("bulk",), ("bulk", "decompress")):
        assert succeeded(run("help", *words)).output.strip() == succeeded(run(*words, "--help")).output.strip()
    failed(run("help", "compres"), 2, "No such command 'compres'", "compress")
    failed(run("help", "info", "x"), 2, "uqdm info has no commands, so 'x' is none of them")
