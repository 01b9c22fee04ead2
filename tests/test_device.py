"""What only a GPU would show, looked for without one: constants on the wrong device, and steps in which the host waits."""
import sys

import pytest
from conftest import root, run

torch = pytest.importorskip('torch')


def test_pretended_device():
    "Targets, views, workers, weightings, distortions, encoders, the training loop and embeddings on a device that is pretended"
    from torch.utils import backend_registration
    if not hasattr(backend_registration, '_setup_privateuseone_for_python_backend'): pytest.skip('This PyTorch cannot pretend a device in Python.')
    problems = run(sys.executable, root/'tests/pretend_device.py').stdout.split('\n')
    if any(problems): pytest.fail('\n'.join(filter(None, problems)), pytrace=False)
