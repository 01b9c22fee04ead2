"""What happens to folders, stores and processes in real life: odd entries, things that vanish, scripts without a main guard, processes that cannot start."""
import errno, io, multiprocessing, os, re, shutil, signal, subprocess, sys, tarfile, warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import mtssl, python, root

linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs fork, or names of any bytes')


def noise(i, seconds=1., sr=22050): return np.random.default_rng(i).normal(0, .1, int(seconds * sr)).astype('float32')


def write(path, i, seconds=1.):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'wb') as file: soundfile.write(file, noise(i, seconds), 22050, format='WAV') # libsndfile opens no path over 1,024 bytes
    return path


def build(source, store, **kwargs):
    "The corpus of a folder, and path -> problem"
    from mtssl.music.corpus import build_corpus
    corpus = build_corpus(source, store, quiet=True, **kwargs)
    return corpus, dict(zip(corpus.problems.path, corpus.problems.problem))


def nest(folder, name, times):
    "Folders in folders, deeper than a path may be long"
    here = os.open(folder, os.O_RDONLY)
    for _ in range(times):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


@linux
def test_odd_entries(tmp_path, installed):
    "Every good file is found, every odd entry named, and nothing stops"
    music = tmp_path/'top'/'music'
    good = [write(music/name, i) for i, name in enumerate(['a.wav', 'line\nend/b\n.wav', f'{"n" * 251}.wav', 'z/z.wav', 'many/' * 300 + 'c.wav'])]
    for name, target in dict(x='x', p='q', q='p', gone='nowhere', above='..', inside='z').items(): os.symlink(target, music/name)
    os.mkfifo(music/'pipe.wav')
    (music/'folder.wav').mkdir()
    for name in 'cover.jpg', 'other.jpg', 'README', '.hidden', 'old.tar': (music/name).touch()
    nest(music/'z', 'y' * 200, 25)
    done = mtssl(installed, 'corpus', 'build', music, '--out', tmp_path/'store', '--jobs', 2, '--quiet')
    lines = done.stderr.splitlines()
    from mtssl.music.corpus import Corpus
    corpus = Corpus(tmp_path/'store')
    names = [p.relative_to(music).as_posix().replace('\n', r'\x0a') for p in good if p.parent.name != 'z']
    assert sorted(corpus.tracks.path) == sorted([*names, 'inside/z.wav'])
    problems = dict(zip(corpus.problems.path, corpus.problems.problem))
    deep = next(p for p in problems if len(p) > 3000)
    assert problems.pop(deep) == 'its path is longer than this system allows'
    assert problems == {'x': 'a link that leads back to itself', 'p': 'a link that leads back to itself', 'q': 'a link that leads back to itself',
                        'gone': 'a link to a file that is gone', 'pipe.wav': 'a pipe or a device, not a file'}
    assert lines[-1] == 'Passed over: .jpg 2, .tar 1, hidden 1, no extension 1' and all(line.isprintable() for line in lines), lines
    shutil.rmtree(music/'z'/('y' * 200), ignore_errors=True)


def test_folder_that_fails(tmp_path, monkeypatch):
    "A folder in the middle that may not be opened, one whose disk fails, one that has become a file, one that is gone"
    music = tmp_path/'music'
    for i, name in enumerate('abcdef'): write(music/name/'song.wav', i)
    before = os.scandir
    errors = dict(b=PermissionError(errno.EACCES, 'Permission denied'), c=OSError(errno.EIO, 'Input/output error'))
    def scandir(path):
        name = Path(path).name
        if name in errors: raise errors[name]
        if name in ('d', 'e'):
            monkeypatch.undo()
            shutil.rmtree(path)
            monkeypatch.setattr(os, 'scandir', scandir)
            if name == 'd': Path(path).write_bytes(b'a file now')
        return before(path)
    monkeypatch.setattr(os, 'scandir', scandir)
    from mtssl.music.sources import folder_tracks
    found = [t.path for t in folder_tracks(music)]
    assert found == ['a/song.wav', 'b', 'c', 'd', 'f/song.wav']
    monkeypatch.undo()


def test_files_that_change(tmp_path):
    "Between the walk and the decode one file vanishes, one grows, one becomes a folder; the next build mends what can be mended"
    from mtssl.music.corpus import build_corpus
    from mtssl.music.sources import folder_tracks
    music = tmp_path/'music'
    files = {name: write(music/f'{name}.wav', i) for i, name in enumerate('abcd')}
    tracks = list(folder_tracks(music))
    files['a'].unlink()
    write(files['b'], 7, 2.)
    files['c'].unlink(); files['c'].mkdir()
    from mtssl.music.decoding import decode_tracks
    results = {t.path: (samples, facts.get('problem')) for t, samples, facts in decode_tracks(tracks, 22050, jobs=2)}
    assert [results[f'{n}.wav'][1] for n in 'abcd'] == ['there is no such file', None, 'a folder where an audio file is wanted', None]
    assert len(results['b.wav'][0]) == 44100
    corpus, problems = build(music, tmp_path/'store', jobs=1)
    assert list(corpus.tracks.path) == ['b.wav', 'd.wav'] and not problems
    assert len(build_corpus(music, tmp_path/'store', jobs=1, quiet=True)[0]) == 44100


