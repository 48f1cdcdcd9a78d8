"""`python -m uqdm` is `uqdm`."""

from uqdm.cli import main

if __name__ == "__main__":
    main()
