"""Shares: several processes at once, one of them killed; parts that are missing, unlike or joined halfway; memory that does not grow with the collection."""
import os, shutil, sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import killed, run

pytestmark = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='forks')


@pytest.fixture(scope='module')
def music(tmp_path_factory):
    "Sixty sounds of a second, two of them twice, and a broken one"
    folder, rng = tmp_path_factory.mktemp('music'), np.random.default_rng(0)
    for i in range(60):
        (folder/f'album{i % 7}').mkdir(exist_ok=True)
        soundfile.write(folder/f'album{i % 7}'/f'{i:02}.wav', rng.normal(0, .1, 8000 + i), 8000)
    for i in 7, 20: shutil.copy(folder/f'album{i % 7}'/f'{i:02}.wav', folder/f'copy{i}.wav')
    (folder/'broken.wav').write_bytes(b'no music')
    return folder


def kept(query, journal):
    import sqlite3
    try:
        with sqlite3.connect(f'file:{journal}?mode=ro', uri=True) as db: return db.execute(query).fetchone()[0]
    except sqlite3.Error: return 0


def test_stores_at_once(music, tmp_path, monkeypatch):
    "Share 1 of 3 is killed at work, while share 2 is built whole beside it; then each continues, and together they are what one build makes"
    import time
    from mtssl.core.shares import Share, part_path
    from mtssl.music.corpus import Corpus, build_corpus, check_corpus
    from mtssl.music.crops import RandomCrops
    from mtssl.music.joining import join_corpus
    from mtssl.music.store import StoreWriter
    store, add, beside = tmp_path/'store', StoreWriter.add, []
    build = lambda number, store=store, **kw: build_corpus(music, store, 8000, share=f'{number}/3', shard_samples=40_000, jobs=1, quiet=True, **kw)

    def hanging():
        monkeypatch.setattr(StoreWriter, 'interval', 0)
        monkeypatch.setattr(StoreWriter, 'add', lambda self, *args: time.sleep(600) if self.listed > 8 else add(self, *args))
        build(1)

    part = part_path(store, Share(1, 3))
    def six():
        if sum(p.stat().st_size for p in part.glob('*.i16')) < 6 * 16_000: return False
        if not beside:
            with pytest.raises(ValueError, match='Another process is writing'): build(1)
            beside.append(len(build(2)))
        return True

    killed(hanging, six)
    assert not (part/'manifest.parquet').exists() and beside[0] > 10
    with pytest.raises(ValueError, match='Shares 1, 3 of 3 are missing in .*, or unfinished: run `mtssl corpus build .* --share 1/3`'): join_corpus(store)
    with pytest.raises(ValueError, match='with sr=8000, and share 3/3 has sr=16000'): build_corpus(music, store, 16000, share='3/3', jobs=1)
    done = kept('select count(*) from tracks', part/'journal.sqlite')
    fresh = []
    monkeypatch.setattr(StoreWriter, 'add', lambda self, track, *args: (fresh.append(track.path), add(self, track, *args))[1])
    assert len(build(1)) > len(fresh) > 0 and done > 0, 'what was decoded before the kill is kept'
    fresh.clear()
    build(1), build(2)
    assert not fresh, 'a share that is run again has nothing to do'
    build(3)
    joined, plain = join_corpus(store), build_corpus(music, tmp_path/'plain', 8000, jobs=1, quiet=True)
    assert joined.manifest.drop(columns=['shard', 'offset']).equals(plain.manifest.drop(columns=['shard', 'offset'])) and len(plain) == 60
    assert joined.problem_counts == plain.problem_counts and {p.name.partition('-')[0] for p in store.iterdir()} == {'manifest.parquet', 'shard'}
    assert not len(check_corpus(store, quiet=True)) and all((joined.crop(i) == plain.crop(i)).all() for i in range(60))
    a, b = (RandomCrops(c, .3, seed=1).plan(2) for c in (Corpus(store), plain))
    assert all((x == y).all() for x, y in zip(a, b))


def test_a_join_that_is_killed(music, tmp_path, monkeypatch):
    "Before, between and after the moves of shards and while parts are removed: the same command goes on, to the same corpus"
    import mtssl.music.joining as joining
    from mtssl.music.corpus import build_corpus
    for number in (1, 2): build_corpus(music, tmp_path/'parts', 8000, share=f'{number}/2', shard_samples=100_000, jobs=1, quiet=True)
    whole = joining.join_corpus(shutil.copytree(tmp_path/'parts', tmp_path/'whole')).manifest

    class Killed(BaseException): pass

    def dying(patch, module, name, after):
        calls, real = [], getattr(module, name)
        def call(*args, **kw):
            calls.append(1)
            if len(calls) > after: raise Killed
            return real(*args, **kw)
        patch.setattr(module, name, call)

    for k, (module, name, after) in enumerate([(shutil, 'move', 0), (shutil, 'move', 2), (joining.StoreWriter, 'finish', 0), (joining.StoreWriter, '_export', 0), (shutil, 'rmtree', 1)]):
        store = Path(shutil.copytree(tmp_path/'parts', tmp_path/f'killed {k}'))
        with monkeypatch.context() as patch:
            dying(patch, module, name, after)
            with pytest.raises(Killed): joining.join_corpus(store)
        assert joining.join_corpus(store).manifest.equals(whole), name
        assert sorted(p.name for p in store.iterdir()) == sorted(p.name for p in (tmp_path/'whole').iterdir())


