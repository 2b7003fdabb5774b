"""Checkpoints: our own, NVlabs, rosinality; the bundled zoo; what networks were trained on."""
