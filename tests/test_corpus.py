"""What a notebook cannot show of a corpus: builds that are killed, decoders that crash, processes that must not be left behind."""
import os, re, signal, subprocess, sys, time
from pathlib import Path

import numpy as np
import pytest
import soundfile

linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='looks into /proc, and forks')


@pytest.fixture(scope='module')
def music(tmp_path_factory):
    "Forty files of noise in four folders"
    folder, rng = tmp_path_factory.mktemp('music'), np.random.default_rng(0)
    for i in range(40):
        (folder/f'album{i % 4}').mkdir(exist_ok=True)
        soundfile.write(folder/f'album{i % 4}'/f'{i:02}.flac', rng.normal(0, .1, (30 * 48000, 2)), 48000)
    return folder


def start(music, store):
    code = f'from mtssl.corpus import build_corpus; build_corpus({str(music)!r}, {str(store)!r}, jobs=2, shard_frames=4_000_000)'
    return subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def wait_for(condition, what, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, f'{what} did not happen within {seconds} s'
        time.sleep(.02)


def journalled(store):
    path = store/'journal.jsonl'
    return path.read_text().count('\n') - 1 if path.exists() else 0


def children(pid): return [int(p) for p in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def alive(pid):
    try: return re.search(r'State:\s+(\w)', Path(f'/proc/{pid}/status').read_text())[1] != 'Z'
    except FileNotFoundError: return False


@linux
def test_killed_twice(music, tmp_path):
    from mtssl.corpus import Corpus, build_corpus
    store, done = tmp_path/'store', 0
    for sign in signal.SIGKILL, signal.SIGINT:
        build = start(music, store)
        wait_for(lambda: journalled(store) > done + 5, 'progress')
        workers = children(build.pid)
        build.send_signal(sign)
        assert build.wait(timeout=60) != 0
        done = journalled(store)
        assert workers and done < 40
        wait_for(lambda: not any(map(alive, workers)), 'the end of every worker', 20)
        with pytest.raises(ValueError, match='unfinished'): Corpus(store)
    begun = (store/'journal.jsonl').read_text().splitlines()[1:done + 1]
    corpus, whole = build_corpus(music, store, quiet=True, shard_frames=4_000_000), build_corpus(music, tmp_path/'whole', quiet=True, shard_frames=4_000_000)
    assert corpus.manifest.equals(whole.manifest) and len(corpus) == len(begun) + 40 - done == 40
    for shard in sorted(p.name for p in (tmp_path/'whole').glob('*.i16')): assert (store/shard).read_bytes() == (tmp_path/'whole'/shard).read_bytes()
    assert len(list(store.iterdir())) == len(list((tmp_path/'whole').iterdir()))


def _crashing(path, sr):
    from mtssl.audio import AudioError
    if path.endswith('7'): os.kill(os.getpid(), signal.SIGKILL)
    if path.endswith('5'): raise AudioError(path, 'empty, 0 bytes')
    if path.endswith('4'): raise MemoryError('no room')
    return np.ones(int(path), np.int16), {}


@linux
def test_crashing_decoder(monkeypatch):
    import mtssl.audio as audio
    monkeypatch.setattr(audio, 'decode_track', _crashing)
    results = list(audio.decode_tracks([str(i) for i in range(1, 31)], jobs=2))
    assert [p for p, _, _ in results] == [str(i) for i in range(1, 31)]
    for path, samples, facts in results:
        problem = {'7': 'the decoder crashed on it', '5': 'empty, 0 bytes', '4': 'MemoryError: no room'}.get(path[-1])
        assert facts.get('problem') == problem and (problem or len(samples) == int(path))


def test_memory_is_flat(tmp_path):
    "Writing ten times as many arrays must not need more memory"
    code = ('import resource, sys, numpy as np; from mtssl.corpus import build_corpus\n'
            'waves = ((str(i), np.full(441_000, .5, np.float32)) for i in range(int(sys.argv[1])))\n'
            'build_corpus(waves, sys.argv[2], quiet=True); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)')
    few, many = (int(subprocess.check_output([sys.executable, '-c', code, str(n), str(tmp_path/str(n))], stderr=subprocess.DEVNULL)) for n in (20, 200))
    assert many < few + 20_000 * (1024 if sys.platform == 'darwin' else 1)
