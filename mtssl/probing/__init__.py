"""Labelled sets and probes; importing any room registers all sets."""
from ..music import free_music
from . import datasets, instrument_sets, key_tempo_sets, tagging_sets
