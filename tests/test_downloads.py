"""Downloads on a bad day: a server on the loopback that drops the line, falls silent, sends other bytes or is gone; Ctrl-C and a full disk; hostile archives.

No test asks for an address other than 127.0.0.1.
"""
import hashlib, io, os, random, resource, shutil, signal, tarfile, threading, time, zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

content = random.Random(0).randbytes(600_000)
checksum = 'sha256:' + hashlib.sha256(content).hexdigest()
posix = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')


class Handler(BaseHTTPRequestHandler):
    "Does what the next word of `server.plan` says, else sends the file that is asked for, or its rest"
    def do_GET(self):
        server, does = self.server, self.server.plan.pop(0) if self.server.plan else 'whole'
        server.asked.append((does, self.headers.get('Range', '')))
        data, start = server.files.get(self.path), int((self.headers.get('Range') or 'bytes=0-')[6:-1])
        if does.isdigit() or data is None: return self.send_error(int(does) if does.isdigit() else 404)
        if does == 'moved':
            self.send_response(302)
            self.send_header('Location', f'http://127.0.0.1:{server.server_port}{self.path}')
            return self.end_headers()
        if does == 'no ranges': start = 0
        if start >= len(data):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(data)}')
            self.send_header('Content-Length', '0')
            return self.end_headers()
        sent = data[start:] if does != 'corrupted' else bytes([data[start] ^ 1]) + data[start + 1:]
        self.send_response(206 if start else 200)
        if start: self.send_header('Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}')
        if does != 'no length': self.send_header('Content-Length', str(len(sent)))
        self.end_headers()
        self.wfile.write(sent[:len(sent) // 2] if does in ('cut', 'silent') else sent)
        self.wfile.flush()
        if does == 'silent': server.go_on.wait(20)

    def log_message(self, *args): pass


@pytest.fixture
def site():
    "A server and its address; `plan`: words for the requests to come, `asked`: what was asked, `files`: path -> bytes"
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.plan, server.asked, server.files, server.go_on = [], [], {'/set.bin': content}, threading.Event()
    threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=.01), daemon=True).start()
    yield SimpleNamespace(server=server, url=f'http://127.0.0.1:{server.server_port}', ranges=lambda: [r for _, r in server.asked])
    server.go_on.set()
    server.shutdown()
    server.server_close()


def fetch(site, path, **kw):
    from mtssl.core.downloads import fetch_file
    return fetch_file(f'{site.url}/set.bin', path, checksum, page='the page', quiet=True, **dict(wait=.01, timeout=.3) | kw)


arrives = {'whole': 1, 'cut,cut,cut': 4, 'silent': 2, '503,whole': 2, '503,503,cut,503,503': 6, 'cut,no ranges': 2, 'corrupted': 2, 'moved': 2, 'no length': 1, 'cut,corrupted': 3}


@pytest.mark.parametrize('plan', arrives)
def test_it_arrives(site, tmp_path, plan):
    "Whole, whatever the line does; what has arrived is not asked for again, and nothing else is left"
    site.server.plan = plan.split(',')
    assert fetch(site, tmp_path/'new'/'set.bin').read_bytes() == content
    assert len(site.server.asked) == arrives[plan] and os.listdir(tmp_path/'new') == ['set.bin']
    starts = [int(r[6:-1]) for _, r in site.server.asked if r]
    assert starts == sorted(starts) or 'corrupted' in plan


def test_what_is_there_is_compared(site, tmp_path):
    "The file by hand is taken without a question to the server; a foreign one is refused and kept; a part of another file is dropped"
    (tmp_path/'set.bin').write_bytes(content)
    assert fetch(site, tmp_path/'set.bin') and not site.server.asked
    (tmp_path/'set.bin').write_bytes(content[:-1])
    with pytest.raises(ValueError, match='set.bin is not the file that was published .sha256 .*: move it away, or remove it'): fetch(site, tmp_path/'set.bin')
    assert (tmp_path/'set.bin').stat().st_size == len(content) - 1 and not site.server.asked
    (tmp_path/'other.bin.part').write_bytes(bytes(len(content) + 9))
    assert fetch(site, tmp_path/'other.bin').read_bytes() == content
    (tmp_path/'all.bin.part').write_bytes(content)  # it had arrived, and was not yet renamed
    assert fetch(site, tmp_path/'all.bin').read_bytes() == content and site.server.asked[-1][1] == f'bytes={len(content)}-'


