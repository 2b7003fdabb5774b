"""The case-control study of faces: matched people, chips without background, a network, and what else explains it."""
