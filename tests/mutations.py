"""Thousands of damaged files, read as a user would read them: by hand, outside CI.

    python tests/mutations.py --n 10000                # all kinds
    python tests/mutations.py --n 500 --only model,mp3 --seed 7
    python tests/mutations.py --only store --replay 412 --debug

A mutation takes a whole model, classifier, store, checkpoint, embedding or audio file and flips bits, overwrites, cuts, removes, repeats or swaps
bytes of one of its files. What then comes of reading it is one of

    refused      one sentence that names the file or its folder
    same         the result that the whole file gives
    other        another result; allowed for kinds that carry no checksum (audio, a model's weights), and counted
    traceback    another error, or more than one line, or one that names nothing
    crash        the process died
    hang         no answer within the limit

and the script fails where there is any of the last three, or an `other` result of a kind that has checksums. Mutations are made in
processes of their own, a few hundred in each, so that a crash is the one mutation's, and are drawn by number, so that each can be had again.
"""
import os
os.environ['OMP_NUM_THREADS'] = '1'

import argparse, hashlib, json, resource, select, shutil, signal, sys, tempfile, time, traceback, warnings
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
import torch

warnings.filterwarnings('ignore')
torch.set_num_threads(1)
limit = 20  # s for one mutation


def mutate(data, rng):
    "Damaged bytes, and what was done"
    data, n = bytearray(data), len(data)
    place = int(rng.integers(n) if rng.random() < .5 else rng.integers(min(n, 256)))  # headers as often as the rest
    size = int(min(n - place, 2**rng.integers(0, 10)))
    kind = rng.choice(['flip', 'flips', 'zeros', 'ones', 'noise', 'number', 'cut', 'remove', 'repeat', 'swap', 'append'])
    if kind == 'flip': data[place] ^= 1 << int(rng.integers(8))
    elif kind == 'flips':
        for i in rng.integers(n, size=8): data[i] ^= 1 << int(rng.integers(8))
    elif kind == 'zeros': data[place:place + size] = bytes(size)
    elif kind == 'ones': data[place:place + size] = b'\xff' * size
    elif kind == 'noise': data[place:place + size] = rng.bytes(size)
    elif kind == 'number': data[place:place + 4] = int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**16, 44_100])).to_bytes(4, rng.choice(['little', 'big']))[:n - place]
    elif kind == 'cut': del data[place:]
    elif kind == 'remove': del data[place:place + size]
    elif kind == 'repeat': data[place:place] = data[place:place + size]
    elif kind == 'append': data += rng.bytes(size)
    else:
        other = int(rng.integers(n - size + 1))
        data[place:place + size], data[other:other + size] = data[other:other + size], data[place:place + size]
    return bytes(data), f'{kind} at {place} ({size} bytes)'


def digest(*values):
    total = hashlib.blake2b(digest_size=16)
    for v in values: total.update(np.ascontiguousarray(v).tobytes() if isinstance(v, np.ndarray) else repr(v).encode())
    return total.hexdigest()


class Kind:
    "What is damaged (files of a folder), how it is read, and whether another result is allowed"
    def __init__(self, folder, files, read, other): self.folder, self.files, self.read, self.other = folder, files, read, other


def waves(n, seconds=1.5):
    from mtssl.music.synth.mix import synthesise
    return [wave for wave, _ in synthesise(n, seconds, seed=0, jobs=1)]


def read_model(folder):
    from mtssl.encoding.encoder import Encoder
    encoder = Encoder.from_pretrained(folder, device='cpu')
    with torch.no_grad(): z = encoder(torch.linspace(-.5, .5, 8 * encoder.hop)[None])
    assert z.isfinite().all(), 'frames that are not finite'
    return digest(z.numpy())


def read_classifier(folder):
    from mtssl.probing.classifier import Classifier
    classifier = Classifier.load(folder, device='cpu')
    said = classifier.predict_proba(list(np.linspace(-.5, .5, 44_100, dtype='float32').reshape(2, -1)))
    assert np.isfinite(said).all(), 'probabilities that are not finite'
    return digest(said, list(classifier.classes_))


def read_store(folder):
    from mtssl.music.corpus import Corpus
    corpus = Corpus(folder)
    return digest(*(corpus[i] for i in range(len(corpus))), corpus.sr, list(corpus.tracks.path), list(corpus.tracks.group))


