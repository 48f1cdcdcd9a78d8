"""Numbers of every stage of a decoder: see README.md."""
