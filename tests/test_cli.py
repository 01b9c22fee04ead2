"""The command line of the installed wheel: a folder of any music, broken files, power cuts, the demo."""
import json, os, signal, subprocess, time

import numpy as np
import pytest
import soundfile
from conftest import run

tiny = ['--encoder', 'tcn(width=16, blocks=2)', '--workers', 'mfcc,chroma_cqt,clip(mfcc)', '--seconds', '2', '--bs', '4', '--device', 'cpu', '--quiet']
broken = {'empty.wav': 'empty', 'truncated.wav': 'truncated', 'renamed.mp3': 'not audio', 'nan.wav': 'NaN', 'silent.wav': 'silent'}


def tune(seconds, sr, seed):
    "Three gliding partials and a little noise, float32 [T]"
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * sr)) / sr
    partials = sum(np.sin(2 * np.pi * (f * t + 5 * np.sin(t))) for f in rng.uniform(100, 1000, 3))
    return (.2 * partials * (1 + np.sin(2 * np.pi * 2 * t)) / 3 + .01 * rng.normal(size=len(t))).astype('float32')


@pytest.fixture(scope='module')
def music(tmp_path_factory):
    "Thirty files as people have them: four formats, mono to 5.1, 8 to 48 kHz, one of 0.2 s, five broken ones, two levels of folders"
    folder = tmp_path_factory.mktemp('music')
    for i in range(24):
        path = folder/f'artist{i % 3}'/f'album{i % 2}'/f'{i:02}.{("wav", "flac", "ogg", "mp3")[i % 4]}'
        path.parent.mkdir(parents=True, exist_ok=True)
        sr, wave = (44_100, 48_000, 22_050)[i % 3], tune(4 + i % 5, (44_100, 48_000, 22_050)[i % 3], i)
        soundfile.write(path, wave if i % 2 else np.stack([wave, -.5 * wave], 1), sr)
    soundfile.write(folder/'mono8.wav', tune(5, 8_000, 30), 8_000)
    soundfile.write(folder/'surround.flac', np.stack([tune(5, 48_000, 31)] * 6, 1), 48_000)
    soundfile.write(folder/'short.wav', tune(.2, 44_100, 32), 44_100)
    (folder/'empty.wav').touch()
    soundfile.write(folder/'whole.wav', tune(5, 44_100, 33), 44_100)
    (folder/'truncated.wav').write_bytes((folder/'whole.wav').read_bytes()[:100_000])
    (folder/'whole.wav').unlink()
    (folder/'renamed.mp3').write_text('These are notes, though not the kind one hears.\n' * 50)
    nan = tune(3, 44_100, 34)
    nan[1000] = np.nan
    soundfile.write(folder/'nan.wav', nan, 44_100, subtype='FLOAT')
    soundfile.write(folder/'silent.wav', np.zeros(44_100), 44_100)
    return folder


def mtssl(installed, *words, **kw): return run(installed.mtssl, *words, env=installed.env, **kw)


def test_own_music(installed, music, tmp_path):
    done = mtssl(installed, 'pretrain', music, '--out', 'run', '--epochs', 2, *tiny, cwd=tmp_path)
    for name, reason in broken.items():
        lines = [l for l in done.stderr.splitlines() if name in l]
        assert lines and reason.lower() in lines[0].lower(), f'{name} should be left out because it is {reason}; it said: {lines or done.stderr}'
    assert '5 files were left out' in done.stderr, done.stderr
    wanted = {'config.json', 'model.safetensors', 'statistics.safetensors', 'history.csv', 'cosines.csv', 'report.html', 'checkpoints', 'corpus'}
    assert wanted == {p.name for p in (tmp_path/'run').iterdir()}

    manifest = (tmp_path/'run'/'corpus'/'manifest.parquet').read_bytes()
    done = run(installed.mtssl, 'pretrain', music/'artist0', '--out', 'run', *tiny, env=installed.env, cwd=tmp_path, check=False)
    assert done.returncode == 1 and 'already holds a run' in done.stderr, done.stderr
    assert (tmp_path/'run'/'corpus'/'manifest.parquet').read_bytes() == manifest, 'a refused run changed the corpus of the one that is there'

    done = mtssl(installed, 'embed', 'run', music, '--out', 'all.npz', '--quiet', cwd=tmp_path)
    found = np.load(tmp_path/'all.npz')
    assert all(name in done.stderr for name in broken if name != 'silent.wav'), done.stderr
    paths = found['paths'].tolist()
    assert paths == sorted(paths) and {'short.wav', 'surround.flac', 'artist0/album0/00.wav'} <= set(paths) and not set(paths) & (set(broken) - {'silent.wav'})
    assert found['embeddings'].shape[0] == len(paths) >= 27 and found['embeddings'].dtype == np.float32 and np.isfinite(found['embeddings']).all()

    mtssl(installed, 'embed', 'run', music/'artist0', '--out', 'part.npz', '--quiet', cwd=tmp_path)
    part = np.load(tmp_path/'part.npz')
    rows = [paths.index(f'artist0/{p}') for p in part['paths']]
    assert np.allclose(part['embeddings'], found['embeddings'][rows], atol=1e-5), 'embeddings depend on the other files in the folder'


