"""How the package grows: what an hour, and what a thousand, cost before the first step; what the second process brings.

    python benchmarks/scale.py --json nbs/scale.json                  # all of it
    python benchmarks/scale.py --hours 1 1000 --json nbs/scale.json   # other sizes; parts that are not asked for keep their numbers
    python benchmarks/scale.py --parts ranks                          # of: manifests, stream, start, ranks, vectors

CPU time of one thread, so that a busy machine changes little; each part runs in processes of its own, whose CPU seconds and largest
memory the system tells. The least of some repeats is given.

The hours are simulated: a manifest with so many tracks of four minutes, 15 tracks per group, with levels as music has them, beside
shards that are as long as they have to be and hold only zeros, of which no disk stores anything. What is measured there is opening,
splitting, planning and cutting, none of which looks at what the samples are.
"""
import os
for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS': os.environ.setdefault(name, '1')

import argparse, json, subprocess, sys, tarfile, tempfile, time
from pathlib import Path

root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))
sr, track_seconds, tracks_per_shard = 22_050, 240, 200


def simulate(store, hours):
    "A corpus of so many hours whose samples are all 0"
    import numpy as np, pyarrow as pa, pyarrow.parquet as pq
    from mtssl.music.store import manifest_columns, shard_path
    rng, n, frames = np.random.default_rng(0), hours * 3600 // track_seconds, sr * track_seconds
    facts = dict(version=2, sr=sr, shards=-(-n // tracks_per_shard), sources=['simulated'], passed={}, least=.95)
    schema = pa.schema(list(manifest_columns.items()), metadata={'mtssl': json.dumps(facts)})
    store.mkdir()
    with pq.ParquetWriter(store/'manifest.parquet', schema, compression='zstd', write_page_checksum=True) as writer:
        for first in range(0, n, 5000):
            i = np.arange(first, min(n, first + 5000))
            levels = [np.clip(rng.normal(20, 6, 4 * track_seconds), 0, 96).astype(np.uint8).tobytes() for _ in i]
            columns = dict(path=[f'album {k // 15:06}/track {k:08}.mp3' for k in i], group=[f'album {k // 15:06}' for k in i],
                           shard=i // tracks_per_shard, offset=i % tracks_per_shard * frames, frames=np.full(len(i), frames),
                           seconds=np.full(len(i), float(track_seconds)), source_sr=np.full(len(i), 44_100), channels=np.full(len(i), 2),
                           format=['MP3'] * len(i), peak=np.full(len(i), .9), problem=[''] * len(i), bytes=np.full(len(i), 5_000_000),
                           modified=i, digest=[f'{k:032x}' for k in rng.integers(0, 2**62, len(i))],
                           file=[f'/music/album {k // 15:06}/track {k:08}.mp3'.encode() for k in i], levels=levels, note=[''] * len(i))
            writer.write_batch(pa.record_batch([pa.array(columns[f.name], f.type) for f in schema], schema=schema))
    for shard in range(facts['shards']): # of nothing but a length
        with open(shard_path(store, shard), 'wb') as f: f.truncate(2 * frames * min(tracks_per_shard, n - shard * tracks_per_shard))


def in_process(code, *words):
    "What a script prints as JSON, with the CPU seconds and the largest memory of its process"
    done = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code, *map(str, words)], stdout=subprocess.PIPE, cwd=root, text=True)
    said = done.stdout.read()
    _, status, usage = os.wait4(done.pid, 0)
    if status: raise SystemExit(f'a measured process ended with status {status}')
    return (json.loads(said) if said.strip() else {}) | dict(cpu=round(usage.ru_utime + usage.ru_stime, 2), peak=round(usage.ru_maxrss / 1024))


begin = '''
import json, resource, sys, time
from mtssl.music.corpus import Corpus
from mtssl.music.crops import corpus_dls
from mtssl.music.crop_stream import stream_dls
mb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
facts, memory, start = {}, mb(), time.process_time()
def lap(name):
    global start
    facts[name], start = round(time.process_time() - start, 3), time.process_time()
'''
of_store = begin + '''
corpus = Corpus(sys.argv[1]); lap('open')
dls = corpus_dls(corpus, 6., bs=16, device='cpu'); lap('split')
plan = dls.train.dataset.plan(); lap('plan')
crops = len(plan[0])
for i in range(32): dls.train.dataset[range(16 * i, 16 * i + 16)]
lap('cut')
print(json.dumps(dict(facts, tracks=len(corpus), crops=crops, before=round(memory), memory=round(mb() - memory), rate=round(512 / facts['cut']))))
'''
of_stream = begin + '''
dls = stream_dls(sys.argv[1:], 6., bs=16, crops_per_epoch=512, valid=.1, device='cpu', jobs=1)
n = sum(len(b[0]) for b in dls.train); lap('cut')
print(json.dumps(dict(facts, crops=n, before=round(memory), memory=round(mb() - memory), rate=round(n / facts['cut']))))
'''


# at its end the largest memory of the process alone, in KB; what wait4 tells counts that of the process that it was forked from
largest = """import atexit, re, resource, sys
def tell():
    try: kb = re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]
    except OSError: kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(kb, file=sys.stderr)
atexit.register(tell)
"""


def least(rows):
    "Of several runs the least of every number"
    return {k: min(r[k] for r in rows) for k in rows[0]}


