"""Views, workers, weightings and training; importing any room registers all workers and weightings."""
from . import gradient_weighting, teacher
