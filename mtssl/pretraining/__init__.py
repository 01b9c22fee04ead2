"""Views, workers, weightings and training; importing any room registers all weightings."""
from . import floors, gradient_weighting
