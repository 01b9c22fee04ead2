"""What a corpus costs: random crops, building, memory, and a build that is interrupted.

    python benchmarks/corpus.py [--seconds 2] [--crops 400]          # crops and building
    python benchmarks/corpus.py --files 1000 100000                  # memory and time of builds of so many short files
    python benchmarks/corpus.py --interrupt 5000                     # a build of so many files, killed, then stopped, then finished

CPU time of one thread, so that a busy machine changes little. Sound for the crops: synthesised music, 30 s a file, written in each
format at 44,100 Hz stereo, and read from there to mono at 22,050 Hz, the store's rate, as training must. The store holds an hour (these
files many times), more than processors cache. The short files last 0.2 s, at 22,050 Hz, those of
the interrupted build 1 s, as flac at 44,100 Hz; no two are the same.
"""
import argparse, os, resource, signal, sqlite3, subprocess, sys, tempfile, time
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import soundfile
from mtssl.music.corpus import Corpus, build_corpus, check_corpus
from mtssl.music.crops import RandomCrops
from mtssl.music.synth.mix import synthesise


def per_cpu_second(fetch, positions, repeat=3):
    "Best of `repeat` rates, in crops per CPU-second, of `fetch` over batches of `positions`"
    def once():
        start = time.process_time()
        for batch in positions: fetch(batch)
        return sum(map(len, positions)) / (time.process_time() - start)
    return max(once() for _ in range(repeat))


def crops_and_building(seconds, n, files=8):
    rows, waves = [], [w for w, _ in synthesise(files, seconds=30, sr=44100, jobs=1)]
    with tempfile.TemporaryDirectory() as folder:
        for kind in ('wav', 'flac', 'ogg', 'mp3'):
            music = Path(folder, kind)
            music.mkdir()
            for i, wave in enumerate(waves): soundfile.write(music / f'{i}.{kind}', np.stack([wave, wave], 1), 44100)
            start = time.process_time()
            corpus = build_corpus(music, Path(folder, f'{kind} store'), jobs=1, quiet=True)
            built = 1000 * (time.process_time() - start) / (corpus.seconds / 60)
            crops, direct = RandomCrops(corpus, seconds, n=n // 4), RandomCrops(build_corpus(music, None, jobs=1, quiet=True), seconds, n=n // 4)
            rows.append((kind, per_cpu_second(direct.__getitem__, np.array_split(np.arange(n // 4), max(1, n // 64)), repeat=1), built))
        hour = ((f'{i}', corpus[i % files] * (1 - i / 1e4)) for i in range(3600 // 30))
        corpus = build_corpus(hour, Path(folder, 'hour'), quiet=True)
        rates = {}
        for silence in (None, -60):
            crops = RandomCrops(corpus, seconds, n=16 * n, silence=silence)
            crops.plan()
            rates[silence] = per_cpu_second(crops.__getitem__, np.array_split(np.arange(16 * n), n))
    print(f'random {seconds:g} s crops, one thread\n\n| read from | crops per CPU-second | store is faster by | building, CPU ms per minute of audio |\n|---|---:|---:|---:|')
    for kind, rate, built in rows: print(f'| {kind} files | {rate:,.0f} | {rates[None] / rate:,.0f} x | {built:,.0f} |')
    print(f'| store | {rates[None]:,.0f} | | |\n| store, silence=-60 | {rates[-60]:,.0f} | | |')


def write_short(music, n, seconds=.2, sr=22050, kind='wav'):
    "`n` files, 100 a folder"
    wave = np.random.default_rng(0).normal(0, .1, int(seconds * sr))
    for i in range(n):
        path = music / f'{i // 100:05}' / f'{i:06}.{kind}'
        path.parent.mkdir(parents=True, exist_ok=True)
        wave[:20] = np.array([(i >> k) & 1 for k in range(20)]) * .1
        soundfile.write(path, wave, sr)


def kilobytes(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == 'darwin' else 1)


def memory_of(music, store):
    "In a process of its own: build, build again, open, draw; the most memory after each, in KB, and CPU seconds"
    begin, start = kilobytes(), time.process_time()
    build_corpus(music, store, jobs=1, quiet=True)
    built, start, seconds = kilobytes(), time.process_time(), time.process_time() - start
    corpus = build_corpus(music, store, jobs=1, quiet=True)
    again, again_seconds = kilobytes(), time.process_time() - start
    RandomCrops(corpus, .1)[range(64)]
    print(len(corpus), begin, built, again, kilobytes(), seconds, again_seconds)


def memory(sizes):
    print('| files | before, MB | after building, MB | after building again, MB | after drawing a batch, MB | building, CPU s | again, CPU s |\n|---:|---:|---:|---:|---:|---:|---:|')
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_short(Path(folder, 'music'), n)
            done = subprocess.run([sys.executable, __file__, '--memory-of', str(Path(folder, 'music')), str(Path(folder, 'store'))], capture_output=True, text=True, check=True)
            found, *kb, seconds, again = map(float, done.stdout.split())
            assert found == n
            print(f'| {n:,} | ' + ' | '.join(f'{k / 1024:,.0f}' for k in kb) + f' | {seconds:,.1f} | {again:,.1f} |')


def interrupt(n):
    with tempfile.TemporaryDirectory() as folder:
        music, store = Path(folder, 'music'), Path(folder, 'store')
        write_short(music, n, 1, 44100, 'flac')
        words = ['mtssl', 'corpus', 'build', str(music), '--out', str(store), '--jobs', '2', '--quiet']
        command = [sys.executable, '-c', f'import sys; sys.argv = {words!r}; from mtssl.app.cli import main; main()']
        def journalled():
            with sqlite3.connect(store / 'journal.sqlite') as db: return db.execute('select count(*) from tracks').fetchone()[0]
        for share, sign in ((.3, signal.SIGKILL), (.6, signal.SIGINT)):
            build = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
            while sum(p.stat().st_size for p in store.glob('*.i16')) < share * n * 22050 * 2: time.sleep(.02)
            build.send_signal(sign)
            said = build.communicate()[1].strip().splitlines()[-1:]
            print(f'{sign.name}: exit code {build.returncode}, {journalled():,} of {n:,} files in the journal; it said {said}')
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(done.stdout.strip().splitlines()[-1].replace(folder, '...'))
        whole = build_corpus(music, Path(folder, 'whole'), quiet=True)
        same = all((store / p.name).read_bytes() == p.read_bytes() for p in whole.store.glob('*.i16')) and Corpus(store).manifest.equals(whole.manifest)
        print(f'same bytes and manifest as a build in one go: {same}; damaged tracks: {len(check_corpus(store, quiet=True))}')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=2.)
    parser.add_argument('--crops', type=int, default=400)
    parser.add_argument('--files', type=int, nargs='+', help='measure memory for so many files')
    parser.add_argument('--interrupt', type=int, metavar='FILES', help='interrupt a build of so many files twice')
    parser.add_argument('--memory-of', nargs=2, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.memory_of: memory_of(*a.memory_of)
    elif a.files: memory(a.files)
    elif a.interrupt: interrupt(a.interrupt)
    else: crops_and_building(a.seconds, a.crops)