@pytest.mark.parametrize('plan, said', {'404': 'the server has no such file .404.. Another way to the file: the page; put it at .*set.bin, where it is taken if it fits',
                                        '403': 'the server does not give it .403.', '503,503,503,503,503': 'the server answers 503',
                                        'corrupted,corrupted': 'twice gave another file than was published .sha256',
                                        'cut,503,503,503,503,503': 'answers 503. What has arrived, .* kB, is kept in .*set.bin.part, and the same command goes on',
                                        'silent,silent,silent,silent,silent,silent,silent,silent,silent,silent': 'the server fell silent. What has arrived'}.items())
def test_it_does_not(site, tmp_path, plan, said):
    "One sentence, and nothing under the file's own name"
    site.server.plan = plan.split(',')
    with pytest.raises((OSError, ValueError), match=said) as e: fetch(site, tmp_path/'set.bin', timeout=.1)
    assert '\n' not in str(e.value) and not (tmp_path/'set.bin').exists() and not [p for p in os.listdir(tmp_path) if p != 'set.bin.part']


def test_no_server(tmp_path):
    "Nobody listens; no such protocol"
    from mtssl.core.downloads import fetch_file
    with pytest.raises(OSError, match='could not be fetched: the server cannot be reached, or the line was dropped'):
        fetch_file('http://127.0.0.1:9/set.bin', tmp_path/'set.bin', checksum, quiet=True, tries=2, wait=.01)
    with pytest.raises((OSError, ValueError), match='gopher'): fetch_file('gopher://127.0.0.1/set.bin', tmp_path/'set.bin', checksum, quiet=True)


