"""The mesh of 468 landmarks: a rough box, the crop, the points, and which way is up."""
