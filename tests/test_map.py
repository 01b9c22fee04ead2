"""`mtssl map` with the installed wheel, and its page in a headless browser, with sound: points, search, neighbours, lasso, keys, a telephone.

The browser is `MTSSL_BROWSER` (a failure if it is not there), else `chromium` or `google-chrome` on PATH; without one, its tests are skipped.
"""
import base64, csv, io, itertools, json, re
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import chromium, flaws, mtssl

rate = 16_000


def add_layout(path):
    "Give a map a second layout, as `--layout umap` does: the first, turned over (UMAP itself is tested in its notebook, and takes half a minute to compile)"
    text = path.read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    turned = base64.b64encode((-np.frombuffer(base64.b64decode(data['layouts'][0]['at']), '<f4')).tobytes()).decode()
    old, new = (json.dumps(layout, separators=(',', ':')) for layout in (data['layouts'][0], dict(name='turned', title='The other way round', at=turned)))
    path.write_text(text.replace(f'"layouts":[{old}]', f'"layouts":[{old},{new}]'))


@pytest.fixture(scope='module')
def maps(installed, tmp_path_factory):
    "A folder of 18 tones with names that are hard to write into a page, a broken file, tables, and two maps: one that plays the files, one that plays excerpts"
    from mtssl.encoding.encoder import encoders
    folder = tmp_path_factory.mktemp('map')
    for i in range(18):
        path = folder/'my music'/['low', 'high', "it's </script> & #1"][i % 3]/f'{i:02} song 100%.{"ogg" if i % 2 else "wav"}'
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = .3 * np.sin(2 * np.pi * (150 * 2 ** (i % 3 + i / 30)) * np.arange(2 * rate) / rate)
        soundfile.write(path, wave, rate)
    (folder/'my music/broken.mp3').write_text('no music')
    paths = sorted(p.relative_to(folder/'my music').as_posix() for p in folder.rglob('*song*'))
    with open(folder/'labels.csv', 'w', newline='') as file:
        csv.writer(file).writerows([('path', 'mood', 'BPM', 'remark'), *((p, 'calm' if i % 2 else 'wild', 60 + 5.5 * i, f'take {i}') for i, p in enumerate(paths[:16]))])
    (folder/'predictions.csv').write_text('path,genre,genre confidence,genre p(folk)\n' + ''.join(f'"{p}",{"folk" if "low" in p else "rock"},0.{i + 10},0.5\n' for i, p in enumerate(paths)))
    encoders.make('tcn(width=16, blocks=2)').save_pretrained(folder/'model')
    done = mtssl(installed, 'map', 'model', 'my music', '--out', 'map.html', '--labels', 'labels.csv', '--predictions', 'predictions.csv', '--device', 'cpu', '--json', cwd=folder)
    add_layout(folder/'map.html')
    again = mtssl(installed, 'map', 'model', 'my music', '--out', 'away/share.html', '--embeddings', 'map.npz', '--excerpts', 1, '--no-links', '--device', 'cpu', '--json', cwd=folder)
    return SimpleNamespace(folder=folder, paths=paths, done=done, again=again, first=json.loads(done.stdout), second=json.loads(again.stdout))


@pytest.fixture(scope='module')
def browser():
    "A headless browser of the system, with WebGL in software"
    with chromium('--ignore-gpu-blocklist', '--use-angle=swiftshader', '--enable-unsafe-swiftshader') as started: yield started


@pytest.fixture
def open_map(browser, maps):
    "Opens a page from its folder; whatever goes wrong in it, or asks for anything but the page and the music, fails the test"
    opened, wrong = [], []
    def show(name, **how):
        context = browser.new_context(**dict(viewport=dict(width=1280, height=800), accept_downloads=True, **how))
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on('console', lambda m: wrong.append(m.text) if m.type in ('error', 'warning') else None)
        page.on('pageerror', lambda e: wrong.append(str(e)))
        page.on('request', lambda r: None if r.url.startswith(('data:', 'blob:', maps.folder.as_uri())) else wrong.append(f'it asks for {r.url}'))
        page.goto((maps.folder/name).as_uri())
        page.wait_for_selector('[data-ready]', state='attached')
        opened.append(context)
        return page
    yield show
    for context in opened: context.close()
    assert not wrong, '\n'.join(wrong)


