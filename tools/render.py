"""Render the notebooks into a website, without Quarto: nbdev processes them, pandoc writes the pages.

    python tools/render.py            # into _docs/
    python tools/render.py FOLDER

Navigation and titles come from _quarto.yml, so a real Quarto (`nbdev_docs`) gives the same site. Formulas are MathML; the pages
load nothing from elsewhere. A link that leads nowhere fails the run.
"""
import re, shutil, sys
from html import escape
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urldefrag

import pypandoc
import yaml
from execnb.nbio import read_nb
from fastcore.xtras import working_directory
from nbdev.serve import proc_nbs
from readme import body, output, root

here = Path(__file__).resolve().parent
options = ['--mathml', '--toc', '--toc-depth=3', '--wrap=none', f'--template={here}/site/page.html']


def configuration():
    "Quarto's `website` settings, those that nbdev writes included"
    read = lambda path: yaml.safe_load(path.read_text(encoding='utf-8'))['website']
    return {**read(root/'nbs/nbdev.yml'), **read(root/'_quarto.yml')}


def pages(folder):
    "Every processed notebook: its place in `nbs`, to its page's address, front matter and notebook"
    found = {}
    for path in sorted(folder.rglob('*.ipynb')):
        place, nb = path.relative_to(folder), read_nb(path)
        front, _ = body(nb, lambda out: '')
        found[place.as_posix()] = (place.with_name(front.get('output-file', f'{place.stem}.html')).as_posix(), front, nb)
    return found


def relative(target, page):
    "The address `target`, both counted from the top of the site, as seen from `page`"
    return '../' * (len(PurePosixPath(page).parts) - 1) + target


def navigation(contents, site, page):
    "The sidebar as a list, the page itself marked"
    items = []
    for item in contents:
        if isinstance(item, dict) and 'contents' in item:
            items.append(f"<li><span>{escape(item['section'])}</span>{navigation(item['contents'], site, page)}</li>")
            continue
        href = item if isinstance(item, str) else item['href']
        if href not in site: sys.exit(f'The sidebar in _quarto.yml lists {href}, and there is no such notebook in nbs.')
        address, front, _ = site[href]
        mark = ' aria-current="page"' if address == page else ''
        items.append(f'<li><a href="{relative(address, page)}"{mark}>{escape(front["title"])}</a></li>')
    return f"<ul>{''.join(items)}</ul>"


def links(html, place, site, home):
    "Links to notebooks, and to this site's own address, as links between its pages"
    page, beside = site[place][0], PurePosixPath(place).parent
    def notebook(match):
        target = (beside/match[1]).as_posix()
        return f'href="{relative(site[target][0], page)}{match[2]}"' if target in site else match[0]
    html = re.sub(r'href="(?![a-z]+:)([^"#]+\.ipynb)(#[^"]*)?"', notebook, html.replace(f'href="{home}/', f'href="{relative("", page)}'))
    return html


def render(place, site, config, out):
    "Write the page of the notebook at `place`, and its figures"
    page, front, nb = site[place]
    (out/page).parent.mkdir(parents=True, exist_ok=True)
    files = (out/page).with_name(f'{Path(page).stem}_files')
    def figure(data):
        files.mkdir(exist_ok=True)
        path = files/f'{len(list(files.iterdir())) + 1}.png'
        path.write_bytes(data)
        return f'{files.name}/{path.name}'
    def show(o): return f"::: {{.output}}\n{output(o, figure, lambda html: f'```{{=html}}{chr(10)}{html}{chr(10)}```')}\n:::"
    title, description = front['title'], str(front.get('description') or '')
    variables = dict(summary=escape(re.sub('[`*]', '', description)), home=relative('index.html', page), style=relative('site.css', page), site=config['title'], repository=config['repo-url'],
                     navigation=navigation(config['sidebar']['contents'], site, page), source=f"{config['repo-url']}/blob/{config['repo-branch']}/nbs/{place}")
    source = yaml.safe_dump(dict(pagetitle=title if title == config['title'] else f"{title} - {config['title']}", title=title, lead=description))
    html = pypandoc.convert_text(f'---\n{source}---\n\n{body(nb, show)[1]}', 'html5', format='markdown-smart+autolink_bare_uris',
                                 extra_args=[*options, *(f'--variable={k}={v}' for k, v in variables.items())])
    (out/page).write_text(links(html, place, site, config['site-url']), encoding='utf-8')


class Links(HTMLParser):
    "Addresses a page points to, and the anchors it has"
    def __init__(self, html):
        super().__init__()
        self.targets, self.anchors = set(), {''}
        self.feed(html)
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs.get('id'), attrs.get('name')}
        self.targets |= {attrs[k] for k in ('href', 'src') if attrs.get(k)}


def shorten(out):
    "Links to a method without a heading of its own lead to its class"
    anchors = {p: Links(p.read_text(encoding='utf-8')).anchors for p in out.rglob('*.html')}
    for page in anchors:
        def shorter(match):
            known, anchor = anchors.get((page.parent/match[1]).resolve(), ()), match[2]
            while anchor not in known and '.' in anchor: anchor = anchor.rpartition('.')[0]
            return f'href="{match[1]}#{anchor}"'
        page.write_text(re.sub(r'href="([^":#]+)#([^"]+)"', shorter, page.read_text(encoding='utf-8')), encoding='utf-8')


def broken(out):
    "Links within the site that lead nowhere, as texts"
    parsed = {p: Links(p.read_text(encoding='utf-8')) for p in sorted(out.rglob('*.html'))}
    for page, found in parsed.items():
        for target in sorted(found.targets):
            if re.match(r'[a-z]+:', target): continue
            address, anchor = urldefrag(unquote(target))
            path = (page.parent/address).resolve() if address else page
            if not path.exists() or path in parsed and anchor not in parsed[path].anchors: yield f'{page.relative_to(out)} links to {target}, which is not there'


def main(out):
    with working_directory(root): folder = proc_nbs(force=True, n_workers=2)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    shutil.copy(here/'site/site.css', out)
    if (root/'nbs/images').exists(): shutil.copytree(root/'nbs/images', out/'images')
    site, config = pages(folder), configuration()
    for place in site: render(place, site, config, out)
    shorten(out)
    problems = list(broken(out))
    if problems: sys.exit('\n'.join(problems))
    print(f'{len(site)} pages in {out}')


if __name__ == '__main__': main(Path(sys.argv[1] if len(sys.argv) > 1 else root/'_docs').resolve())
