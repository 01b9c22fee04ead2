"""Models from strangers: whatever is in the folder, loading ends with an encoder or with one sentence, and runs nothing."""
import io, json, pickle, shutil
from pathlib import Path

import pytest
import torch
from conftest import python
from safetensors.torch import load_file, save_file

from mtssl.core.files import content_digest
from mtssl.encoding.encoder import encoders
from mtssl.encoding.encoder import Encoder
from mtssl.pretraining.runs import pretrain, resume

def smallest(name): return {'timm': 'timm:test_efficientnet'}.get(name, f'{name}:tiny' if 'tiny' in encoders[name].sizes else name)
specs = [smallest(name) for name in sorted(encoders)]
described = lambda name, **arguments: json.dumps(dict(encoder=dict(name=name, arguments=arguments)))


class Run:
    "What must not be made by reading"
    def __reduce__(self): return Path.touch, (self.path,)
    def __init__(self, path): self.path = path


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return encoders.make('tcn(width=16, blocks=2)').save_pretrained(tmp_path_factory.mktemp('models')/'good')


@pytest.fixture
def copy(model, tmp_path): return Path(shutil.copytree(model, tmp_path/'model'))


def sentence(load):
    "The one sentence that a wrong model ends with"
    with pytest.raises(ValueError) as caught: load()
    text = str(caught.value)
    assert text and '\n' not in text and len(text) < 800
    return text


@pytest.mark.parametrize('spec', specs)
def test_every_encoder_returns(spec, tmp_path):
    torch.manual_seed(0)
    encoder, wave = encoders.make(spec).eval(), torch.randn(2, 30_000)
    again = Encoder.from_pretrained(encoder.save_pretrained(tmp_path/'model'))
    assert type(again) is type(encoder) and not again.training and again.config == encoder.config
    with torch.no_grad(): assert torch.equal(again(wave), encoder(wave))


def test_files(copy):
    whole, weights = (copy/'model.safetensors').read_bytes(), load_file(copy/'model.safetensors')
    load = lambda: Encoder.from_pretrained(copy)
    for size in 0, 4, 1000, len(whole) - 1:
        (copy/'model.safetensors').write_bytes(whole[:size])
        assert 'damaged' in sentence(load)
    (copy/'model.safetensors').write_bytes((2**60).to_bytes(8, 'little') + whole[8:])
    assert 'damaged' in sentence(load)
    save_file({'bert.embeddings.weight': torch.zeros(3, 3)}, copy/'model.safetensors')
    assert 'does not hold the weights' in sentence(load)
    save_file(weights | {'encoder.stem.bias': torch.zeros(17)}, copy/'model.safetensors')
    assert 'encoder' in sentence(load)
    save_file({k: v for k, v in weights.items() if k != 'encoder.stem.bias'}, copy/'model.safetensors')
    assert 'stem.bias' in sentence(load)
    (copy/'model.safetensors').unlink()
    assert 'has no model.safetensors' in sentence(load)
    assert 'has no absent.safetensors' in sentence(lambda: Encoder.from_pretrained(copy, weights='absent.safetensors'))


@pytest.mark.parametrize('write', [pickle.dump, torch.save])
def test_pickles_are_not_opened(copy, tmp_path, write):
    with open(copy/'model.safetensors', 'wb') as file: write(Run(tmp_path/'ran'), file)
    assert 'not a safetensors file' in sentence(lambda: Encoder.from_pretrained(copy))
    assert not (tmp_path/'ran').exists()


@pytest.mark.parametrize('config', ['', '{"encoder"', '[]', '"tcn"', '\x00', '[' * 100_000, '{"model_type": "wav2vec2", "hidden_size": 768}', '{"encoder": "tcn"}', '{"encoder": {"name": ["tcn"], "arguments": {}}}',
    described('../../etc/passwd'), described('os.system'), described('tcn(width=16)'), described('timm:resnet18'), described('absent'), described('timm', model='hf-hub:owner/name'), described('timm', model='local-dir:/etc'),
    described('tcn', width='16'), described('tcn', width=-1), described('tcn', width=10**12), described('tcn', width=16, blocks=10**12), described('tcn', width=16, front_hop=0), described('tcn', code='import os'),
    described('tcn', width=1e400), described('tcn', width=None), described('musicnn', width=10**9), described('pase', width=10**9), described('transformer', blocks=10**9), described('pase')], ids=lambda c: c[:60])
def test_descriptions(copy, config):
    (copy/'config.json').write_text(config)
    sentence(lambda: Encoder.from_pretrained(copy))