def spot(page, name):
    "Where on the screen the track is whose path holds `name`"
    return page.evaluate('''name => { const i = JSON.parse(document.getElementById('data').textContent).names.findIndex(n => n.includes(name))
        const r = document.getElementById('map').getBoundingClientRect(), [x, y] = musicMap.pixelOf(i); return [r.left + x, r.top + y] }''', name)


playing = "() => { const a = document.getElementById('audio'); return a.currentTime > .2 && !a.error && a.webkitAudioDecodedByteCount > 0 }"


def test_command(maps):
    "What is said, reused, and written; nothing of this machine in the page"
    assert (maps.first['tracks'], maps.first['new'], maps.second['new']) == (18, 18, 0)
    assert maps.first['columns'] == ['folder', 'mood', 'BPM', 'remark', 'genre', 'genre confidence'] and 'broken.mp3' in maps.done.stderr
    for name, done in ('map.html', maps.first), ('away/share.html', maps.second):
        text = (maps.folder/name).read_text()
        assert done['bytes'] < 2e6 and str(maps.folder) not in text and "default-src 'none'" in text
        assert not re.search(r'<(?:script|link|img|iframe)[^>]+(?:src|href)=', text.split('<script type="application/json"')[0])


def test_points(maps, open_map):
    "Each track is drawn where the page says it is, by WebGL, coloured by the predictions; hovering names it"
    page = open_map('map.html')
    assert '18 tracks, 1 could not be read' in page.inner_text('#facts') and page.evaluate('!!musicMap.view().canvas_view.webgl')
    assert [b.inner_text() for b in page.locator('#legend .text').all()] == ['rock', 'folk'] and page.locator('#colour option').count() == 5
    assert page.input_value('#colour') == '4' and page.get_by_role('button', name='PCA').get_attribute('aria-pressed') == 'true'
    from PIL import Image
    x, y = spot(page, '03 song')
    r, g, b = Image.open(io.BytesIO(page.screenshot())).convert('RGB').getpixel((round(x), round(y)))
    assert max(r, g, b) - min(r, g, b) > 40, 'there is no point where a track should be'
    page.mouse.move(x, y)
    page.locator('#tip', has_text='song').wait_for()
    assert 'genre: ' in page.inner_text('#tip')
    page.get_by_role('button', name='turned').click()
    there = spot(page, '03 song')
    assert 'other way round' in page.inner_text('#facts') and max(abs(there[0] - x), abs(there[1] - y)) > 5
    page.select_option('#colour', label='BPM')
    assert page.inner_text('#low') == '60' and page.inner_text('#unknown').startswith('2 without')


def test_sound(maps, open_map):
    "A click plays the file and lists the most alike, nearest first; a click on one of them plays that; what is no sound is said"
    page = open_map('map.html')
    page.mouse.click(*spot(page, '04 song'))
    page.wait_for_function(playing)
    assert 'song' in page.inner_text('#name') and page.locator('#near button').count() == 10
    cosines = [float(t) for t in page.locator('#near .cosine').all_inner_texts()]
    assert cosines == sorted(cosines, reverse=True)
    first = page.locator('#near .text span').first.inner_text()
    page.locator('#near button').first.click()
    assert page.inner_text('#name') == first
    page.wait_for_function(playing)
    page.locator('#more summary').click()
    assert page.locator('#about dd').last.inner_text() in maps.paths


def test_excerpts(maps, open_map):
    "A page elsewhere plays what it holds, and leads to no file"
    page = open_map('away/share.html')
    page.mouse.click(*spot(page, '05 song'))
    page.wait_for_function(playing)
    assert page.locator('#open').is_hidden() and page.evaluate("document.getElementById('audio').src").startswith('data:audio/webm')


