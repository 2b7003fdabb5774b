"""Discrimination, accuracy and calibration of out-of-fold predictions."""