def in_a_fork(work, meanwhile=lambda pid: None):
    "The exit code of a copy of this process that does `work`: 3 for Ctrl-C, 4 for an error of the file system"
    if not (pid := os.fork()):
        try:
            work()
            os._exit(0)
        except KeyboardInterrupt: os._exit(3)
        except OSError as e: os._exit(4 if 'because the disk is full' in str(e) and '.part could not be written' in str(e) else 5)
        finally: os._exit(6)
    meanwhile(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@posix
def test_ctrl_c(site, tmp_path):
    "While the server is silent; the part is kept, and the next process asks for the rest only"
    import pooch, requests  # noqa: F401, so that the copy need not
    site.server.plan = ['silent']
    def press(pid):
        end = time.time() + 20
        while not (tmp_path/'set.bin.part').exists() or not (tmp_path/'set.bin.part').stat().st_size: assert time.time() < end and not time.sleep(.01)
        os.kill(pid, signal.SIGINT)
    def work():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        fetch(site, tmp_path/'set.bin', timeout=20)
    assert in_a_fork(work, press) == 3 and os.listdir(tmp_path) == ['set.bin.part']
    have = (tmp_path/'set.bin.part').stat().st_size
    assert fetch(site, tmp_path/'set.bin').read_bytes() == content and site.ranges() == ['', f'bytes={have}-']


@posix
def test_full_disk(site, tmp_path):
    "A limit on the size of files fails a write in its middle, as a full disk does; the part stays, and goes on when there is room"
    import pooch, requests  # noqa: F401
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        fetch(site, tmp_path/'set.bin')
    assert in_a_fork(work) == 4 and os.listdir(tmp_path) == ['set.bin.part']
    assert fetch(site, tmp_path/'set.bin').read_bytes() == content and site.ranges()[1].startswith('bytes=')


def archive(kind, files):
    "The bytes of an archive of name -> bytes"
    out = io.BytesIO()
    if kind == 'zip':
        with zipfile.ZipFile(out, 'w') as z:
            for name, data in files.items(): z.writestr(name, data)
    else:
        with tarfile.open(fileobj=out, mode=f'w:{kind}') as t:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize('kind', ['zip', 'gz', 'bz2'])
def test_archives_that_are_cut_or_changed(tmp_path, kind):
    "At any byte: refused in one sentence, nothing outside the folder, and under a file's own name its own bytes or none"
    from mtssl.core.unpacking import unpack
    files = {f'{i}.wav': random.Random(i).randbytes(3000) for i in range(4)}
    whole, rng = archive(kind, files), random.Random(1)
    for k in range(40):
        data, at = bytearray(whole), rng.randrange(len(whole) - 3)
        if k % 2: del data[at:]
        else: data[at] ^= 1 << rng.randrange(8)
        (tmp_path/'a').write_bytes(data)
        out = tmp_path/str(k)
        try: assert unpack(tmp_path/'a', out, quiet=True)[0] <= 4
        except (ValueError, OSError) as e: assert '\n' not in str(e) and str(tmp_path/'a') in str(e), e
        made = {p.name: p.read_bytes() for p in out.rglob('*')} if out.exists() else {}
        assert all(files.get(name, data) == data for name, data in made.items()), (k, at)
    assert {p.name for p in tmp_path.iterdir()} <= {'a', *map(str, range(40))}


def miniature(site, monkeypatch):
    "A set of the catalogue, in miniature and on the loopback"
    import numpy as np
    import soundfile
    from mtssl.core.downloads import fetchables
    from mtssl.probing import fetching
    rows, sounds = ['Path,Fold,Instrument (in full),Pitch'], {}
    for i in range(20):
        name, file = f'Winds/{i}.wav', io.BytesIO()
        soundfile.write(file, np.random.default_rng(i).normal(0, .1, 4000), 16_000, format='WAV')
        sounds[name] = file.getvalue()
        rows.append(f'{name},{i % 5},{("Flute", "Oboe")[i % 2]},{("A4", "C5")[i // 2 % 2]}')
    site.server.files |= {'/t.csv': '\n'.join(rows).encode(), '/TinySOL.tar.gz': archive('gz', sounds)}
    md5 = lambda path: 'md5:' + hashlib.md5(site.server.files[path]).hexdigest()
    part = lambda path: dict(url=site.url + path, size=len(site.server.files[path]), checksum=md5(path))
    entry = dict(title='Notes', licence='CC0', page='the page', source='here', reader='tinysol', unpacked=200_000,
                 files=[dict(path='TinySOL_metadata.csv', **part('/t.csv'))], archives=[dict(into='audio', parts=[part('/TinySOL.tar.gz')])])
    monkeypatch.setitem(fetchables, 'notes', fetching._fetchable('notes', entry))


def test_the_command(site, tmp_path, monkeypatch):
    "Says what it costs, asks, fetches, unpacks, checks, names the next command; again, nothing is asked for; a small disk is one sentence"
    from mtssl.app.cli import app
    import mtssl.probing # noqa: F401, whose readers register
    miniature(site, monkeypatch)
    call = lambda *words: CliRunner().invoke(app, ['fetch', 'notes', '--out', str(tmp_path/'set'), '--quiet', *words])
    assert (done := call()).exit_code == 1 and 'say --yes' in done.stderr and not site.server.asked
    with monkeypatch.context() as small:
        small.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=1000))
        assert (done := call('--yes')).exit_code == 1 and 'and its disk has 1.0 kB free: make room' in done.stderr and not site.server.asked
    done = call('--yes')
    said = ' '.join(done.stdout.split())
    assert done.exit_code == 0 and 'licence CC0' in said and '20 clips (16 train, 4 test)' in said and 'Next: mtssl probe MODEL "tinysol(' in said, done.output
    assert sorted(os.listdir(tmp_path/'set')) == ['TinySOL_metadata.csv', 'audio', 'fetched.json'] and len(site.server.asked) == 2
    assert call('--yes').exit_code == 0 and len(site.server.asked) == 2
    (tmp_path/'set'/'audio'/'Winds'/'3.wav').unlink()
    assert (done := call('--yes')).exit_code == 1 and '1 of 20 audio files are missing' in done.stderr and 'remove' in done.stderr