def read_checked_store(folder):
    from mtssl.music.corpus import check_corpus
    damage = check_corpus(folder, quiet=True)
    if len(damage): raise ValueError(f'{folder}: {damage.path.iloc[0]}: {damage.damage.iloc[0]}.')
    return read_store(folder)


def read_vectors(out):
    from mtssl.embedding.vector_files import read_embeddings
    found = read_embeddings(out)
    return digest(np.stack(found.embeddings), found.paths, sorted(found.about.items(), key=str))


def read_run(folder):
    from mtssl.pretraining.checkpoints import read_state
    state = read_state(folder, learner)
    return digest(*(v.numpy() for v in state['model'].values()), state['epoch'], state['rows'])


def read_audio(path):
    from mtssl.music.audio import decode_track
    samples, facts = decode_track(path, 22_050)
    assert samples.dtype == np.int16 and len(samples) < 2**26, f'{len(samples)} samples'
    return digest(samples)


def make_kinds(root):
    "Every kind by name, made in `root`"
    from mtssl.embedding.collection import embed_collection
    from mtssl.encoding.encoder import encoders
    from mtssl.music.corpus import build_corpus
    from mtssl.pretraining.runs import pretrain
    from mtssl.probing.classifier import Classifier
    global learner
    torch.manual_seed(0)
    music, clips = root/'music', waves(6)
    music.mkdir()
    for i, wave in enumerate(clips): soundfile.write(music/f'{i}.wav', wave, 22_050)
    encoders.make('tcn(width=8, blocks=1)').eval().save_pretrained(root/'model')
    Classifier(root/'model', device='cpu', quiet=True).fit(clips * 4, list('ab' * 12)).save(root/'classifier')
    build_corpus(music, root/'store', jobs=1, quiet=True)
    learner = pretrain(music, root/'run', encoder='tcn(width=8, blocks=1)', workers='mfcc', epochs=1, seconds=1, bs=2, crops_per_epoch=4, device='cpu', jobs=1, quiet=True)
    for out in 'all.npz', 'all.parquet', 'npys': embed_collection(root/'model', music, root/out, device='cpu', jobs=1, quiet=True)
    sounds = root/'sounds'
    sounds.mkdir()
    wave = clips[0]
    kinds = dict(model=Kind(root/'model', ['config.json', 'model.safetensors'], read_model, True),
                 classifier=Kind(root/'classifier', ['classifier.json', 'classifier.safetensors', 'config.json', 'model.safetensors'], read_classifier, True),
                 store=Kind(root/'store', ['manifest.parquet', 'shard-00000.i16'], read_checked_store, True),
                 unchecked_store=Kind(root/'store', ['manifest.parquet', 'shard-00000.i16'], read_store, True),
                 checkpoint=Kind(root/'run', ['checkpoints/last.pt', 'statistics.safetensors', 'config.json'], read_run, False),
                 npz=Kind(root, ['all.npz'], lambda f: read_vectors(f/'all.npz'), True),
                 parquet=Kind(root, ['all.parquet'], lambda f: read_vectors(f/'all.parquet'), True),
                 npy=Kind(root, [str(p.relative_to(root)) for p in sorted((root/'npys').rglob('*')) if p.is_file()], lambda f: read_vectors(f/'npys'), True))
    for suffix, how in dict(wav=dict(subtype='PCM_16'), flac={}, ogg={}, mp3={}, aiff={}, opus=dict(format='OGG', subtype='OPUS'), au={}).items():
        soundfile.write(sounds/f'a.{suffix}', wave, 48_000 if suffix == 'opus' else 22_050, **how)
        kinds[suffix] = Kind(sounds, [f'a.{suffix}'], lambda f, suffix=suffix: read_audio(f/f'a.{suffix}'), True)
    try:
        import av
        with av.open(str(sounds/'a.m4a'), 'w') as file:
            stream = file.add_stream('aac', rate=22_050, layout='mono')
            frame = av.AudioFrame.from_ndarray(wave[None], 'fltp', 'mono')
            frame.sample_rate = 22_050
            for packet in (*stream.encode(frame), *stream.encode(None)): file.mux(packet)
        kinds['m4a'] = Kind(sounds, ['a.m4a'], lambda f: read_audio(f/'a.m4a'), True)
    except (ImportError, OSError, ValueError) as e: print(f'm4a is left out: {e}', file=sys.stderr)
    return kinds