def test_search_and_keys(maps, open_map):
    "Everything by keys: search, play, move, neighbours, list; all shown again"
    page = open_map('map.html')
    page.keyboard.press('/')
    page.keyboard.type('low song 03')
    page.locator('#found [role=option]').first.wait_for()
    assert page.inner_text('#count') == '1 found' and page.evaluate('musicMap.state.found.size') == 1
    page.keyboard.press('Enter')
    page.wait_for_function(playing)
    page.keyboard.press('Escape')
    assert page.evaluate('musicMap.state.found') is None
    page.locator('#map').focus()
    before = page.inner_text('#name')
    for key in 'ArrowRight', 'ArrowLeft', 'ArrowUp', 'ArrowDown': page.keyboard.press(key)
    assert page.inner_text('#name') != before or page.evaluate('musicMap.state.current') >= 0
    page.keyboard.press('1')
    page.keyboard.press('a')
    assert page.inner_text('#number') == '1'
    page.keyboard.press('Enter')
    page.wait_for_function(playing)
    page.keyboard.press(' ')
    assert page.evaluate("document.getElementById('audio').paused")
    page.keyboard.press('?')
    page.locator('#keys').wait_for()
    page.keyboard.press('Escape')
    page.keyboard.type('xyz')
    page.locator('#legend button').first.click()
    shown = page.inner_text('#keep')
    page.locator('#keep').click()
    assert int(re.search(r'\d+', shown)[0]) >= 6 and page.evaluate('musicMap.state.list.size') >= 6


def test_lasso(maps, open_map):
    "A lasso round everything makes a list, which is saved as a playlist and as a table"
    page = open_map('map.html')
    page.get_by_role('button', name='Lasso').click()
    stage = page.locator('#map').bounding_box()
    left, top, right, bottom = stage['x'] + 2, stage['y'] + 48, stage['x'] + stage['width'] - 2, stage['y'] + stage['height'] - 2
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in (right, top), (right, bottom), (left, bottom), (left, top + 2): page.mouse.move(x, y, steps=6)
    page.mouse.up()
    page.wait_for_function('musicMap.state.list.size === 18')
    def saved(name):
        with page.expect_download() as got: page.get_by_role('button', name=name).click()
        path = maps.folder/f'saved {got.value.suggested_filename}'
        got.value.save_as(path)
        return path
    lines = [line for line in saved('Playlist').read_text().splitlines() if line[:1] != '#']
    assert sorted(lines) == [f'my music/{p}' for p in maps.paths] and all((maps.folder/line).is_file() for line in lines)
    with open(saved('CSV'), newline='') as file: rows = list(csv.DictReader(file))
    assert {r['path']: r['genre'] for r in rows}[maps.paths[0]] in ('folk', 'rock') and sorted(r['path'] for r in rows) == maps.paths
    page.get_by_role('button', name='Clear').click()
    assert page.inner_text('#number') == '0'


def test_telephone_and_dark(maps, open_map):
    "A tap plays; nothing is wider than the screen; the dark is the system's until the button is pressed"
    page = open_map('map.html', has_touch=True, color_scheme='dark')
    page.set_viewport_size(dict(width=390, height=844))
    ground = 'getComputedStyle(document.body).backgroundColor'
    dark = page.evaluate(ground)
    page.wait_for_function('document.scrollingElement.scrollWidth <= 390')
    page.wait_for_timeout(300)
    page.touchscreen.tap(*spot(page, '06 song'))
    page.wait_for_function(playing)
    assert not (found := flaws(page)), found
    page.locator('#theme').click()
    assert page.evaluate(ground) != dark and not (found := flaws(page)), found


@pytest.fixture(scope='module')
def sounds(tmp_path_factory):
    "Tones of one second in two pitches, loud or soft, ten of them without labels; a table of every type of label; a model"
    from mtssl.encoding.encoder import encoders
    folder, rows = tmp_path_factory.mktemp('sounds'), []
    (folder/'Music').mkdir()
    for i in range(50):
        high, loud = i % 2, i // 2 % 2
        wave = (.4 if loud else .05) * np.sin(2 * np.pi * (1200 if high else 200) * (1 + i / 1000) * np.arange(rate) / rate)
        soundfile.write(folder/f'Music/{i:02}.wav', wave, rate)
        rows.append((f'Music/{i:02}.wav', f'album {i // 4}', 'high' if high else 'low', loud, high, 'A minor' if high else 'C major', (140 if high else 70) + i / 8))
    with open(folder/'labels.csv', 'w', newline='') as file: csv.writer(file).writerows([('path', 'group', 'pitch', 'is.loud', 'is.high', 'key', 'bpm'), *rows[:40]])
    encoders.make('tcn(width=16, blocks=2)').save_pretrained(folder/'model')
    return folder


