"""An exported encoder where this package is not: a fresh process with NumPy and ONNX Runtime alone."""
import sys, time

import numpy as np
import pytest
import torch
from conftest import killed, mtssl, run
from mtssl.app.cli import app
from mtssl.encoding.encoder import default_layers, encoders, pool
from mtssl.encoding.encoder import Encoder
from typer.testing import CliRunner

deployed = '''
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession('model.onnx')
known = session.get_modelmeta().custom_metadata_map
wave = numpy.load('wave.npy')
frames, embedding = session.run(None, {'wave': wave})
assert frames.shape == (len(wave), wave.shape[1] // int(known['hop']), int(known['dim'])), frames.shape
numpy.savez('found.npz', frames=frames, embedding=embedding)
assert not {'torch', 'librosa', 'mtssl', 'scipy'} & sys.modules.keys()
'''


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('export')
    torch.manual_seed(0)
    encoders.make('musicnn:tiny').save_pretrained(folder/'model')
    return folder


def test_deployed(installed, folder):
    "What the installed command writes runs without torch, to the encoder's numbers"
    done = mtssl(installed, 'export', 'model', cwd=folder)
    assert done.stdout.startswith('model.onnx: ') and not done.stderr, done.stderr
    wave = (.1 * np.random.default_rng(0).normal(size=(3, 30_001))).astype('float32')
    np.save(folder/'wave.npy', wave)
    run(installed.python, '-c', deployed, env=installed.env, cwd=folder)
    found = np.load(folder/'found.npz')
    with torch.no_grad(): layers = Encoder.from_pretrained(folder/'model', device='cpu').layers(torch.tensor(wave))
    wanted = dict(frames=layers[-1].mT, embedding=pool([layers[i] for i in default_layers(len(layers))]))
    for name, x in wanted.items(): assert np.abs(found[name] - x.numpy()).max() < 1e-4 * x.abs().max(), name


@pytest.mark.parametrize('out, absent, message', [('model.h5', None, 'neither in .onnx nor in .pt2'), ('new.onnx', 'onnxscript', 'needs onnxscript: pip install "onnxscript>=')])
def test_one_sentence(out, absent, message, folder, monkeypatch):
    "Another ending, or a missing extra"
    if absent: monkeypatch.setitem(sys.modules, absent, None)
    done = CliRunner().invoke(app, ['export', str(folder/'model'), '--out', str(folder/out)])
    assert done.exit_code == 1 and message in done.stderr and len(done.stderr.strip().splitlines()) == 1 and not (folder/out).exists(), done.output


def test_killed(folder, tmp_path):
    "While it records, and in the instant before the file takes its place: there is no file, and nothing that hinders the next attempt"
    from mtssl.encoding import export
    torch.set_num_threads(1)
    encoder = Encoder.from_pretrained(folder/'model', device='cpu')
    begun, part = tmp_path/'begun', tmp_path/'model.pt2.part'

    def record():
        begun.touch()
        export.export_program(encoder, tmp_path/'model.pt2', device='cpu')
    killed(record, begun.exists)
    assert {p.name for p in tmp_path.iterdir()} == {'begun'}

    def write(content): export.write_atomically(tmp_path/'model.pt2', lambda path: (path.write_bytes(content), time.sleep(60)))
    killed(lambda: write(b'half'), lambda: part.exists() and part.stat().st_size == 4)
    assert not (tmp_path/'model.pt2').exists()
    export.write_atomically(tmp_path/'model.pt2', lambda path: path.write_bytes(b'whole'))
    assert (tmp_path/'model.pt2').read_bytes() == b'whole' and not part.exists()
