"""A decoder of exact files, of all families and both entropy modes, written from docs/format.md
alone.

It uses nothing of the package. Whoever writes a decoder in another language may read this one
first.
"""