def test_embeddings_at_once(music, tmp_path, monkeypatch):
    "One share is killed, another is embedded beside it, and one cannot write: the others can be read; in the end all are, as from one machine"
    import time
    import pandas as pd
    import torch
    from mtssl.core.shares import Share
    from mtssl.embedding.collection import _Work, embed_collection
    from mtssl.embedding.neighbours import similar
    from mtssl.embedding.vector_files import part_files, read_embeddings
    from mtssl.encoding.encoder import encoders
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, out, beside = encoders.make('tcn(sr=11025, width=16, blocks=2)').eval(), tmp_path/'parts', []
    embed = lambda number=None, out=out, **kw: embed_collection(model, music, out, share=number and f'{number}/3', jobs=1, quiet=True, **kw)
    keep = _Work.keep

    def hanging():
        calls = iter(range(8))
        monkeypatch.setattr(_Work, 'keep', lambda *args: time.sleep(600) if next(calls, None) is None else keep(*args))
        embed(1)

    def six():
        if kept('select count(*) from kept', out/'part-00001-of-00003.parquet.journal'/'embeddings.sqlite') < 6: return False
        if not beside: beside.append(embed(2)['files'])
        return True

    killed(hanging, six)
    assert len(read_embeddings(part_files(out)[Share(2, 3)]).paths) == beside[0] > 10
    with pytest.raises(ValueError, match='Shares 1, 3 of 3 are missing in .*, or unfinished: run `mtssl embed MODEL FOLDER --out .* --share 1/3`'): read_embeddings(out)
    with pytest.raises(ValueError, match='with window=60.0, and share 3/3 has window=9.0'): embed(3, window=9.)
    again = embed(1)
    assert again['new'] <= again['files'] - 6 and embed(2)['new'] == 0
    embed(3), embed(out=tmp_path/'plain.parquet')
    parts, plain = read_embeddings(out), read_embeddings(tmp_path/'plain.parquet')
    assert parts.paths == plain.paths and len(plain.paths) == 62 and np.array_equal(parts.embeddings, plain.embeddings)
    assert sorted(os.listdir(out)) == ['_shares.json', *(f'part-0000{k}-of-00003.parquet' for k in (1, 2, 3))] and len(pd.read_parquet(out)) == 62
    found = [similar(model, source, music/'copy7.wav', 3)['tracks'] for source in (out, tmp_path/'plain.parquet')]
    assert found[0] == found[1] and found[0][0]['path'] == 'album0/07.wav'


def test_memory_is_flat(tmp_path):
    "Ten times as many tracks, in eight shares of a store and of embeddings, take no more memory to write, join, open, and list"
    code = r'''
import resource, sys
import numpy as np
from pathlib import Path
from mtssl.core.shares import Share, part_path
from mtssl.embedding.vector_files import Row, read_rows, write_parquet
from mtssl.music.joining import join_corpus
from mtssl.music.sources import Track
from mtssl.music.store import StoreWriter
about = dict(digest='0', mtssl='1', encoder={}, sr=8000, hop=1, layers=[0], window=60., average='frames', frames=False, size=256)
def build(root, n, of=8):
    facts, vector = dict(source_sr=8000, channels=1, format='WAV', peak=.5, levels=bytes(8)), np.ones(256, 'float32')
    (root/'vectors').mkdir(parents=True)
    for share in (Share(k, of) for k in range(1, of + 1)):
        with StoreWriter(part_path(root/'store', share), 8000, 2**27, about=dict(share=list(share), group='folder')) as writer:
            for i in range(share.number - 1, n, of):
                path = f'artist {i // 100:05}/album {i // 10:06}/track {i:07}.flac'
                writer.add(Track(path, f'/music/{path}', path[:26], 99, 0), i, np.ones(4, np.int16), facts | dict(digest=f'{i:032x}'))
            writer.finish(['/music'], {})
        write_parquet(part_path(root/'vectors', share, '.parquet'), (Row(f'{i:08}', 1, 1, '', vector) for i in range(share.number - 1, n, of)), about)
    assert len(join_corpus(root/'store', quiet=True)) == sum(1 for _ in read_rows(root/'vectors')) == n
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
build(Path(sys.argv[1])/'few', 2500)
build(Path(sys.argv[1])/'many', 25_000)
'''
    few, many = map(int, run(sys.executable, '-W', 'ignore', '-c', code, tmp_path).stdout.split())
    assert many < few + 30, f'2,500 tracks took {few} MB at most, 25,000 took {many} MB'
