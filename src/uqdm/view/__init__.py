"""A page that shows files of ours arriving, and the small local server behind it. Standard library
and the codec; no other package.

shelf      which files are on view: a file, a folder's, or what is behind an address
arriving   their bytes, as far as they are there
pool       work in the background, bounded: the newest wish wins, results are kept within a bound
curve      places in a file, and their PSNR
aside      the same bytes spent by other codecs
viewed     one open file: all of these together
answers    requests to answers
server     the wall around it: which hosts, how many connections, which headers
page.html  the page
"""

from uqdm.view.server import Server, serve
from uqdm.view.shelf import Shelf

__all__ = ["Server", "Shelf", "serve"]
