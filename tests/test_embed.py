"""Embedding collections with the installed wheel: a messy folder, a kill, flat memory, tables for others, the most similar tracks."""
import json, signal, sqlite3, subprocess, time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from conftest import broken, mtssl, run
from mtssl.encoding.encoder import encoders

measured = '''
import resource, sys
from mtssl.embedding.collection import embed_collection
model, *jobs = sys.argv[1:]
for folder, out in zip(jobs[::2], jobs[1::2]):
    found = embed_collection(model, folder, out, frames=True, jobs=1, quiet=True)
    print(found['files'], found['new'], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
'''


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    torch.manual_seed(0)
    return encoders.make('tcn(width=128, blocks=2)').eval().save_pretrained(tmp_path_factory.mktemp('model')/'tcn')


@pytest.fixture(scope='module')
def many(tmp_path_factory):
    "A thousand clips of 2 s, a hundred of them in the folder `a`"
    folder, rng = tmp_path_factory.mktemp('many'), np.random.default_rng(0)
    for i in range(1000):
        path = folder/('a' if i < 100 else 'b')/f'{i:04}.wav'
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, .1 * rng.normal(size=44_100).astype('float32'), 22_050)
    return folder


def test_messy_folder(installed, model, music, tmp_path):
    embed = lambda *words: json.loads(mtssl(installed, 'embed', model, music, *words, '--device', 'cpu', '--json', cwd=tmp_path).stdout)
    found = embed('--out', 'all.parquet')
    assert set(found['left_out']) == set(broken) and all(reason.lower() in found['left_out'][name].lower() for name, reason in broken.items())
    assert found['files'] == found['new'] == 27

    table = pq.read_table(tmp_path/'all.parquet')
    about = json.loads(table.schema.metadata[b'mtssl'])
    assert table.schema.field('embedding').type == pa.list_(pa.float32(), found['size']) and (about['sr'], about['frames']) == (22_050, False)
    paths = table['path'].to_pylist()
    assert paths == sorted(paths) and {'short.wav', 'surround.flac', 'artist0/album0/00.wav'} < set(paths)
    assert np.isfinite(np.stack(table['embedding'].to_numpy())).all() and not list(tmp_path.glob('*.journal'))

    again = embed('--out', 'all.parquet')
    assert (again['files'], again['new']) == (27, 0)

    wave, sr = soundfile.read(music/'artist0'/'album0'/'00.wav')
    soundfile.write(tmp_path/'copy.mp3', wave[:, 0], sr)
    tracks = json.loads(mtssl(installed, 'similar', model, 'all.parquet', 'copy.mp3', '-n', 3, '--device', 'cpu', '--json', cwd=tmp_path).stdout)['tracks']
    assert tracks[0]['path'] == 'artist0/album0/00.wav' and len(tracks) == 3, tracks


def test_killed_and_resumed_in_flat_memory(installed, model, many, tmp_path):
    process = subprocess.Popen([installed.mtssl, 'embed', model, many, '--out', tmp_path/'killed.parquet', '--frames', '--jobs', '1', '--device', 'cpu', '--quiet'], env=installed.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, end, kept = tmp_path/'killed.parquet.journal'/'embeddings.sqlite', time.time() + 120, 0
    while kept < 50:
        assert process.poll() is None and time.time() < end, 'it ended, or made no progress, before it could be killed'
        time.sleep(.02)
        try: kept, = sqlite3.connect(f'file:{journal}?mode=ro', uri=True).execute('select count(*) from kept').fetchone()
        except sqlite3.Error: pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path/'killed.parquet').exists()
    done = run(installed.python, '-W', 'ignore', '-c', measured, model, many/'a', 'few.parquet', many, 'killed.parquet', many, 'whole.parquet', env=installed.env, cwd=tmp_path).stdout
    (*_, small), (files, new, _), (*whole, large) = (map(int, line.split()) for line in done.splitlines())
    assert files == 1000 and new <= 1000 - kept, f'of {kept} clips that were finished some were done again: {new} were done after the kill'
    assert whole == [1000, 1000]
    assert pq.read_table(tmp_path/'killed.parquet').equals(pq.read_table(tmp_path/'whole.parquet'))
    assert large - small < 15, f'100 clips took {small} MB at most, 1000 took {large} MB'
