"""The record of the family `vdm`."""

import dataclasses

from uqdm.families.uqdm.torch import floats
from uqdm.families.uqdm.torch.vdm import VDM

FLOATS = dataclasses.replace(floats.FLOATS, new=VDM, package=None)
