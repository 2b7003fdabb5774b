"""dlib's detectors, its 68 landmarks and its face recogniser."""
