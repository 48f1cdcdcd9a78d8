"""The command that shows files in a browser: view."""

import threading

import click

from uqdm.cli import options
from uqdm.cli.output import complain, echo


@click.command(short_help="Watch a file arrive, in a browser.")
@click.argument("what", metavar="FILE|FOLDER|URL")
@click.option("--original", metavar="PICTURE", help="What the file was made from, to compare with.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="The page's port; by default any free one."
)
@click.option("--no-browser", is_flag=True, help="Only serve the page; do not open it in the browser.")
@options.where
@options.run
def view(
    what: str, original: str | None, port: int, no_browser: bool, model: str | None, **machine: str | int | None
) -> None:
    """Show a .uqdm file, the files of a folder, or one behind a URL on a page in the browser.

    The page has a slider over the bytes of the file and the PSNR curve under it, and shows what
    these bytes are worth: beside the original, or beside the same bytes as JPEG, JPEG XL and AVIF
    where the extra `eval` is installed. The original is PICTURE, or a picture of the same stem
    beside the file. Of a URL only what the slider needs is fetched.

    The page is served on 127.0.0.1, for this machine alone, until the command is interrupted. Its
    address is printed.

    \b
    Examples:
      uqdm view photo.uqdm
      uqdm view photo.uqdm --original photo.tif
      uqdm view packed/ --no-browser --port 8000
      uqdm view https://example.org/photo.uqdm
    """
    from uqdm.view import Server, Shelf, serve

    server = Server(Shelf(what, original), port, model=model, **machine)
    try:
        server.check()
        echo(server.url)
        complain("Ctrl-C ends it")
        if not no_browser:  # in a thread: some browsers end only when the page is closed
            threading.Thread(target=_open, args=(server.url,), daemon=True).start()
    except BaseException:
        server.server_close()
        raise
    serve(server)


def _open(url: str) -> None:
    import webbrowser

    if not webbrowser.open(url):
        complain(f"no browser could be opened: go to {url}")