@pytest.mark.parametrize('tasks, out, columns, lists', [
    (['pitch', 'bpm:tempo'], 'answers.csv', 'pitch,pitch source,pitch confidence,pitch doubt,bpm,bpm source,bpm low,bpm high,bpm doubt', {'low', 'high'}),
    (['is:multi-label', 'key:key'], 'answers.parquet', 'is.loud,is.high,is source,is doubt,key,key source,key confidence,key doubt', {'loud', 'high', 'C major', 'A minor'})], ids=['csv', 'parquet'])
def test_classify(sounds, monkeypatch, tasks, out, columns, lists):
    "Every type of label as a command: table, playlists, tracks to label next; then the saved classifier in place of the labels"
    import pandas as pd
    from typer.testing import CliRunner
    from mtssl.app.cli import app
    monkeypatch.chdir(sounds)
    def classify(*words):
        done = CliRunner().invoke(app, ['classify', 'model', *words, '--embeddings', 'vectors.parquet', '--next', '3', '--device', 'cpu', '--jobs', '1', '--json'])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)
    read = pd.read_parquet if out.endswith('.parquet') else pd.read_csv
    named = [word for task in tasks for word in ('--task', task)]
    said = classify('labels.csv', 'Music', '--out', out, *named, '--probes', 'knn', '--playlists', f'{out} lists', '--save', f'{out} saved')
    table, following = read(out), pd.read_csv(said['next'])
    columns = columns.split(',')
    answers = [c for c in columns if ' ' not in c]
    assert [c for c in table if ' p(' not in c] == ['path', *columns]
    assert all((table[c] == 'label').sum() == 40 for c in columns if c.endswith('source'))
    assert {p.stem for p in (sounds/f'{out} lists').rglob('*.m3u8')} == lists and len(said['playlists']) == len(lists)
    assert len(following) == 3 and following[answers].notna().all(axis=None) and set(following['path']) <= {f'Music/{i}.wav' for i in range(40, 50)}
    card = (sounds/f'{out} saved/README.md').read_text()
    assert all(f"| {task.partition(':')[0]} |" in card for task in tasks) and 'Classifier.load' in card
    again = classify(f'{out} saved', 'Music', '--out', f'again {out}')
    assert again['new'] == 0 and again['scores'] is None
    pd.testing.assert_frame_equal(read(f'again {out}')[answers][40:], table[answers][40:], rtol=1e-3)


def read_report(browser, path):
    "A report on a phone in the dark: axe-core finds nothing wrong, the page is not wider than the screen, and the first column of a table that scrolls stays"
    context = browser.new_context(viewport=dict(width=390, height=844), color_scheme='dark')
    page = context.new_page()
    page.goto(path.as_uri())
    assert not (found := flaws(page)), found
    assert page.evaluate('document.scrollingElement.scrollWidth') <= 390
    dark = page.evaluate('getComputedStyle(document.body).backgroundColor')
    assert max(map(int, re.findall(r'\d+', dark)[:3])) < 60 and not re.search(r'alt="(figure)?"', path.read_text())
    moved = page.evaluate("""() => [...document.querySelectorAll('.scroll')].filter(t => t.scrollWidth > t.clientWidth + 20).map(t => {
        const cell = t.querySelector('td'), place = () => cell.getBoundingClientRect().left, before = place()
        t.scrollLeft = 20
        return [place() - before, getComputedStyle(cell).backgroundColor] })""")
    assert moved and all(abs(by) < 1 and colour == dark for by, colour in moved), moved
    context.close()


def test_run_report(browser, tmp_path):
    "The page of a run, drawn from files like those of a run"
    from mtssl.pretraining.run_report import report_run
    names = {'mfcc': .8, 'clip(spectral_contrast)': .3, 'tempogram(rate=40)': .01}
    history = dict(epoch=[1, 2], step=[10, 20], train_loss=[3., 2.], valid_loss=[3., 2.], r2=[.2, .4])
    for name, r2 in names.items(): history |= {f'{name}.{kind}': [v / 2, v] for kind, v in dict(loss=1 - r2, r2=r2, weight=1., share=.3, norm=.1).items()}
    settings = dict(bs=8, seconds=3., silence=-60., workers=','.join(names), epochs=2)
    config = dict(settings=settings, source='music', encoder=dict(name='tcn', arguments={}), versions=dict(mtssl='0.1.0'), parameters=dict(encoder=10, workers=10),
                  data=dict(name='music', tracks=40, hours=2.5, silent=9, left_out={'damaged': 3}))
    write = lambda name, rows: (tmp_path/name).write_text('\n'.join(','.join(map(str, row)) for row in rows))
    write('history.csv', [history, *zip(*history.values())])
    write('cosines.csv', [('epoch', 'worker', 'other', 'cosine'), *((2, a, b, .1) for a, b in itertools.combinations(names, 2))])
    write('times.csv', [('epoch', 'seconds', 'device'), (1, 9, 'cpu'), (2, 9, 'cpu')])
    (tmp_path/'config.json').write_text(json.dumps(config))
    read_report(browser, report_run(tmp_path))


