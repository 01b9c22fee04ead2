"""Labelled sets and probes; importing any room registers all sets."""
from . import public_sets, datasets
