"""Encoders and what is done with one; importing any room registers them all."""
from . import convolutional, pase, attention, saved
