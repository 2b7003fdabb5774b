"""Photographs into aligned chips: detection, landmarks, FFHQ crop, masks and quality."""

from stylegan_surv.faces.camera import Camera, photograph
from stylegan_surv.faces.chips import Chips
from stylegan_surv.faces.mask import face_mask

__all__ = ["Camera", "Chips", "face_mask", "photograph"]
