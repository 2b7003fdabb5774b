"""What an edit has changed in a picture, drawn so that it can be seen."""

from __future__ import annotations

import numpy as np
from PIL import Image

from stylegan_surv.errors import InputError

GAIN = 2.0  # a strong edit changes a colour by a quarter of the scale, which is then drawn as the whole half
MIDDLE = 128  # grey: nothing changed


def difference(edited: Image.Image, original: Image.Image) -> Image.Image:
    """Twice the change of every colour, about mid-grey: what became redder is redder than grey.

    Parameters
    ----------
    edited, original : PIL image
        RGB, of one size.

    Returns
    -------
    PIL image
        Mid-grey where nothing has changed; a change of 64 levels or more is drawn as black or full.

    Raises
    ------
    InputError
        If the sizes differ.
    """
    if edited.size != original.size:
        raise InputError(f"the pictures have {edited.size} and {original.size} pixels; expected one size")
    change = np.asarray(edited.convert("RGB"), float) - np.asarray(original.convert("RGB"), float)
    return Image.fromarray(np.clip(np.rint(MIDDLE + GAIN * change), 0, 255).astype(np.uint8))
