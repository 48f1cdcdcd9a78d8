"""The ground floor: integers in, bytes out. Knows nothing of images, networks or files."""
