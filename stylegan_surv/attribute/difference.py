"""What an edit has changed in a picture, drawn so that it can be seen."""

from __future__ import annotations

import numpy as np
from PIL import Image

from stylegan_surv.errors import InputError

GAIN = 4.0  # a change of an eighth of the scale, which one hardly sees, is drawn as half of it
MIDDLE = 128  # grey: nothing changed


def difference(edited: Image.Image, original: Image.Image) -> Image.Image:
    """Fourfold change of every colour about mid-grey: brighter and redder than grey is what became brighter and redder.

    Parameters
    ----------
    edited, original : PIL image
        RGB, of one size.

    Returns
    -------
    PIL image
        Mid-grey where nothing has changed; a change of 32 levels or more is drawn as black or full.

    Raises
    ------
    InputError
        If the sizes differ.
    """
    if edited.size != original.size:
        raise InputError(f"the pictures have {edited.size} and {original.size} pixels; expected one size")
    change = np.asarray(edited.convert("RGB"), float) - np.asarray(original.convert("RGB"), float)
    return Image.fromarray(np.clip(np.rint(MIDDLE + GAIN * change), 0, 255).astype(np.uint8))