def attempt(kind, folder, name, content, debug=False):
    "The outcome of reading with `content` in the file, and a word on it"
    path, whole = folder/name, (folder/name).read_bytes()
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return ('same' if kind.read(folder) == kind.right else 'other'), ''
    except (ValueError, OSError) as e:
        if debug: traceback.print_exc()
        text = str(e)
        good = text and '\n' not in text and (str(folder) in text or Path(name).name in text or any(p in text for p in Path(name).parts))
        return ('refused' if good else 'traceback'), f'{type(e).__name__}: {text[:200]}'
    except Exception as e:
        if debug: traceback.print_exc()
        return 'traceback', f'{type(e).__name__}: {str(e)[:200]}'
    finally: path.write_bytes(whole)


def work(kind, key, numbers, seed, out):
    "In a process of its own: a line for each mutation, before and after"
    for s in signal.SIGINT, signal.SIGTERM: signal.signal(s, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)/'it'
        shutil.copytree(kind.folder, folder)
        for number in numbers:
            rng = np.random.default_rng([seed, number, *key.encode()])
            name = kind.files[int(rng.integers(len(kind.files)))]
            content, what = mutate((folder/name).read_bytes(), rng)
            out.write(json.dumps(dict(number=number, begun=f'{name}: {what}')) + '\n')
            out.flush()
            outcome, words = attempt(kind, folder, name, content)
            out.write(json.dumps(dict(number=number, outcome=outcome, words=words, what=f'{name}: {what}')) + '\n')
            out.flush()


def batch(kind, key, numbers, seed):
    "Outcomes of some mutations: number, outcome, what was done, words"
    numbers = list(numbers)
    while numbers:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            try: work(kind, key, numbers, seed, os.fdopen(writing, 'w'))
            finally: os._exit(0)
        os.close(writing)
        begun, buffer, hung = None, b'', False
        while True:
            if not select.select([reading], [], [], limit)[0]:
                hung = True
                break
            piece = os.read(reading, 65536)
            if not piece: break
            *lines, buffer = (buffer + piece).split(b'\n')
            for line in map(json.loads, lines):
                if 'begun' in line: begun = line
                else:
                    begun = None
                    numbers.remove(line['number'])
                    yield line['number'], line['outcome'], line['what'], line['words']
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        if begun:
            numbers.remove(begun['number'])
            yield begun['number'], 'hang' if hung else 'crash', begun['begun'], ''
        elif hung or not numbers: break


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--n', type=int, default=10_000, help='mutations, over all kinds')
    parser.add_argument('--only', help='kinds, with commas between them')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--replay', type=int, help='the number of one mutation, to see its traceback')
    parser.add_argument('--debug', action='store_true')
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        kinds = make_kinds(Path(root))
        chosen = given.only.split(',') if given.only else list(kinds)
        if unknown := set(chosen) - set(kinds): sys.exit(f"There is no kind {min(unknown)!r}; there are {', '.join(kinds)}.")
        for key in chosen: kinds[key].right = kinds[key].read(kinds[key].folder)
        if given.replay is not None:
            kind, rng = kinds[chosen[0]], np.random.default_rng([given.seed, given.replay, *chosen[0].encode()])
            name = kind.files[int(rng.integers(len(kind.files)))]
            content, what = mutate((kind.folder/name).read_bytes(), rng)
            print(name, what, *attempt(kind, kind.folder, name, content, debug=True), sep='\n')
            return
        bad, each, start = [], -(-given.n // len(chosen)), time.time()
        for key in chosen:
            kind, counts = kinds[key], Counter()
            for number, outcome, what, words in batch(kind, key, range(each), given.seed):
                counts[outcome] += 1
                if outcome in ('traceback', 'crash', 'hang') or outcome == 'other' and not kind.other: bad.append((key, number, outcome, what, words))
            print(f'{key:16}', ', '.join(f'{o} {counts[o]}' for o in ('refused', 'same', 'other', 'traceback', 'crash', 'hang') if counts[o]), f'({time.time() - start:.0f} s)', flush=True)
    for key, number, outcome, what, words in bad[:40]: print(f'{outcome}: --only {key} --replay {number}: {what}: {words}')
    if bad: sys.exit(f'{len(bad)} of {each * len(chosen)} mutations ended in what they must not end in.')


if __name__ == '__main__': main()
