"""Every exception that uqdm raises on purpose; knows nothing else.

    UqdmError
    ├── FormatError             the bytes are not a .uqdm file that can be read
    │   ├── NotUqdmError        empty, or another kind of file: the magic differs
    │   ├── VersionError        written in a format version that this reader does not know
    │   ├── TruncatedError      cut before the end of the header: nothing can be decoded
    │   ├── DamagedError        a check failed, or chunks are repeated, foreign or out of order
    │   └── LimitError          a size that is impossible, or that needs more memory than is allowed
    ├── ModelError
    │   ├── UnknownModelError   no model of that name or path
    │   ├── FingerprintError    a model of that name, but not the one that wrote the file
    │   ├── PackageError        a model folder that is broken or incomplete
    │   ├── CheckpointError     a published checkpoint that cannot be read safely
    │   └── BackendError        what runs the model's network is not installed, or cannot run it
    ├── TrainingError           a run that cannot go on: its loss is no number any more, or its folder is another run's
    ├── EvaluationError         a codec that is not here or breaks its protocol; results that do not compare
    ├── NumericsError           a step decoded to other symbols than were encoded: floats differ, or a file is forged
    ├── ImageError              not a picture, or one of a kind that is not accepted without conversion
    │   └── SourceError         a whole file of pictures is broken: not to be taken for one broken picture of it
    └── OutputError             the result cannot be written where it was asked for

A message says what is wrong, where, what was expected, what was found, and what to do.
"""


class UqdmError(Exception):
    """Base of every error about data, models or files. Mistakes in the program raise others."""


class FormatError(UqdmError):
    """The bytes are not a .uqdm file that can be read."""


class NotUqdmError(FormatError):
    """Empty, or another kind of file: the magic differs."""


class VersionError(FormatError):
    """Written in a format version that this reader does not know."""


class TruncatedError(FormatError):
    """Cut before the end of the header: nothing can be decoded."""


class DamagedError(FormatError):
    """A check failed, or chunks are repeated, foreign or out of order."""


class LimitError(FormatError):
    """A size that is impossible, or that needs more memory than is allowed."""


class ModelError(UqdmError):
    """Something is wrong with a model."""


class UnknownModelError(ModelError):
    """No model of that name or path."""


class FingerprintError(ModelError):
    """A model of that name, but not the one that wrote the file."""


class PackageError(ModelError):
    """A model folder that is broken or incomplete."""


class CheckpointError(ModelError):
    """A published checkpoint that cannot be read safely."""


class BackendError(ModelError):
    """What runs the model's network is not installed, or cannot run it."""


class TrainingError(UqdmError):
    """A run that cannot go on: its loss is not a number any more, or its folder is another
    run's.
    """


class EvaluationError(UqdmError):
    """A codec that is not here or does not keep its protocol, or results that cannot be
    compared.
    """


class NumericsError(UqdmError):
    """A step decoded to other symbols than were encoded.

    With a model of floats, the arithmetic of writer and reader differs. With an exact model it
    cannot differ, so the file is damaged or forged although its checks pass.
    """


class ImageError(UqdmError):
    """Not a picture, or one of a kind that is not accepted without conversion."""


class SourceError(ImageError):
    """A whole file of pictures is broken. This is not one broken picture of it."""


class OutputError(UqdmError):
    """The result cannot be written where it was asked for."""
