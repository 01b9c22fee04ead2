"""What a notebook cannot show of a corpus: builds that are killed, decoders that crash, full disks, two builds at once, every kind of broken file."""
import os, re, resource, shutil, signal, sqlite3, struct, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import mtssl, run

linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='looks into /proc, and forks')


@pytest.fixture(scope='module')
def music(tmp_path_factory):
    "Five hundred files of noise in ten folders, half a second each"
    folder, rng = tmp_path_factory.mktemp('music'), np.random.default_rng(0)
    for i in range(500):
        (folder/f'album{i % 10}').mkdir(exist_ok=True)
        soundfile.write(folder/f'album{i % 10}'/f'{i:03}.flac', rng.normal(0, .1, 24000), 48000)
    return folder


def start(music, store):
    "A build in another process, of 10 ms a track at least, so that there is time to interrupt it"
    code = ('import time; from mtssl.music.corpus import build_corpus; from mtssl.music.store import StoreWriter\n'
            'add, StoreWriter.interval = StoreWriter.add, .1\n'
            'StoreWriter.add = lambda *args: (add(*args), time.sleep(.01))\n'
            f'build_corpus({str(music)!r}, {str(store)!r}, jobs=2, shard_samples=1_000_000)')
    return subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def wait_for(condition, what, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, f'{what} did not happen within {seconds} s'
        time.sleep(.02)


def stored(store): return sum(p.stat().st_size for p in Path(store).glob('*.i16'))


def journalled(store):
    "How many tracks the journal of a build that has stopped knows"
    with sqlite3.connect(store/'journal.sqlite') as db: return db.execute('select count(*) from tracks').fetchone()[0]


def children(pid): return [int(p) for p in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def alive(pid):
    try: return re.search(r'State:\s+(\w)', Path(f'/proc/{pid}/status').read_text())[1] != 'Z'
    except FileNotFoundError: return False


@linux
def test_interrupted_twice(music, tmp_path):
    "Stopped, so that its lock is seen, and killed; then stopped by Ctrl-C; then brought to its end"
    from mtssl.music.corpus import Corpus, build_corpus, check_corpus
    store, done = tmp_path/'store', 0
    for sign in signal.SIGKILL, signal.SIGINT:
        build, before = start(music, store), stored(store)
        wait_for(lambda: stored(store) > before + 2_000_000, 'progress')  # some 90 tracks
        time.sleep(.3)  # so that something is journalled even before a kill
        if sign == signal.SIGKILL:
            build.send_signal(signal.SIGSTOP)
            with pytest.raises(ValueError, match='Another process is writing'): build_corpus(music, store, quiet=True)
        workers = children(build.pid)
        build.send_signal(sign)
        assert build.wait(timeout=60) != 0
        assert workers and done < journalled(store) < 500
        done = journalled(store)
        wait_for(lambda: not any(map(alive, workers)), 'the end of every worker', 20)
        with pytest.raises(ValueError, match='unfinished'): Corpus(store)
    corpus, whole = build_corpus(music, store, quiet=True, shard_samples=1_000_000), build_corpus(music, tmp_path/'whole', quiet=True, shard_samples=1_000_000)
    assert corpus.manifest.equals(whole.manifest) and len(corpus) == 500 and not len(check_corpus(store, quiet=True))
    for shard in sorted(p.name for p in (tmp_path/'whole').glob('*.i16')): assert (store/shard).read_bytes() == (tmp_path/'whole'/shard).read_bytes()
    assert {p.name for p in store.iterdir()} == {p.name for p in (tmp_path/'whole').iterdir()}


def limit(size): return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@linux
def test_full_disk(music, tmp_path, installed):
    "A limit on the size of files fails a write in its middle, as a full disk does"
    store, words = tmp_path/'store', [installed.mtssl, 'corpus', 'build', music, '--out', tmp_path/'store', '--quiet']
    done = subprocess.run([str(w) for w in words], env=installed.env, capture_output=True, text=True, preexec_fn=limit(3_000_000))
    assert done.returncode == 1 and done.stderr.startswith('mtssl: The disk is full after') and f'in {store};' in done.stderr and done.stderr.count('\n') == 1, done.stderr
    assert 0 < journalled(store) < 500
    mtssl(installed, *words[1:])
    from mtssl.music.corpus import Corpus, check_corpus
    assert len(Corpus(store)) == 500 and not len(check_corpus(store, quiet=True)) and not (store/'journal.sqlite').exists()


def _crashing(path, sr, data, least):
    from mtssl.music.audio import AudioError
    if path.endswith('7'): os.kill(os.getpid(), signal.SIGKILL)
    if path.endswith('5'): raise AudioError(path, 'empty, 0 bytes')
    if path.endswith('4'): raise MemoryError('no room')
    return np.ones(int(path), np.int16), {}


@linux
def test_crashing_decoder(monkeypatch):
    import mtssl.music.decoding as decoding
    monkeypatch.setattr(decoding, 'decode_track', _crashing)
    results = list(decoding.decode_tracks([str(i) for i in range(1, 31)], jobs=2))
    assert [p for p, _, _ in results] == [str(i) for i in range(1, 31)]
    for path, samples, facts in results:
        problem = {'7': 'the decoder crashed on it', '5': 'empty, 0 bytes', '4': 'MemoryError, no room'}.get(path[-1])
        assert facts.get('problem') == problem and (problem or len(samples) == int(path))


def noise(i, seconds=1, sr=22050): return np.random.default_rng(i).normal(0, .1, int(seconds * sr)).astype('float32')


def header(channels, frames=1000):
    "A wav file whose header says that it has so many channels"
    body = struct.pack('<4sIHHIIHH4sI', b'fmt ', 16, 1, channels, 22050, 22050 * 2 * channels, 2 * channels, 16, b'data', 2 * frames) + bytes(2 * frames)
    return b'RIFF' + struct.pack('<I', 4 + len(body)) + b'WAVE' + body


@pytest.fixture
def bad():
    "A folder of every kind of bad input; what the manifest must say of each; the names of those that are only unusual"
    out = Path(tempfile.mkdtemp())
    folder, nan, infinite = out/'bad', noise(1), noise(2)
    (folder/'locked').mkdir(parents=True)
    nan[99], infinite[99] = np.nan, np.inf
    def write(name, wave, sr=22050, **kw): soundfile.write(os.fsencode(folder/name), wave, sr, **kw)
    for i, kind in enumerate(('wav', 'flac', 'ogg', 'mp3', 'aiff')):
        write(f'whole.{kind}', noise(10 + i))
        data = (folder/f'whole.{kind}').read_bytes()
        (folder/f'cut.{kind}').write_bytes(data[:len(data) * 6 // 10])
    (folder/'empty.mp3').touch()
    (folder/'text.flac').write_text('not music\n' * 99)
    (folder/'zero channels.wav').write_bytes(header(0))
    write('nan.wav', nan, subtype='FLOAT')
    write('infinite.wav', infinite, subtype='FLOAT')
    write('silent.flac', np.zeros(22050))
    write('inaudible.wav', 1e-7 * noise(3), subtype='FLOAT')
    write('0.1 s.wav', noise(4, .1))
    write('192 kHz.flac', noise(5, sr=192_000), 192_000)
    write('8 channels.wav', np.stack([noise(6)] * 8, 1))
    write('[bold]ünï\ncode/ "quotes" & \\x.wav'.replace('/', '∕'), noise(7))
    write(os.fsdecode(b'not utf-8 \xff.wav'), noise(8))
    (folder/'dangling.wav').symlink_to(folder/'gone.wav')
    (folder/'folder.wav').mkdir()
    os.mkfifo(folder/'pipe.wav')
    shutil.copy(folder/'whole.wav', folder/'zz copy.wav')
    write('unreadable.wav', noise(9))
    write('locked/inside.wav', noise(20))
    os.chmod(folder/'unreadable.wav', 0)
    os.chmod(folder/'locked', 0)
    expected = {'empty.mp3': 'empty', 'text.flac': 'not audio', 'zero channels.wav': 'it has no channels', 'nan.wav': 'it holds samples that are NaN',
                'infinite.wav': 'it holds samples that are NaN or infinite', 'silent.flac': 'silent', 'inaudible.wav': 'silent', 'dangling.wav': 'a link to a file that is gone',
                'pipe.wav': 'a pipe or a device', 'zz copy.wav': 'duplicate, the same sound as whole.wav', 'unreadable.wav': 'no permission', 'locked': 'no permission to read this folder',
                **{f'cut.{k}': 'truncated' for k in ('wav', 'flac', 'ogg', 'mp3', 'aiff')}}
    usable = {'0.1 s.wav', '192 kHz.flac', '8 channels.wav', '[bold]ünï\\x0acode∕ "quotes" & \\x.wav', 'not utf-8 \\xff.wav', *(f'whole.{k}' for k in ('wav', 'flac', 'ogg', 'mp3', 'aiff'))}
    os.chmod(out, 0o777)
    yield folder, expected, usable
    os.chmod(folder/'locked', 0o700)
    shutil.rmtree(out)


@linux
def test_every_bad_input(bad):
    from mtssl.music.corpus import Corpus
    from mtssl.music.crops import RandomCrops
    folder, expected, usable = bad
    code = ('import os, sys; from mtssl.music.corpus import build_corpus\n'
            'if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)  # permissions do not bind root\n'
            'print(sum(build_corpus(sys.argv[1], sys.argv[2], jobs=1, quiet=True).problem_counts.values()))')
    done = run(sys.executable, '-c', code, folder, folder.parent/'store')
    corpus = Corpus(folder.parent/'store')
    problems = dict(zip(corpus.problems.path, corpus.problems.problem))
    assert set(problems) == set(expected) and int(done.stdout) == len(expected), set(problems) ^ set(expected)
    for name, reason in expected.items(): assert problems[name].startswith(reason), (name, problems[name])
    assert set(corpus.tracks.path) == usable
    facts = corpus.tracks.set_index('path')
    assert facts.source_sr['192 kHz.flac'] == 192_000 and facts.channels['8 channels.wav'] == 8 and abs(facts.seconds['0.1 s.wav'] - .1) < .001
    wave, _ = RandomCrops(corpus, seconds=.5)[range(5)]
    assert np.isfinite(wave.numpy()).all() and wave.abs().amax(1).min() > 0


def test_file_deleted_meanwhile(music, tmp_path):
    from mtssl.music.corpus import build_corpus
    folder = Path(shutil.copytree(music/'album1', tmp_path/'music'))
    last = sorted(folder.iterdir())[-1]
    corpus = build_corpus(folder, tmp_path/'store', jobs=1, quiet=True, group=lambda name: last.unlink(missing_ok=True) or 'all')  # listed, then gone
    assert corpus.problems.problem.tolist() == ['there is no such file'] and corpus.problems.path.tolist() == [last.name]


def test_from_every_source(tmp_path):
    "The same eight sounds as a folder, a list, a table, a Hugging Face data set and tar shards: the same samples and crops"
    import tarfile
    from datasets import Audio, Dataset
    from mtssl.music.crops import RandomCrops
    from mtssl.music.corpus import build_corpus
    (tmp_path/'music').mkdir()
    names = [f'{i:02}.flac' for i in range(8)]
    for i, name in enumerate(names): soundfile.write(tmp_path/'music'/name, noise(i), 22050)
    (tmp_path/'list.txt').write_text('\n'.join(f'music/{n}' for n in names))
    (tmp_path/'table.csv').write_text('path,group\n' + '\n'.join(f'music/{n},g{i // 2}' for i, n in enumerate(names)))
    audio = [dict(bytes=(tmp_path/'music'/n).read_bytes(), path=n) for n in names]
    Dataset.from_dict(dict(audio=audio, group=[f'g{i // 2}' for i in range(8)])).cast_column('audio', Audio()).save_to_disk(tmp_path/'published')
    for k in range(2):
        with tarfile.open(tmp_path/f'shard{k}.tar', 'w') as shard:
            for n in names[4 * k:4 * k + 4]: shard.add(tmp_path/'music'/n, n)
    sources = dict(folder=tmp_path/'music', list=tmp_path/'list.txt', table=tmp_path/'table.csv', published=tmp_path/'published', shards=[tmp_path/'shard0.tar', tmp_path/'shard1.tar'])
    corpora = {k: build_corpus(s, tmp_path/f'{k} store', jobs=1, quiet=True) for k, s in sources.items()}
    wanted = RandomCrops(corpora['folder'], seconds=.3, seed=3)[range(20)]
    for kind, corpus in corpora.items():
        assert corpus.tracks.digest.tolist() == corpora['folder'].tracks.digest.tolist(), kind
        assert all((a == b).all() for a, b in zip(wanted, RandomCrops(corpus, seconds=.3, seed=3)[range(20)])), kind
        again = build_corpus(sources[kind], tmp_path/f'{kind} store', jobs=1, quiet=True)
        assert again.tracks.equals(corpus.tracks), kind
    assert corpora['table'].tracks.group.tolist() == corpora['published'].tracks.group.tolist() == [f'g{i // 2}' for i in range(8)]
    assert corpora['shards'].tracks.group.tolist() == [f'shard{i // 4}.tar/{i:02}' for i in range(8)]


def test_crops_do_not_depend_on_processes(music, tmp_path):
    "Built by one process and cropped in this one, built by three and cropped by two workers of a new one"
    code = ('import hashlib, sys; from mtssl.music.corpus import *; from mtssl.music.crops import *\n'
            'def digest(store, jobs, workers):\n'
            '    corpus = build_corpus(sys.argv[1], store, jobs=jobs, quiet=True)\n'
            '    dls = corpus_dls(corpus, seconds=.4, bs=8, crops_per_epoch=160, seed=5, device="cpu", silence=-50, num_workers=workers)\n'
            '    dls.train.set_epoch(7)\n'
            '    return hashlib.sha256(b"".join(w.numpy().tobytes() + t.numpy().tobytes() for w, t in dls.train)).hexdigest()\n'
            'if __name__ == "__main__": print(digest(sys.argv[2], 3, 2))\n')
    (tmp_path/'crops.py').write_text(code)
    there, here = run(sys.executable, tmp_path/'crops.py', music/'album3', tmp_path/'three').stdout.strip(), {}
    exec(code.replace('sys.argv[1]', repr(str(music/'album3'))).replace('"__main__"', '""'), here)
    assert there == here['digest'](tmp_path/'one', 1, 0)


def test_memory_is_flat(tmp_path):
    "Ten times as many files must need no more memory: 200, then 2,000 of a tenth of a second, with the corpus opened and a batch drawn"
    wave = noise(0, .1, 8000)
    for i in range(2200):
        folder = tmp_path/('few' if i < 200 else 'many')/f'{i % 50}'
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder/f'{i:05}.wav', wave * (1 - i / 9999), 8000)
    code = ('import resource, sys; from mtssl.music.corpus import *; from mtssl.music.crops import *\n'
            'for music in sys.argv[1:]:\n'
            '    corpus = build_corpus(music, music + " store", sr=8000, jobs=1, quiet=True)\n'
            '    RandomCrops(corpus, .05)[range(64)]\n'
            '    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)')
    few, many = map(int, run(sys.executable, '-c', code, tmp_path/'few', tmp_path/'many').stdout.split())
    assert many < few + 20_000 * (1024 if sys.platform == 'darwin' else 1), f'{few}, {many}'
