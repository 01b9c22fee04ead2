"""Views, workers, weightings and training; importing any room registers all workers and weightings."""
from . import floors, gradient_weighting, teacher