def manifests(sizes, repeats):
    rows = []
    for hours in sizes:
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder, 'store')
            simulate(store, hours)
            megabytes = round((store/'manifest.parquet').stat().st_size / 1e6, 2)
            rows.append(dict(hours=hours, manifest=megabytes) | least([in_process(of_store, store) for _ in range(repeats)]))
        print(rows[-1], flush=True)
    return rows


def stream(repeats, minutes=(30, 120)):
    "A stream of flac in tar shards: the larger one must not need more memory"
    import numpy as np, soundfile
    rows, rng = [], np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        t = np.arange(60 * sr) / sr
        for i in range(16): soundfile.write(f'{folder}/{i}.flac', .3 * np.sin(2 * np.pi * rng.uniform(100, 2000) * t) + .02 * rng.normal(size=len(t)), sr)
        for n in minutes:
            shards = [f'{folder}/{n}-{s}.tar' for s in range(n // 15)]
            for s, shard in enumerate(shards):
                with tarfile.open(shard, 'w') as tar:
                    for i in range(15): tar.add(f'{folder}/{i}.flac', f'{n}-{s:03}/{i}.flac')
            rows.append(dict(hours=n / 60) | least([in_process(of_stream, *shards) for _ in range(repeats)]))
            print(rows[-1], flush=True)
    return rows


def start(repeats):
    "Start-up: what is asked for, and only that, is imported"
    cases = {'python': 'pass', 'import mtssl': 'import mtssl', **{f'mtssl {words}': f'import sys; sys.argv = ["mtssl", *{words.split()!r}]; '
             'from mtssl.__main__ import main; main()' for words in ('--version', 'info workers', 'pretrain --help')},
             'from mtssl import pretrain': 'from mtssl import pretrain'}
    def run(code):
        begun = time.monotonic()
        done = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', largest + code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=root, text=True)
        memory = int(done.stderr.read().split()[-1])
        _, _, usage = os.wait4(done.pid, 0)
        return dict(cpu=round(usage.ru_utime + usage.ru_stime, 2), seconds=round(time.monotonic() - begun, 2), memory=round(memory / 1024))
    rows = []
    for name, code in cases.items():
        rows.append(dict(what=name) | least([run(code) for _ in range(repeats)]))
        print(rows[-1], flush=True)
    return rows


def ranks(repeats, few=4, many=20):
    "CPU seconds per step of the default pre-training, batches of 16 crops per process, in one process and in two"
    from mtssl.probing.stored_sets import with_names
    from mtssl.music.corpus import build_corpus
    from mtssl.music.synth.mix import synthesise
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        build_corpus(with_names(wave for wave, _ in synthesise(48, 8., sr, seed=0, jobs=1)), Path(folder, 'store'), sr, quiet=True)
        for n in 1, 2:
            launch = [sys.executable, '-W', 'ignore', *(['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(n)] if n > 1 else [])]
            def cost(steps, name):
                words = ['-m', 'mtssl', 'pretrain', f'{folder}/store', '--epochs', '1', '--crops-per-epoch', str(16 * n * steps), '--seconds', '6',
                         '--device', 'cpu', '--quiet', '--out', f'{folder}/{name}']
                process = subprocess.Popen([*launch, *words], cwd=root, stdout=subprocess.DEVNULL, env=os.environ | dict(PYTHONWARNINGS='ignore'))
                _, status, usage = os.wait4(process.pid, 0)
                if status: raise SystemExit(f'pre-training in {n} processes ended with status {status}')
                return usage.ru_utime + usage.ru_stime
            step = min((cost(many, f'{n}-many-{r}') - cost(few, f'{n}-few-{r}')) / (many - few) for r in range(repeats))
            rows.append(dict(processes=n, bs=16 * n, cpu_per_step=round(step, 3), cpu_per_crop=round(step / 16 / n, 4)))
            print(rows[-1], flush=True)
    return rows


def vectors(n=20_000):
    "Bytes per vector in a Parquet of embeddings, with paths like those of the simulated tracks"
    import numpy as np, torch
    from mtssl.embedding.embedding import embed_wave
    from mtssl.encoding.encoder import encoders
    import pyarrow as pa, pyarrow.parquet as pq
    torch.manual_seed(0)
    size = len(embed_wave(encoders.make('tcn').eval(), np.random.default_rng(0).normal(0, .1, 2 * sr).astype('float32')))
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.random.default_rng(0).normal(size=n * size).astype('float32')), size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'vectors.parquet')
        pq.write_table(pa.table(dict(path=[f'album {k // 15:06}/track {k:08}.mp3' for k in range(n)], vector=values)), path, compression='zstd')
        return dict(values=size, bytes=round(path.stat().st_size / n))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--hours', type=int, nargs='+', default=[1, 10, 100, 1000, 10_000], help='of the simulated manifests')
    parser.add_argument('--parts', nargs='+', default=['manifests', 'stream', 'start', 'ranks', 'vectors'], help='which to measure')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--json', help='also write the numbers here')
    args = parser.parse_args()
    from mtssl.core.files import versions
    measure = dict(manifests=lambda: manifests(args.hours, args.repeats), stream=lambda: stream(args.repeats), start=lambda: start(args.repeats),
                   ranks=lambda: ranks(args.repeats), vectors=vectors)
    found = {part: measure[part]() for part in args.parts}
    if args.json:
        path = Path(args.json)
        kept = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(kept | dict(command=f'python benchmarks/scale.py --json {args.json}', versions=versions()) | found, indent=1) + '\n')
