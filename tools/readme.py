"""Write README.md from nbs/index.ipynb, without Quarto: nbdev processes the notebook, pandoc writes GitHub's Markdown.

    python tools/readme.py           # write README.md and its figures, nbs/images/index-*.png
    python tools/readme.py --check   # write nothing; fail when they are not what the notebook gives

GitHub shows neither figures nor sound from inside a Markdown file: figures go to files beside the notebook, sound is left out.
"""
import base64, re, sys
from pathlib import Path

import pypandoc
import yaml
from execnb.nbio import read_nb
from fastcore.xtras import working_directory
from nbdev.processors import FilterDefaults, add_links

root = Path(__file__).resolve().parent.parent
nbs, images = root/'nbs', 'images'
pandoc = ['--wrap=none', '--columns=10000']


class Filter(FilterDefaults):
    "nbdev's processors without automatic links, which depend on what is installed"
    def base_procs(self): return [p for p in super().base_procs() if p is not add_links]


def text(lines): return lines if isinstance(lines, str) else ''.join(lines)


def fence(code, language=''):
    "`code` as a fenced block, whatever backticks it holds"
    ticks = '`' * max(3, 1 + max(map(len, re.findall('`+', code)), default=0))
    return f'{ticks}{language}\n{code.strip(chr(10))}\n{ticks}'


def html(source):
    "HTML of an output as Markdown; nothing for sound, which GitHub does not show"
    if '<audio' in source: return ''
    source = re.sub(r'<style.*?</style>|</?div[^>]*>', '', source, flags=re.S)
    return pypandoc.convert_text(source, 'gfm', format='html', extra_args=pandoc)


def output(out, figure, html, alt=''):
    "One stored output of a cell as Markdown: `figure` keeps the bytes of a picture and gives its address, `html` fits in HTML, `alt` says what the picture shows"
    if out.output_type == 'stream': return fence(text(out.text))
    data = out.get('data', {})
    if 'image/png' in data: return f"![{alt}]({figure(base64.b64decode(text(data['image/png'])))}){chr(92) + ' ' if alt else ''}"
    if 'text/markdown' in data: return re.sub(r'\A---\n', '', text(data['text/markdown']))
    if 'text/html' in data: return html(text(data['text/html']))
    return fence(text(data.get('text/plain', '')))


def body(nb, show):
    "Front matter, and Markdown of the cells of a notebook that nbdev has processed; `show` turns an output and its `#| fig-alt:` into Markdown"
    front, parts = {}, []
    for cell in nb.cells:
        source = text(cell.source).strip()
        if cell.cell_type == 'raw' and source.startswith('---'): front = yaml.safe_load(source.strip('-\n '))
        elif cell.cell_type == 'markdown': parts.append(re.sub(r'<!--.*?-->', '', source, flags=re.S))
        elif cell.cell_type == 'code':
            directives = dict(re.findall(r'^#\| *([\w-]+):? *(.*)$', source, re.M))
            code = re.sub(r'^#\|.*\n?', '', source, flags=re.M)
            if directives.get('echo') != 'false' and code.strip(): parts.append(fence(code, 'python'))
            if directives.get('output') != 'false': parts += (show(o, directives.get('fig-alt', '').strip('"\'')) for o in cell.get('outputs', []))
    joined = '\n\n'.join(p for p in parts if p.strip())
    return front, re.sub(r'^(:+) *\{\.callout-(\w+)[^}]*\}$', callout, joined, flags=re.M)


def callout(match):
    "The opening of a Quarto callout as that of a GitHub alert"
    return f'{match[1]} {{.{match[2]}}}\n\n{match[1]}: {{.title}}\n{match[2].title()}\n{match[1]}:\n'


def link(match):
    "A link as seen from the top of the repository; pages of the site lead to their notebooks"
    target, anchor = match[2], match[3] or ''
    if target.endswith('.html'):
        pages = {re.sub(r'\d+[a-z]?_(?=[^/]+$)', '', p.with_suffix('').as_posix()): p.as_posix() for p in (p.relative_to(nbs) for p in nbs.rglob('*.ipynb'))}
        target, anchor = pages.get(target[:-5], target), ''
    return f'{match[1]}nbs/{target}{anchor}'


def markdown(path):
    "README text and figures of the notebook at `path`"
    nb, figures = read_nb(path), {}
    with working_directory(root): Filter()(nb)
    def figure(data):
        name = f'{images}/index-{len(figures) + 1}.png'
        figures[name] = data
        return name
    front, source = body(nb, lambda out, alt: output(out, figure, html, alt))
    source = f"# {front['title']}\n\n{front.get('description', '')}\n\n{source}"
    readme = pypandoc.convert_text(source, 'gfm', format='markdown-smart', extra_args=pandoc)
    readme = re.sub(r'(\]\(|(?:src|href)=")(?![a-z]+:|#|/)([^)#"\s]+\.\w+)(#[^)"\s]*)?(?=[)"\s])', link, readme)
    note = f'<!-- Made from {path.relative_to(root).as_posix()} by tools/readme.py: edit the notebook, then `make readme`. -->'
    return f'{note}\n\n{readme.strip()}\n', figures


def main(check):
    "Write the files, or name those that differ"
    readme, figures = markdown(nbs/'index.ipynb')
    files = {root/'README.md': readme.encode(), **{nbs/name: data for name, data in figures.items()}}
    old = set((nbs/images).glob('index-*.png')) - set(files)
    if check:
        stale = [p for p, data in files.items() if not p.exists() or p.read_bytes() != data] + sorted(old)
        if stale: sys.exit(f"Not what nbs/index.ipynb gives: {', '.join(p.relative_to(root).as_posix() for p in stale)}. Run `make readme` and commit.")
        return
    for path in old: path.unlink()
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == '__main__':
    if sys.argv[1:] not in ([], ['--check']): sys.exit(__doc__)
    main('--check' in sys.argv)
