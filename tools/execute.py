"""Execute notebooks under the rules of `nbdev_test` and store their outputs, reproducibly.

    python tools/execute.py                 # every notebook
    python tools/execute.py nbs/11_music.audio.ipynb nbs/index.ipynb
    python tools/execute.py --downloads nbs/real_music.ipynb    # also its cells with `#| notest`, which need what `mtssl fetch` brings
    python tools/execute.py --fold          # run nothing, only fold the hidden cells of every notebook

Cells that are left out keep the outputs they have.

Outputs are kept because the documentation site shows them. Warnings on standard error are not: they
belong to the machine that ran the notebook, not to the lesson. Cells with `#| exec_doc` keep none: the site runs them anew.

Tables show the whole text of a cell, whether the notebook imports fastai, which sees to that, or not.

Figures have two pixels per CSS pixel, so that they are sharp on every screen, and a palette of colours, so that they stay small.
A cell with `#| hide` is folded in JupyterLab and VS Code: a reader sees the lesson, and one click opens the test.
"""
import base64, io, os, re, sys, time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '2')
os.environ['IN_TEST'] = '1'

from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from PIL import Image
from fastcore.xtras import working_directory
from nbdev.config import get_config
from nbdev.clean import clean_nb
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor

limit = 250_000  # bytes of stored outputs a notebook
dots = 144       # per inch of a figure; CSS has 72 of matplotlib's points to the inch
downloads = '--downloads' in sys.argv


def skipped(cell):
    "True for a cell that `nbdev_test` would not run, but for `#| notest` with --downloads"
    directives = getattr(cell, 'directives_', None) or {}
    return (cell.cell_type != 'code' or 'nbdev_export' + '(' in cell.source
            or directives.get('eval:', [''])[0].lower() == 'false'
            or not downloads and bool(set(get_config().tst_flags.split()) & directives.keys()))


def smaller(png):
    "The picture with at most 128 colours, which saves two thirds of its bytes, and its size in CSS pixels"
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if 'dpi' not in image.info or round(image.info['dpi'][0]) != dots: return png, {}
    flat = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image.convert('RGBA')).convert('RGB')
    colours = flat.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    saved = io.BytesIO()
    colours.save(saved, 'PNG', optimize=True, dpi=(dots, dots))
    return base64.b64encode(saved.getvalue()).decode(), dict(width=image.width * 72 // dots, height=image.height * 72 // dots)


def tidy(output):
    "`output` without what differs from one run to the next, object addresses; its figure as small as it can be"
    data = output.get('data', {})
    if 'image/png' in data:
        data['image/png'], size = smaller(''.join(data['image/png']))
        if size: output['metadata'] = {**output.get('metadata', {}), 'image/png': size}
    if 'text/plain' in data: data['text/plain'] = [re.sub(r' at 0x[0-9a-f]+', '', l) for l in data['text/plain']]
    return output


def fold(nb):
    "Cells with `#| hide` are folded for a reader in JupyterLab; what is no longer hidden is open again"
    for cell in nb.cells:
        hidden = cell.cell_type == 'code' and re.search(r'^#\| *hide\b', cell.source, re.M)
        if hidden: cell.metadata['jupyter'] = dict(source_hidden=True)
        else: cell.metadata.pop('jupyter', None)


def execute(path):
    "Run the notebook at `path`, store its outputs, return an error text or None"
    skip = {c.id: skipped(c) for c in NBProcessor(path, procs=FrontmatterProc, process=True).nb.cells}
    nb, start = read_nb(path), time.time()
    for cell in nb.cells:
        if cell.cell_type == 'code' and not skip.get(cell.id, True): cell.outputs = []
    shell = CaptureShell(path, mpl_format='png')
    shell._cell_idx = None
    shell._run(f"import matplotlib; matplotlib.rcParams['figure.dpi'] = {dots}; matplotlib.rcParams['savefig.dpi'] = {dots}")
    shell._run("import pandas; pandas.set_option('display.max_colwidth', 600)")
    try:
        with working_directory(path.parent): shell.run_all(nb, exc_stop=True, preproc=lambda c: skip.get(c.id, True))
    except Exception: return shell.prettytb(fname=path)
    for cell in nb.cells:
        if cell.cell_type != 'code' or skip.get(cell.id, True): continue
        anew = re.search(r'^#\| *exec_doc', cell.source, re.M)
        cell.outputs = [] if anew else [tidy(o) for o in cell.get('outputs', []) if o.get('name') != 'stderr']
    fold(nb)
    clean_nb(nb, allowed_cell_metadata_keys=['jupyter'])
    write_nb(nb, path)
    size = path.stat().st_size
    print(f'{path.name}: {time.time() - start:.0f} s, {size // 1000} KB', flush=True)
    if size > limit: return f'{path.name} has {size // 1000} KB; keep a notebook under {limit // 1000} KB'


if __name__ == '__main__':
    root = Path(__file__).resolve().parent.parent
    sys.path.insert(0, str(root))
    paths = [Path(p).resolve() for p in sys.argv[1:] if p[:2] != '--'] or sorted((root / 'nbs').rglob('*.ipynb'))
    if '--fold' in sys.argv:
        for path in paths:
            nb = read_nb(path)
            fold(nb)
            write_nb(nb, path)
        sys.exit()
    errors = [e for e in map(execute, paths) if e]
    sys.exit('\n'.join(errors) or None)