def test_killed_and_resumed(installed, music, tmp_path):
    words = [installed.mtssl, 'pretrain', music, '--epochs', '6', '--crops-per-epoch', '24', *tiny, '--out']
    run(*words, 'whole', env=installed.env, cwd=tmp_path)
    process = subprocess.Popen([*words, 'killed'], env=installed.env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    history, end = tmp_path/'killed'/'history.csv', time.time() + 120
    while not (history.exists() and len(history.read_text().splitlines()) > 2):
        assert process.poll() is None and time.time() < end, 'the run ended, or made no progress, before it could be killed'
        time.sleep(.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    epochs = len(history.read_text().splitlines()) - 1
    assert epochs < 6, 'the run was killed too late to test anything'
    mtssl(installed, 'pretrain', '--resume', '--out', 'killed', '--quiet', '--device', 'cpu', cwd=tmp_path)
    assert history.read_text() == (tmp_path/'whole'/'history.csv').read_text(), 'a resumed run is not the run it would have been'
    assert history.with_name('model.safetensors').read_bytes() == (tmp_path/'whole'/'model.safetensors').read_bytes()
    assert not list((tmp_path/'killed').rglob('*.part'))


def test_demo(installed, tmp_path):
    done = mtssl(installed, 'demo', '--quick', '--out', 'demo', cwd=tmp_path)
    report, lines = json.loads((tmp_path/'demo'/'report.json').read_text()), done.stdout.strip().splitlines()
    assert lines[-1].strip() == os.path.join('demo', 'report.html')
    rows = list(dict.fromkeys(s['features'] for s in report['scores']))
    assert len(rows) == 7 and {'chance', 'MFCC statistics', 'log-mel statistics', 'hand-crafted features together'} < set(rows)
    assert {s['task'] for s in report['scores']} == {'instrument', 'style', 'tempo', 'key', 'mean'}
    assert all(0 <= s['low'] <= s['value'] <= s['high'] <= 1 for s in report['scores'])
    page = (tmp_path/'demo'/'report.html').read_text()
    assert page.count('data:image/png;base64,') >= 4 and 'http://' not in page and '<script' not in page
    assert 'Warning' not in done.stderr, done.stderr


def test_probe_own_labels(installed, tmp_path):
    mtssl(installed, 'synth', '--out', 'music', '--train', 40, '--test', 20, '--seconds', 2, '--quiet', cwd=tmp_path)
    mtssl(installed, 'pretrain', 'music', '--out', 'run', '--epochs', 1, *tiny, cwd=tmp_path)
    done = mtssl(installed, 'probe', 'run', 'music/labels.csv', '--out', 'probes', '--quiet', cwd=tmp_path)
    assert all(name in done.stdout for name in ('chance', 'instrument', 'mean')), done.stdout
    assert len((tmp_path/'probes/scores.csv').read_text().splitlines()) == 1 + 6 * 5


@pytest.mark.parametrize('words, message', [
    (['pretrain'], 'Name a folder'), (['pretrain', 'nowhere'], 'nowhere'), (['embed', 'nowhere', '.'], 'is not a run'),
    (['info', 'flavours'], 'there are targets'), (['pretrain', '.', '--out', 'run'], 'no audio file'),
    (['pretrain', '--resume', '--out', 'nowhere'], 'is not a run')])
def test_wrong_input(words, message, installed, tmp_path):
    done = run(installed.mtssl, *words, env=installed.env, cwd=tmp_path, check=False)
    assert done.returncode == 1 and message in done.stderr and 'Traceback' not in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_wrong_names(installed, music, tmp_path):
    for option, name, message in ('--encoder', 'resnet', 'no encoder named'), ('--workers', 'mffc', 'no worker named'), ('--weighting', 'fair', 'no weighting named'):
        done = run(installed.mtssl, 'pretrain', music, '--out', 'run', option, name, '--quiet', env=installed.env, cwd=tmp_path, check=False)
        assert done.returncode == 1 and message in done.stderr and 'Traceback' not in done.stderr, done.stderr
