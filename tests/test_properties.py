"""Properties that hold for any input: one sentence or a result within bounds, whatever a file holds or a user types.

Inputs are drawn by hypothesis, the same in each run. What the results are held against is arithmetic, or the bytes of the file.
`tests/mutations.py` does the same to whole models and stores, thousands of times, outside CI.
"""
import io, json, math, struct

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from mtssl.core.checks import limits
from typer.testing import CliRunner

drawn = lambda n: settings(max_examples=n, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def sentence(call, *names):
    "The result of a call, or None where it was refused in one sentence that holds one of the names"
    try: return call()
    except ValueError as e:
        text = str(e)
        assert text and '\n' not in text and len(text) < 1000 and any(str(n) in text for n in names), text


# ---- audio headers

def wav(rate, channels, bits, kind, promised, riff, samples, extra):
    "A wav file whose header says what it is told"
    body = struct.pack('<HHIIHH', kind, channels, rate, rate * channels * bits // 8 % 2**32, channels * bits // 8 % 2**16, bits)
    return b'RIFF' + struct.pack('<I', riff) + b'WAVE' + extra + b'fmt ' + struct.pack('<I', len(body)) + body + b'data' + struct.pack('<I', promised) + samples


rates = st.sampled_from([0, 1, 7, 999, 1000, 8000, 22_050, 44_100, 384_000, 384_001, 2**31 - 1, 2**32 - 1])
sizes = st.sampled_from([0, 1, 3, 1000, 2**31 - 1, 2**31, 2**32 - 1])


@drawn(40)
@given(rates, st.sampled_from([0, 1, 2, 6, 255, 2**16 - 1]), st.sampled_from([0, 1, 8, 16, 24, 32, 64]), st.sampled_from([0, 1, 3, 6, 85, 65_534]), sizes, sizes,
       st.binary(max_size=3000), st.sampled_from([b'', b'LIST\x00\x00\x00\x00', b'JUNK\xff\xff\xff\xff', b'ID3\x04']))
def test_wav_headers(tmp_path_factory, rate, channels, bits, kind, promised, riff, samples, extra):
    "No header makes more sound than the bytes behind it can hold: a byte is at most two samples (of 4 bits), and the rate at most times 22.05"
    from mtssl.music.audio import decode_track
    path = tmp_path_factory.getbasetemp()/'header.wav'
    path.write_bytes(content := wav(rate, channels, bits, kind, promised, riff, samples, extra))
    if decoded := sentence(lambda: decode_track(path, 22_050), 'header.wav'):
        assert decoded[0].dtype == np.int16 and 0 < len(decoded[0]) <= 2 * len(content) * 22.05 + 2**14


def encoded(suffix, **how):
    "A second of two tones in another format"
    t = np.arange(22_050) / 22_050
    soundfile.write(buffer := io.BytesIO(), .3 * np.sin(2 * np.pi * 440 * t) + .2 * np.sin(2 * np.pi * 1000 * t), 22_050, format=suffix, **how)
    return buffer.getvalue()


whole = {suffix: encoded(suffix) for suffix in ('flac', 'ogg', 'mp3', 'aiff')}


@drawn(30)
@given(st.sampled_from(sorted(whole)), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4), st.floats(.05, 1))
def test_damaged_audio(tmp_path_factory, suffix, changes, share):
    "A header of changed bytes, a file that ends early: never longer than ten times the second that was written"
    from mtssl.music.audio import decode_track
    data = bytearray(whole[suffix][:int(share * len(whole[suffix]))])
    for place, value in changes: data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp()/f'damaged.{suffix}'
    path.write_bytes(data)
    if decoded := sentence(lambda: decode_track(path, 22_050), path.name): assert 0 < len(decoded[0]) <= 10 * 22_050 * 22.05


# ---- label tables

names = st.sampled_from(['a.wav', 'b.wav', './a.wav', 'sub/../b.wav', 'c.wav', 'missing.wav', '', ' ', 'a.wav ', 'b\\a.wav', '/etc/passwd', 'é.wav', '"', '#'])
cells = st.sampled_from(['', 'rock', 'jazz', '1', '0', '1.5', 'True', 'nan', 'x y', '"a, b"', "'", '\t', 'é', '-', 'test', 'Train', 'valid', '1e400'])


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp('labels')
    for i, name in enumerate(('a', 'b', 'c', 'd')): soundfile.write(folder/f'{name}.wav', .1 * np.sin(np.arange(4000) * (i + 1) / 9), 8000)
    return folder


@drawn(25)
@given(st.lists(st.sampled_from(['path', 'split', 'genre', 'group', 'tag.a', 'tag.b', '', 'path', 'Unnamed: 0']), min_size=1, max_size=5),
       st.lists(st.tuples(names, st.lists(cells, max_size=5)), max_size=6), st.sampled_from(',;\t'), st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16', 'latin-1']))
def test_label_tables(clips, header, rows, delimiter, encoding):
    "A table is a labelled set of clips of its own, each once, with a split and no label that was not written; or it is refused"
    from mtssl.probing.datasets import labelled_set
    lines = [delimiter.join(header), *(delimiter.join([name, *labels]) for name, labels in rows)]
    path = clips/'table.csv'
    path.write_bytes('\n'.join(lines).encode(encoding, 'replace'))
    dataset = sentence(lambda: labelled_set(path, quiet=True), 'table.csv', 'table', 'path', 'label', 'clip', 'split', 'class', 'column')
    if dataset is None: return
    table = dataset.table
    assert 0 < len(table) <= len(rows) and table['path'].is_unique and set(table['split']) <= {'train', 'valid', 'test'}
    resolved = [(clips/p).resolve() for p in table['path']]
    assert len(set(resolved)) == len(resolved), 'one sound as two clips'
    for task in dataset.tasks.values():
        if task.type == 'single-label': assert set(table[task.column].dropna().astype(str)) <= {c.strip().strip('"') for _, labels in rows for c in labels} | set(map(str, range(9)))


# ---- values

anything = st.one_of(st.floats(), st.integers(-10, 10), st.integers(), st.booleans(), st.none(), st.text(max_size=3), st.lists(st.integers(), max_size=1))


@drawn(200)
@given(st.sampled_from(['epochs', 'crops_per_epoch', 'seconds', 'bs', 'lr', 'wd', 'sr', 'seed']), anything)
def test_settings(name, value):
    "A setting is a finite number of its kind, or is refused by its name"
    from mtssl.pretraining.settings import Settings
    kept = sentence(lambda: Settings(**{name: value}), name)
    whole_number, optional = name not in ('seconds', 'lr', 'wd'), name == 'crops_per_epoch'
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and not (whole_number and isinstance(value, float))
    low, high = limits[name].least, limits[name].most
    allowed = optional if value is None else number and low <= value <= high and not (name == 'lr' and value == 0)
    assert (kept is not None) == bool(allowed), (name, value)


absurd = ['nan', 'inf', '-inf', '1e400', '-1', '1000000000000', '1e-300', '', 'abc', '0x10', '٣e', '99999999999999999999999']
wrong = {('synth', '--out', 'new'): ['--train', '--test', '--seconds', '--sr', '--seed', '--jobs'], ('corpus', 'build', 'music', '--out', 'new'): ['--sr', '--jobs', '--least'],
         ('embed', 'model', 'music', '--out', 'new.npz'): ['--window', '--layers', '--jobs', '--least', '--device'], ('similar', 'model', 'music', 'music/x/a.wav'): ['-n', '--jobs', '--device'],
         ('probe', 'model', 'music'): ['--window', '--amounts', '--layers', '--probe', '--device'], ('export', 'model'): ['--out', '--device'], ('demo', '--quick', '--out', 'new'): ['--jobs', '--device'],
         ('pretrain', 'music', '--out', 'new', '--device', 'cpu', '--jobs', '1'): ['--epochs', '--crops-per-epoch', '--seconds', '--silence', '--bs', '--lr', '--wd', '--sr', '--seed', '--save-every',
                                                                             '--encoder', '--workers', '--weighting', '--distortions', '--short', '--from', '--probe-on']}
meant = {('--silence', ''), ('--distortions', ''), ('--probe-on', ''), ('--from', ''), ('--seed', '1000000000000'), ('--device', ''), ('--lr', '1e-300'), ('--wd', '1e-300'), ('--least', '1e-300'),
         ('--save-every', '1000000000000'), ('--save-every', '99999999999999999999999')}


@pytest.fixture(scope='module')
def place(tmp_path_factory, clips):
    from mtssl.encoding.encoder import encoders
    folder = tmp_path_factory.mktemp('values')
    for kind in 'x', 'y':
        (folder/'music'/kind).mkdir(parents=True)
        for name in 'abcd': (folder/'music'/kind/f'{name}.wav').write_bytes((clips/f'{name}.wav').read_bytes())
    encoders.make('tcn(width=8, blocks=1)').save_pretrained(folder/'model')
    return folder


@drawn(30)
@given(st.sampled_from([(words, option) for words, options in wrong.items() for option in options]), st.sampled_from(absurd))
def test_option_values(place, words, value):
    "What cannot be meant ends in one sentence and exit code 1 or 2, before anything is written"
    from mtssl.app.cli import app
    words, option = words
    if (option, value) in meant: return
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = CliRunner().invoke(app, [*words, f'{option}={value}'] if option.startswith('--') else [*words, option, value])
    said = done.stderr.strip()
    assert done.exit_code in (1, 2) and 'Traceback' not in said and 'not foreseen' not in said, (words, option, value, done.output, done.exception)
    assert done.exit_code == 2 or len(said.splitlines()) == 1 and said.startswith('mtssl: '), said
    assert not [p for p in place.iterdir() if p.name not in ('music', 'model')], f'something was written for {option}={value}'


# ---- models

json_values = st.one_of(st.none(), st.booleans(), st.integers(-2, 40), st.sampled_from([10**7, 10**12, -10**9]), st.floats(), st.text(max_size=4), st.lists(st.integers(-1, 9), max_size=2))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    from mtssl.encoding.encoder import encoders
    folder = encoders.make('tcn(width=8, blocks=1)').eval().save_pretrained(tmp_path_factory.mktemp('models')/'model')
    return folder, {p.name: p.read_bytes() for p in folder.iterdir()}


@drawn(24)
@given(st.sampled_from(['sr', 'width', 'blocks', 'dim', 'front_hop', 'name', 'arguments', 'another']), json_values)
def test_descriptions(saved, name, value):
    "Whatever a config.json says: an encoder whose weights are those of the file, or a sentence, within seconds"
    from mtssl.encoding.encoder import Encoder
    folder, files = saved
    config = json.loads(files['config.json'])
    part = config['encoder'] if name in ('name', 'arguments') else config['encoder']['arguments']
    part[name] = value
    (folder/'config.json').write_text(json.dumps(config))
    encoder = sentence(lambda: Encoder.from_pretrained(folder, device='cpu'), folder)
    (folder/'config.json').write_bytes(files['config.json'])
    if encoder is None: return
    with torch.no_grad(): z = encoder(torch.zeros(1, 2 * encoder.hop))
    assert z.shape == (1, encoder.dim, 2) and z.isfinite().all()


@drawn(16)
@given(st.integers(0), st.integers(0, 255), st.one_of(st.none(), st.integers(0)))
def test_weights(saved, place, value, end):
    "A changed byte or a cut: finite frames, or a sentence"
    from mtssl.encoding.encoder import Encoder
    folder, files = saved
    data = bytearray(files['model.safetensors'])
    data[place % len(data)] = value
    (folder/'model.safetensors').write_bytes(data if end is None else data[:end % len(data)])
    encoder = sentence(lambda: Encoder.from_pretrained(folder, device='cpu'), folder)
    (folder/'model.safetensors').write_bytes(files['model.safetensors'])
    if encoder is not None:
        with torch.no_grad(): assert encoder(torch.zeros(1, 2 * encoder.hop)).isfinite().all()


# ---- stores and embeddings

@pytest.fixture(scope='module')
def written(tmp_path_factory, clips):
    "A store and embeddings of the four clips, and their bytes"
    from mtssl.embedding.collection import embed_collection
    from mtssl.encoding.encoder import encoders
    from mtssl.music.corpus import build_corpus
    folder = tmp_path_factory.mktemp('written')
    build_corpus(clips, folder/'store', 8000, jobs=1, quiet=True)
    encoder = encoders.make('tcn(width=8, blocks=1)', sr=22_050).eval()
    for out in 'all.npz', 'all.parquet': embed_collection(encoder, clips, folder/out, device='cpu', jobs=1, quiet=True)
    return folder, {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@drawn(30)
@given(st.sampled_from(['manifest.parquet', 'shard-00000.i16', 'all.npz', 'all.parquet']), st.integers(0), st.integers(1, 255), st.booleans())
def test_stores_and_embeddings(written, name, place, change, cut):
    "A changed byte or a cut: the same vectors, or a sentence; a store's samples have no more than the bytes there are"
    from mtssl.embedding.vector_files import read_embeddings
    from mtssl.music.corpus import Corpus
    folder, files = written
    path = next(p for p in files if p.name == name)
    data = bytearray(files[path])
    data[place % len(data)] ^= change
    if path.parent.name == 'store':
        read = lambda: [corpus[i] for corpus in [Corpus(path.parent)] for i in range(len(corpus))]
        good = lambda waves: all(np.isfinite(w).all() and np.abs(w).max() <= 1 for w in waves) and 2 * sum(map(len, waves)) <= 1.5 * len(files[path.parent/'shard-00000.i16'])
    else:
        vectors = read_embeddings(path)
        read = lambda: read_embeddings(path)
        good = lambda found: found.paths == vectors.paths and np.array_equal(found.embeddings, vectors.embeddings)
    path.write_bytes(data[:place % len(data)] if cut else data)
    try:
        if (found := sentence(read, folder)) is not None: assert good(found), f'{name} with byte {place % len(data)} changed gave other values'
    finally: path.write_bytes(files[path])