def as_m4a(path, wave, sr):
    "AAC in MP4, as telephones and shops have it"
    import av
    with av.open(str(path), 'w', format='mp4') as file:
        stream = file.add_stream('aac', rate=sr, layout='mono')
        frame = av.AudioFrame.from_ndarray(wave.astype('float32')[None], format='fltp', layout='mono')
        frame.sample_rate = sr
        for packet in [*stream.encode(frame), *stream.encode()]: file.mux(packet)


def test_three_commands(installed, browser, tmp_path):
    "A new user with a folder of mixed files and 40 labels: predictions, what to label next, and a map that plays, by the model of the package"
    kinds, generator = ['m4a', 'mp3', 'flac', 'ogg', 'wav', 'm4a'], np.random.default_rng(0)
    for i in range(48):
        t = np.arange(3 * 22_050) / 22_050
        notes = 220 * 2 ** (generator.integers(0, 12, 24 if i % 2 else 3) / 12)
        wave = sum(.15 * np.sin(2 * np.pi * f * t) * (np.abs(t - 3 * (k + .5) / len(notes)) < 1.5 / len(notes)) for k, f in enumerate(notes)) # quick or slow
        path = tmp_path/'Music'/f'album {i % 5}'/f'{i:02} song.{kinds[i % 6]}'
        path.parent.mkdir(parents=True, exist_ok=True)
        as_m4a(path, wave, 22_050) if path.suffix == '.m4a' else soundfile.write(path, wave, 22_050)
    paths = sorted(p.relative_to(tmp_path/'Music').as_posix() for p in (tmp_path/'Music').rglob('*song*'))
    quick = {p: 'quick' if int(p.split('/')[1][:2]) % 2 else 'slow' for p in paths}
    (tmp_path/'labels.csv').write_text('path,pace\n' + ''.join(f'{p},{quick[p]}\n' for p in paths[:40]))

    mtssl(installed, 'embed', 'Music', '--out', 'music.parquet', '--device', 'cpu', '--quiet', cwd=tmp_path)
    said = mtssl(installed, 'classify', 'labels.csv', 'Music', '--embeddings', 'music.parquet', '--device', 'cpu', '--json', cwd=tmp_path)
    drawn = mtssl(installed, 'map', 'Music', '--predictions', 'predictions.csv', '--embeddings', 'music.parquet', '--device', 'cpu', '--json', cwd=tmp_path)
    with open(tmp_path/'predictions.csv') as file: rows = {r['path']: r for r in csv.DictReader(file)}
    said, drawn = json.loads(said.stdout), json.loads(drawn.stdout)
    with open(tmp_path/said['next']) as file: following = [r['path'] for r in csv.DictReader(file)]
    assert said['new'] == drawn['new'] == 0 and len(rows) == 48
    assert np.mean([rows[p]['pace'] == quick[p] for p in paths[40:]]) >= .75, 'the model of the package does not tell quick from slow'
    assert following and set(following) <= set(paths[40:])

    read_report(browser, tmp_path/said['report'])
    page = browser.new_context(viewport=dict(width=1280, height=800)).new_page()
    page.set_default_timeout(60_000)
    page.goto((tmp_path/'map.html').as_uri())
    page.wait_for_selector('[data-ready]', state='attached')
    assert '48 tracks' in page.inner_text('#facts') and {'quick', 'slow'} == {b.inner_text() for b in page.locator('#legend .text').all()}
    for name in '.m4a', '.mp3', '.flac':
        page.mouse.click(*spot(page, name))
        page.wait_for_function(playing)