def test_archives(tmp_path):
    "A tar in a tar, entries that are links, and shards cut anywhere, packed or not: good entries are kept, and no cut is silent"
    from mtssl.music.sources import tar_tracks
    data = io.BytesIO()
    soundfile.write(data, noise(0, .2), 22050, format='WAV')
    data = data.getvalue()
    def add(shard, name, content, kind=tarfile.REGTYPE):
        info = tarfile.TarInfo(name)
        info.size, info.type, info.linkname = len(content), kind, 'a.wav'
        shard.addfile(info, io.BytesIO(content))
    for mode, name in ('w', 'a.tar'), ('w:gz', 'a.tar.gz'):
        with tarfile.open(tmp_path/name, mode) as shard:
            add(shard, 'a.wav', data)
            add(shard, 'link.wav', b'', tarfile.SYMTYPE)
            add(shard, 'inner.tar', b'x' * 700)
            add(shard, 'b.wav', data)
        assert [(Path(t.path).name, t.problem) for t in tar_tracks(tmp_path/name)] == [('a.wav', ''), ('b.wav', '')]
        whole = (tmp_path/name).read_bytes()
        end = len(whole) - (8 if mode == 'w:gz' else len(whole) - 512 * -(-len(whole.rstrip(b'\0')) // 512) - 100)
        for cut in np.random.default_rng(0).integers(1, end, 60 if mode == 'w' else 20):
            (tmp_path/f'cut{name[1:]}').write_bytes(whole[:cut])
            tracks = list(tar_tracks(tmp_path/f'cut{name[1:]}'))
            assert tracks[-1].problem and not any(t.problem for t in tracks[:-1]), (name, cut)


def test_cut_stores(tmp_path):
    "A store that is cut short is refused when it is opened, by whoever opens it; one that is cut while it is read stops with a sentence, and no signal"
    music, store = tmp_path/'music', tmp_path/'store'
    for i in range(4): write(music/f'{i}.wav', i, 3.)
    corpus, _ = build(music, store, jobs=1)
    shard = store/'shard-00000.i16'
    code = f'''
import os, sys
from mtssl.music.corpus import Corpus
from mtssl.music.crops import corpus_dls
dls = corpus_dls(Corpus({str(store)!r}), seconds=1., bs=2, device='cpu')
batches = iter(dls.train)
next(batches)
os.truncate({str(shard)!r}, 4096)
try:
    for _ in range(9): list(dls.train)
except ValueError as e: print(e)
'''
    whole = shard.read_bytes()
    done = python(code)
    assert f'{shard} has become shorter since the corpus was opened.' in done.stdout and done.stdout.count('\n') == 1
    from mtssl.music.corpus import Corpus, check_corpus
    with pytest.raises(ValueError, match=f'is cut short: it has 4,096 bytes, and its manifest needs {len(whole):,}'): Corpus(store)
    assert len(check_corpus(store, quiet=True)) == 4
    assert len(build(music, store, jobs=1)[0]) == 4 and not len(check_corpus(store, quiet=True))


script = '''
print('once', flush=True)
from mtssl.music.decoding import decode_tracks
from mtssl.music.sources import find_audio
print(*(facts.get('problem', len(samples)) for _, samples, facts in decode_tracks(find_audio('music'), 22050, jobs=2)))
'''


def test_plain_script(tmp_path):
    "Processes start from a script without a main guard, from standard input even, and import nothing of it"
    for i in range(4): write(tmp_path/'music'/f'{i}.wav', i, .5)
    text = f"import multiprocessing; multiprocessing.set_start_method('spawn')\n{script}"
    done = subprocess.run([sys.executable, '-W', 'ignore', '-'], input=text, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.split('\n')[:3]) == (0, ['once', '11025 11025 11025 11025', '']), done


def test_readme_as_a_plain_file(tmp_path):
    "The lines of the README, in a script, where processes are spawned as on macOS"
    lines = '\n'.join(re.findall(r'``` ?python\n(.*?)```', (root/'README.md').read_text(encoding='utf-8'), re.S)[:2])
    assert 'synth(' in lines and 'MusicEmbedder(' in lines
    (tmp_path/'readme.py').write_text(f"import multiprocessing; multiprocessing.set_start_method('spawn')\nprint('once')\n{lines}\nprint(len(test))\n")
    done = subprocess.run([sys.executable, '-W', 'ignore', 'readme.py'], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stdout.split()[::len(done.stdout.split()) - 1] == ['once', '40'], done


def _in_daemon(music, out):
    "Decode where no process may be started, and tell what was said"
    from mtssl.music.decoding import decode_tracks
    from mtssl.music.sources import find_audio
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        lengths = [len(samples) for _, samples, _ in decode_tracks(find_audio(music), 22050, jobs=2)]
    Path(out).write_text(f'{lengths} {len(said)} {said[0].message}')
    os._exit(0)  # what was forked beside threads may wait for them at its end


@linux
def test_no_process_can_start(tmp_path):
    for i in range(4): write(tmp_path/'music'/f'{i}.wav', i, .5)
    process = multiprocessing.get_context('fork').Process(target=_in_daemon, args=(tmp_path/'music', tmp_path/'said'), daemon=True)
    process.start()
    process.join(60)
    assert (tmp_path/'said').read_text() == (f'{[11025] * 4} 1 No other process can start here (daemonic processes are not allowed to have children), '
                                             'so this one does all the work, more slowly.')


@linux
def test_synthesis_goes_on_without_its_processes(monkeypatch):
    "A process that is killed, for want of memory perhaps, takes no clip with it"
    from mtssl.music.synth import mix
    whole = [wave for wave, _ in mix.synthesise(64, .2, jobs=1)]
    clips, waves = mix.synthesise(64, .2, jobs=2), []
    for wave, _ in clips:
        waves.append(wave)
        if len(waves) == 20:
            for p in multiprocessing.active_children(): os.kill(p.pid, signal.SIGKILL)
    assert len(waves) == 64 and all((a == b).all() for a, b in zip(whole, waves))
