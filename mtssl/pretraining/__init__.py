"""Views, workers, weightings and training; importing any room registers all weightings."""
from . import gradient_weighting
