"""How quickly the page of a map answers: panning, hovering, zooming, searching and choosing among many points.

    python benchmarks/map_page.py                      # 20,000 points, as a table
    python benchmarks/map_page.py --points 1000 --csv map_page.csv

A map of made-up tracks is opened in a headless Chromium (MTSSL_BROWSER, else the one on PATH). Two times are told for each thing that
a reader does: the thread that answers the reader, in CPU milliseconds per frame, which a busy machine does not change; and the time
between frames as it was, with WebGL in software, which is much slower than on any graphics card. A screen that is redrawn 60 times
a second leaves 16.7 ms to a frame.
"""
import argparse, os, shutil, tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from mtssl.embedding.map_columns import MapColumn, folder_column, packed
from mtssl.embedding.map_page import write_map_page
from mtssl.embedding.maps import neighbour_table, pca_layout, standardised
from playwright.sync_api import sync_playwright


def made_up(n, styles=12):
    "What the page of `n` tracks knows: clouds of points, names as collections have them"
    rng = np.random.default_rng(0)
    style = rng.integers(0, styles, n)
    vectors = (rng.normal(size=(styles, 16))[style] + .6 * rng.normal(size=(n, 16))).astype('float32')
    names = [f'Artist {i % 700:03}/Album {i % 2100:04}/{i:05} A song with a name.flac' for i in range(n)]
    rows, cosines = neighbour_table(vectors, quiet=True)
    columns = [folder_column(names), MapColumn('style', 'class', [f'style {s}' for s in style]), MapColumn('bpm', 'number', rng.uniform(60, 180, n))]
    return dict(names=names, titles=None, base=None, folder='', near=packed(rows, '<i4'), cosines=packed(np.round(100 * cosines), 'i1'),
                layouts=[dict(name='PCA', title='PCA', at=packed(pca_layout(standardised(vectors))[0], '<f4'))],
                columns=[c.packed() for c in columns], colour=1, excerpts=None, sound='audio/webm', left_out=0, made='Made up.')


class Meter:
    "Frames, and the CPU time of the page's thread, while something is done"
    def __init__(self, page):
        self.page, self.protocol, self.rows = page, page.context.new_cdp_session(page), []
        self.protocol.send('Performance.enable', dict(timeDomain='threadTicks'))

    def busy(self): return 1000 * {m['name']: m['value'] for m in self.protocol.send('Performance.getMetrics')['metrics']}['TaskDuration']

    def __call__(self, what, *steps):
        "Take `steps`, functions, each followed by two frames"
        self.page.evaluate('''() => { window.frames_ = [performance.now()]; window.going = true
            const next = t => { frames_.push(performance.now()); if (going) requestAnimationFrame(next) }; requestAnimationFrame(next) }''')
        start = self.busy()
        for step in steps:
            step()
            self.page.evaluate('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))')
        used = self.busy() - start
        gaps = np.diff(self.page.evaluate('() => { going = false; return frames_ }'))
        self.rows.append({'what': what, 'steps': len(steps), 'CPU ms per step': used / len(steps), 'ms between frames, median': np.median(gaps), '95 % of them under': np.quantile(gaps, .95)})


def measure(page):
    "A table, one row per thing that a reader does"
    meter, stage = Meter(page), page.locator('#map').bounding_box()
    x, y = stage['x'] + stage['width'] / 2, stage['y'] + stage['height'] / 2
    move = lambda k: lambda: page.mouse.move(x + 5 * k, y + 3 * k)
    meter('at rest', *[lambda: None] * 20)
    meter('hovering', *map(move, range(-15, 15)))
    page.mouse.move(x, y)
    page.mouse.down()
    before = page.evaluate('musicMap.pixelOf(0)[0]')
    meter('panning', *map(move, range(30)))
    page.mouse.up()
    if page.evaluate('musicMap.pixelOf(0)[0]') < before + 100: raise RuntimeError('The map did not move.')
    meter('zooming by the wheel', *[lambda: page.mouse.wheel(0, -120)] * 8)
    page.locator('#fit').click()
    page.locator('#find').focus()
    meter('typing in the search', *[lambda letter=letter: page.keyboard.type(letter) for letter in '0012 song'])
    page.keyboard.press('Escape')
    meter('choosing a track', *[lambda i=i: page.evaluate(f'musicMap.choose({i}, false)') for i in range(0, 500, 50)])
    meter('other colours', *[lambda c=c: page.select_option('#colour', c) for c in '20121'])
    return pd.DataFrame(meter.rows).set_index('what').round(1)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--points', type=int, default=20_000, help='tracks of the map')
    parser.add_argument('--csv', help='also write the table here')
    args = parser.parse_args()
    browser = shutil.which(os.environ.get('MTSSL_BROWSER', 'chromium')) or shutil.which('google-chrome')
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        path = write_map_page(Path(folder)/'map.html', 'Many points', made_up(args.points))
        started = p.chromium.launch(executable_path=browser, args=['--no-sandbox', '--ignore-gpu-blocklist', '--use-angle=swiftshader', '--enable-unsafe-swiftshader'])
        page = started.new_context(viewport=dict(width=1280, height=800)).new_page()
        page.set_default_timeout(120_000)
        page.goto(path.as_uri())
        page.wait_for_selector('[data-ready]', state='attached')
        table = measure(page)
        print(f'{args.points:,} points, {path.stat().st_size / 1e6:.1f} MB, {started.version}')
        print(table.to_string())
        if args.csv: table.to_csv(args.csv)
        started.close()
