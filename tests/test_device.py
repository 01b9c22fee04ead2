"""What only a GPU would show, looked for without one: constants on the wrong device, and steps in which the host waits."""
import sys

import pytest
from conftest import root, run


def test_pretended_device():
    "Targets, views, workers, weightings, distortions, encoders, the training loop and embeddings on a device that is pretended"
    said = run(sys.executable, root/'tests/pretend_device.py').stdout.strip()
    if said.startswith('This PyTorch'): pytest.skip(said)
    if said: pytest.fail(said, pytrace=False)
