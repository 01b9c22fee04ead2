"""Measure the packages of `mtssl/free_music.json`: megabytes, and how much music `mtssl fetch free_music` takes from each.

    python tools/free_music.py PACKAGES     # a folder of packages; those that are not there are downloaded (5 GB for all)

Names, licences and the places of music are written by hand; a package that the archive no longer has keeps its numbers.
"""
import json, sys
from pathlib import Path
from tempfile import TemporaryDirectory

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))
from mtssl.music.debian import get_packages # noqa: E402
from mtssl.music.free_tracks import _unpack # noqa: E402

path = root/'mtssl/free_music.json'
rows = {row['package']: row for row in json.loads(path.read_text())}
heard = set()
for package, deb in get_packages(sorted(rows, key=lambda p: rows[p]['mb']), sys.argv[1]):
    if deb is None: print(f'{package} is not in the archive'); continue
    with TemporaryDirectory() as folder: found, _ = _unpack(package, deb, rows[package]['files'], Path(folder))
    music = {r['fingerprint']: r for r in found if not r['reason'] and r['fingerprint'] not in heard}
    held = sum(r['seconds'] for r in found if r['reason'] == 'test track of soundtracks')
    heard |= set(music)
    hours = sum(r['seconds'] for r in music.values()) / 3600
    rows[package] |= dict(mb=round(deb.stat().st_size / 1e6, 1), tracks=len(music), hours=round(hours, 2), held=round(held / 3600, 2))
path.write_text('[\n' + ',\n'.join(json.dumps(row) for row in rows.values()) + '\n]\n')
