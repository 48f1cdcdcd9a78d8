"""What `mkdocs` does besides: pages that are elsewhere in the repository, links between all pages, and
the help of every command. mkdocs.yml names this file.

Pages are written to be read in the repository. So a link that leads to a page of the site is made one
of the site, and so is the path of a page in code font. A link to any other file of the repository loses
its link and keeps its text.
"""

import os.path
import re
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
CARDS = {f"src/uqdm/weights/{name}/README.md": f"models/{name}.md" for name in ("photo", "nano", "uqdm-light")}
MOVED = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", **CARDS}
WRITTEN = {page: path for path, page in MOVED.items()}
CODE = re.compile(r"^```.*?^```", re.S | re.M)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from elsewhere."""
    for path, page in MOVED.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links of the repository into links of the site."""
    name = page.file.src_uri
    home = os.path.dirname(WRITTEN.get(name, f"docs/{name}"))

    def on_site(path: str) -> str | None:
        """The link from this page to a file of the repository, where the site has it."""
        found = MOVED.get(path, path.removeprefix("docs/"))
        if (path not in MOVED and not path.startswith("docs/")) or files.get_file_from_path(found) is None:
            return None
        return os.path.relpath(found, os.path.dirname(name) or ".")

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        if "://" in target or not target:
            return match[0]
        found = on_site(os.path.normpath(os.path.join(home, target)))
        return f"[{text}]({found}{anchor or ''})" if found else text

    def code(match: re.Match[str]) -> str:
        found = on_site(match[1]) or on_site(f"docs/{match[1]}")
        return f"[{match[0]}]({found})" if found and found != os.path.basename(name) else match[0]

    def outside_code(text: str) -> str:
        text = re.sub(r"(?<!!)\[((?:[^\[\]]|`[^`]*`)+)\]\(([^)#\s]*)(#[^)\s]*)?\)", link, text)
        text = re.sub(r"(!\[[^\]]*\]\()docs/", r"\1", text) if home == "" else text
        return re.sub(r"(?<!\[)`([\w./-]+\.md)`", code, text)

    parts, end = [], 0
    for block in CODE.finditer(markdown):
        parts += [outside_code(markdown[end : block.start()]), block[0]]
        end = block.end()
    shown = "".join([*parts, outside_code(markdown[end:])])
    return shown + commands() if name == "commands.md" else shown


def commands() -> str:
    """The help of every command, as text."""
    from uqdm.cli import main

    def of(group: click.Group, context: click.Context) -> list[str]:
        found = []
        for name, command in group.commands.items():
            inner = click.Context(command, context, name, max_content_width=100, terminal_width=100)
            found.append(f"### {inner.command_path}\n\n```text\n{command.get_help(inner)}\n```\n")
            if isinstance(command, click.Group):
                found += of(command, inner)
        return found

    return "\n## All commands\n\n" + "\n".join(of(main, click.Context(main, info_name="uqdm")))
