"""A face drawn by code, so that no picture of a person is needed: dlib's detectors take it for one."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
FINE = 4  # drawn larger and shrunk


def draw_face(
    size: int = 256,
    skin: Colour = (205, 165, 140),
    hair: Colour = (60, 45, 35),
    wall: Colour = (120, 130, 140),
) -> Image.Image:
    """Frontal face in the proportions of the FFHQ crop, RGB."""
    side = size * FINE
    image = Image.new("RGB", (side, side), wall)
    pen = ImageDraw.Draw(image)
    shade = tuple(int(value * 0.72) for value in skin)
    light = tuple(min(255, int(value * 1.1)) for value in skin)

    def spot(x: float, y: float, radius_x: float, radius_y: float, colour: tuple[int, ...]) -> None:
        box = [(x - radius_x) * side, (y - radius_y) * side, (x + radius_x) * side, (y + radius_y) * side]
        pen.ellipse(box, fill=colour)

    def stroke(x: float, y: float, radius_x: float, radius_y: float, colour: Colour, width: float) -> None:
        box = [(x - radius_x) * side, (y - radius_y) * side, (x + radius_x) * side, (y + radius_y) * side]
        pen.arc(box, 195, 345, fill=colour, width=int(width * side))

    def shape(corners: list[tuple[float, float]], colour: tuple[int, ...]) -> None:
        pen.polygon([(x * side, y * side) for x, y in corners], fill=colour)

    spot(0.5, 0.45, 0.30, 0.36, hair)
    shape([(0.40, 0.8), (0.60, 0.8), (0.64, 1), (0.36, 1)], shade)  # neck
    spot(0.5, 1.15, 0.5, 0.25, (50, 60, 90))  # clothing
    spot(0.5, 0.54, 0.235, 0.34, skin)
    spot(0.5, 0.40, 0.20, 0.16, light)
    for x in (0.385, 0.615):
        spot(x, 0.475, 0.075, 0.05, shade)
        spot(x, 0.48, 0.05, 0.022, (240, 240, 240))
        spot(x, 0.48, 0.021, 0.022, (40, 30, 25))
        stroke(x, 0.478, 0.055, 0.033, (50, 35, 30), 0.012)  # lid
        stroke(x, 0.443, 0.075, 0.038, hair, 0.022)  # brow
    shape([(0.475, 0.49), (0.525, 0.49), (0.545, 0.62), (0.455, 0.62)], light)  # nose
    spot(0.5, 0.625, 0.05, 0.022, shade)
    for x in (0.475, 0.525):
        spot(x, 0.63, 0.014, 0.009, (90, 50, 45))
    spot(0.5, 0.735, 0.085, 0.026, (165, 75, 75))  # mouth
    pen.line([(0.42 * side, 0.735 * side), (0.58 * side, 0.735 * side)], fill=(90, 30, 30), width=side // 100)
    spot(0.5, 0.775, 0.06, 0.010, shade)
    smaller = image.resize((size, size), Image.Resampling.BOX)
    return smaller.filter(ImageFilter.GaussianBlur(size * 0.008))


def draw_landscape(width: int = 220, height: int = 180) -> Image.Image:
    """Sky above a field: no detector finds a face in it."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2] = (150, 190, 230)
    pixels[height // 2 :] = (90, 140, 60)
    return Image.fromarray(pixels)
