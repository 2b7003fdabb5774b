"""Photographs into aligned chips: detection, landmarks, FFHQ crop, masks, quality and duplicates."""

from stylegan_surv.faces.align import align
from stylegan_surv.faces.camera import Camera, photograph
from stylegan_surv.faces.chips import Chips
from stylegan_surv.faces.duplicates import same_person, same_picture
from stylegan_surv.faces.load import load_image
from stylegan_surv.faces.masks.outline import face_mask

__all__ = ["Camera", "Chips", "align", "face_mask", "load_image", "photograph", "same_person", "same_picture"]