def test_absent(tmp_path):
    for name in tmp_path/'absent', '../absent', 'a/b/c', 'a b': assert 'no folder' in sentence(lambda: Encoder.from_pretrained(name))
    assert 'could be had from the Hugging Face Hub' in sentence(lambda: Encoder.from_pretrained('no/such', cache_dir=tmp_path, local_files_only=True))
    (tmp_path/'empty').mkdir()
    assert 'no config.json' in sentence(lambda: Encoder.from_pretrained(tmp_path/'empty'))


def test_an_encoder_of_another_process(model, tmp_path):
    "A registered class is saved by a process that knows it, and its name is told in one that does not"
    program = '''
import torch
from fastcore.basics import store_attr
from mtssl.encoding.encoder import encoders
from mtssl.encoding.encoder import Encoder
@encoders.register('mine')
class Mine(Encoder):
    def __init__(self, sr=22_050, dim=4):
        super().__init__()
        store_attr()
        self.conv = torch.nn.Conv1d(1, dim, self.hop, self.hop)
    def frames(self, wave, analysis=None): return [self.conv(wave[:, None])]
Mine().save_pretrained('mine')
assert type(Encoder.from_pretrained('mine')) is Mine
'''
    python(program, cwd=tmp_path)
    assert "'mine', which is not registered here" in sentence(lambda: Encoder.from_pretrained(tmp_path/'mine'))


def same_content(path, data):
    "Does what PyTorch reads from the file equal what it reads from `data`?"
    return content_digest(torch.load(path, weights_only=True)) == content_digest(torch.load(io.BytesIO(data), weights_only=True))


def test_a_checkpoint_that_is_wrong(tmp_path, undrawn):
    "last.pt is read as weights only; one that is damaged, or of another run, is named"
    from mtssl.music.corpus import build_corpus
    from mtssl.music.synth.mix import synthesise
    corpus = build_corpus(((f'clip{i}', wave) for i, (wave, _) in enumerate(synthesise(12, 2., seed=0, jobs=1))), tmp_path/'corpus', quiet=True)
    pretrain(corpus, tmp_path/'run', encoder='tcn(width=8, blocks=1)', workers='mfcc', epochs=1, seconds=1.5, bs=2, crops_per_epoch=4, device='cpu', quiet=True)
    checkpoint, config = tmp_path/'run'/'checkpoints'/'last.pt', tmp_path/'run'/'config.json'
    good, settings = checkpoint.read_bytes(), config.read_text()
    config.write_text(settings.replace('"lr": 0.0015', '"lr": 0.0016'))
    assert settings != config.read_text() and 'is of another run' in sentence(lambda: resume(tmp_path/'run', device='cpu', quiet=True))
    config.write_text(settings)
    for byte in range(0, len(good), len(good) // 6):
        checkpoint.write_bytes(good[:byte] + bytes([good[byte] ^ 1]) + good[byte + 1:])
        try: resume(tmp_path/'run', device='cpu', quiet=True)
        except ValueError as error: assert str(error).startswith(str(checkpoint)) and '\n' not in str(error)
        else: assert same_content(checkpoint, good)
    checkpoint.write_bytes(good[:-100])
    assert 'damaged or not a checkpoint' in sentence(lambda: resume(tmp_path/'run', device='cpu', quiet=True))
    torch.save(Run(tmp_path/'ran'), checkpoint)
    assert 'damaged or not a checkpoint' in sentence(lambda: resume(tmp_path/'run', device='cpu', quiet=True))
    assert not (tmp_path/'ran').exists()
    (tmp_path/'run'/'statistics.safetensors').write_bytes(b'no')
    assert 'damaged' in sentence(lambda: pretrain(corpus, tmp_path/'next', start=tmp_path/'run', device='cpu', quiet=True))


def test_from_at_the_command_line(tmp_path):
    "mtssl pretrain --from a run, on other music, with other options"
    from mtssl.probing.datasets import save_set, synth
    save_set(synth(12, 4, 2., 22_050, jobs=1, quiet=True), tmp_path/'music', 22_050)
    pretrain(tmp_path/'music'/'train', tmp_path/'a', encoder='tcn(width=8, blocks=1)', workers='mfcc,onset', epochs=1, seconds=1.5, bs=2, crops_per_epoch=4, device='cpu', jobs=1, quiet=True)
    command = 'pretrain music/test --from a --out b --workers mfcc,chroma_cqt --lr 1e-4 --device cpu --jobs 1'
    done = python('from mtssl.app.cli import main; main()', *command.split(), check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path/'b'/'config.json').read_text())
    assert config['taken'] == dict(workers=['mfcc'], new=['chroma_cqt'], dropped=['onset'], weighting=False)
    assert (config['settings']['lr'], config['settings']['bs'], config['data']['name']) == (1e-4, 2, 'test')
    assert 'workers left behind: onset' in ' '.join(done.stdout.split()) and str(tmp_path) not in (tmp_path/'b'/'report.html').read_text()
