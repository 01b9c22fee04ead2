"""Embedding collections with the installed wheel: a messy folder, a kill, flat memory, tables for others, the most similar tracks."""
import json, sqlite3, time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from conftest import begun, broken, killed, mtssl, run
from mtssl.encoding.encoder import Encoder, encoders

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
    "Six hundred clips of 2 s, sixty of them in the folder `a`"
    folder, rng = tmp_path_factory.mktemp('many'), np.random.default_rng(0)
    for i in range(600):
        path = folder/('a' if i < 60 else 'b')/f'{i:04}.wav'
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
    process = begun(installed, 'embed', model, many, '--out', tmp_path/'killed.parquet', '--frames', '--jobs', 1, '--device', 'cpu', '--quiet')
    journal, end, kept = tmp_path/'killed.parquet.journal'/'embeddings.sqlite', time.time() + 120, 0
    while kept < 50:
        assert process.is_alive() and time.time() < end, 'it ended, or made no progress, before it could be killed'
        time.sleep(.02)
        try: kept, = sqlite3.connect(f'file:{journal}?mode=ro', uri=True).execute('select count(*) from kept').fetchone()
        except sqlite3.Error: pass
    process.kill()
    process.join()
    assert not (tmp_path/'killed.parquet').exists()
    done = run(installed.python, '-W', 'ignore', '-c', measured, model, many/'a', 'few.parquet', many, 'killed.parquet', many, 'whole.parquet', env=installed.env, cwd=tmp_path).stdout
    (*_, small), (files, new, _), (*whole, large) = (map(int, line.split()) for line in done.splitlines())
    assert files == 600 and new <= 600 - kept, f'of {kept} clips that were finished some were done again: {new} were done after the kill'
    assert whole == [600, 600]
    assert pq.read_table(tmp_path/'killed.parquet').equals(pq.read_table(tmp_path/'whole.parquet'))
    assert large - small < 15, f'60 clips took {small} MB at most, 600 took {large} MB'


def test_a_killed_folder_of_npys(model, many, tmp_path):
    "One npy per track: what is whole is kept, nothing is half written, and in the end all is as if nothing had happened"
    from mtssl.embedding.collection import embed_collection
    from mtssl.embedding.vector_files import read_embeddings
    torch.set_num_threads(1)
    embed = lambda out: embed_collection(model, many/'a', tmp_path/out, device='cpu', jobs=1, quiet=True)
    embed('whole')
    written = lambda: list((tmp_path/'killed').rglob('*.npy'))
    killed(lambda: embed('killed'), lambda: len(written()) >= 10)
    kept = {path: path.stat().st_mtime_ns for path in written()}
    assert 10 <= len(kept) < 60
    found = embed('killed')
    assert found['files'] == 60 and found['new'] <= 60 - len(kept) + 1 and sum(path.stat().st_mtime_ns == t for path, t in kept.items()) >= len(kept) - 1
    a, b = (read_embeddings(tmp_path/name) for name in ('whole', 'killed'))
    assert a.paths == b.paths and np.array_equal(a.embeddings, b.embeddings)
    files = [{p.relative_to(tmp_path/name) for p in (tmp_path/name).rglob('*')} for name in ('whole', 'killed')]
    assert files[0] == files[1] and not list(tmp_path.glob('*.journal'))


def test_a_killed_probe(model, tmp_path):
    "The embeddings that a probe had finished are not made again, and the scores are those of an undisturbed probe"
    from mtssl.probing.baselines import embed_set
    from mtssl.probing.datasets import synth
    from mtssl.probing.probes import probe_all
    from mtssl.probing.saved_results import save_results
    torch.set_num_threads(1)
    dataset, encoder, encoded = synth(40, 20, 1., jobs=1, quiet=True), Encoder.from_pretrained(model, device='cpu'), []
    layers = encoder.layers
    encoder.layers = lambda wave, *rest: encoded.extend(wave) or layers(wave, *rest)

    def probe(name):
        vectors = embed_set(encoder, dataset, cache=tmp_path/name/'embeddings', bs=1, quiet=True)
        save_results(probe_all({'model': vectors}, dataset, ['style'], 'knn(k=(5,))'), tmp_path/name)

    def kept():
        try: return sqlite3.connect(f"file:{tmp_path/'killed'/'embeddings'/'embeddings.sqlite'}?mode=ro", uri=True).execute('select count(*) from kept').fetchone()[0]
        except sqlite3.Error: return 0
    probe('whole')
    killed(lambda: probe('killed'), lambda: kept() >= 5)
    before = kept()
    assert len(encoded) == 60 and 5 <= before < 60 and not (tmp_path/'killed'/'scores.csv').exists()
    probe('killed')
    assert len(encoded) == 60 + 60 - before
    assert (tmp_path/'killed'/'scores.csv').read_text() == (tmp_path/'whole'/'scores.csv').read_text()


def test_damaged_journal(model, tmp_path):
    "A journal that is cut, overwritten or changed anywhere: the work is done again as far as it is lost, or one sentence says what to remove"
    import random, shutil
    from mtssl.embedding.collection import embed_collection
    from mtssl.encoding.encoder import Encoder
    encoder, songs = Encoder.from_pretrained(model), tmp_path/'songs'
    songs.mkdir()
    for i in range(6): soundfile.write(songs/f'{i}.wav', .1 * np.random.default_rng(i).normal(size=22_050), 22_050)
    embed = lambda out: embed_collection(encoder, songs, tmp_path/out, jobs=1, quiet=True)
    embed('whole.npz')
    whole, journal = np.load(tmp_path/'whole.npz')['embeddings'], tmp_path/'part.npz.journal'
    (songs/'6.wav').write_bytes((songs/'5.wav').read_bytes())

    def stop(*_, **__): raise KeyboardInterrupt
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mtssl.embedding.collection.write_npz', stop)
        with pytest.raises(KeyboardInterrupt): embed('part.npz')
    shutil.copytree(journal, tmp_path/'kept')
    data, rng, again = (journal/'embeddings.sqlite').read_bytes(), random.Random(0), 0
    flipped = [data[:i] + bytes([data[i] ^ 1 << rng.randrange(8)]) + data[i + 1:] for i in rng.sample(range(len(data)), 6)]
    for damaged in (b'', b'music' * 100, data[:len(data) // 2], data[:100] + bytes(2000) + data[2100:], *flipped):
        shutil.rmtree(journal, ignore_errors=True)
        shutil.copytree(tmp_path/'kept', journal)
        for file in journal.glob('embeddings.sqlite-*'): file.unlink()
        (journal/'embeddings.sqlite').write_bytes(damaged)
        try: embed('part.npz')
        except (OSError, ValueError) as e:
            assert str(journal) in str(e) and len(str(e).splitlines()) == 1, repr(e)
            again += 1
            continue
        assert np.array_equal(np.load(tmp_path/'part.npz')['embeddings'][:6], whole)
        (tmp_path/'part.npz').unlink()
    assert again < 5, 'most damage should be mended'


def test_weights_that_are_no_numbers(installed, model, music, tmp_path):
    import safetensors.torch, shutil
    bad = shutil.copytree(model, tmp_path/'bad')
    weights, = bad.glob('*.safetensors')
    tensors = safetensors.torch.load_file(weights)
    next(t for t in tensors.values() if t.is_floating_point()).view(-1)[0] = float('nan')
    safetensors.torch.save_file(tensors, weights)
    done = mtssl(installed, 'embed', bad, music, '--out', tmp_path/'all.npz', '--device', 'cpu', check=False)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1 and not (tmp_path/'all.npz').exists(), done.stderr
