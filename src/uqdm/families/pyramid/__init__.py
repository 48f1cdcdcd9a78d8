"""The family `pyramid`: nested dithered cells of an integer wavelet, for photographs (docs/pyramid.md)."""
