"""Labelled sets and probes; importing any room registers all sets."""
from . import datasets, free_sets, instrument_sets, key_tempo_sets, tagging_sets
