"""Render the notebooks into a website, without Quarto: nbdev processes them, pandoc writes their text, the rest is tools/site.

    python tools/render.py                       # into _docs/
    python tools/render.py FOLDER
    python tools/render.py FOLDER faq 21_feat    # only pages of notebooks with one of these in their names, while one writes them

Navigation and titles come from _quarto.yml, so a real Quarto gives the same pages. Formulas are MathML; the pages load nothing
from elsewhere, and work from a folder as well as from a server. A link that leads nowhere fails the run.
"""
import json, keyword, re, shutil, struct, subprocess, sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from html import escape, unescape
from pathlib import Path, PurePosixPath
from string import Template
from urllib.parse import unquote, urldefrag, urlparse

import pypandoc
import yaml
from bs4 import BeautifulSoup
from execnb.nbio import read_nb
from fastcore.xtras import working_directory
from nbdev.serve import proc_nbs
from readme import body, output, root

here = Path(__file__).resolve().parent
version = re.search(r'^version *= *(\S+)', (root/'settings.ini').read_text(encoding='utf-8'), re.M)[1]
reader = 'markdown-smart+autolink_bare_uris'
events = re.compile(r'\b(?:before|after)_(?:cancel_)?\w+:NoneType=None,?\s*') # what fastai's callbacks all take
wrapped = re.compile(r'^```python$.*?^```$', re.S | re.M)
number = re.compile(r'[-+−]?[\d.,]+ ?%?|nan|inf|')


def configuration():
    "Quarto's `website` settings, those that nbdev writes included"
    read = lambda path: yaml.safe_load(path.read_text(encoding='utf-8'))['website']
    return {**read(root/'nbs/nbdev.yml'), **read(root/'_quarto.yml')}


def pages(folder):
    "Every processed notebook: its place in `nbs`, to its page's address and front matter"
    found = {}
    for path in sorted(folder.rglob('*.ipynb')):
        place = path.relative_to(folder)
        front, _ = body(read_nb(path), lambda out, alt: '')
        found[place.as_posix()] = (place.with_name(front.get('output-file', f'{place.stem}.html')).as_posix(), front)
    return found


def relative(target, page):
    "The address `target`, both counted from the top of the site, as seen from `page`"
    return '../' * (len(PurePosixPath(page).parts) - 1) + target


def listed(contents, site, where, section=''):
    "Address, short title and section of each page in a list of _quarto.yml, in its order"
    for item in contents:
        if isinstance(item, dict) and 'contents' in item: yield from listed(item['contents'], site, where, item['section'])
        else:
            href = item if isinstance(item, str) else item['href']
            if href not in site: sys.exit(f'The {where} in _quarto.yml lists {href}, and there is no such notebook in nbs.')
            address, front = site[href]
            yield address, front['title'] if isinstance(item, str) else item.get('text', front['title']), section


def navigation(contents, site, page, top):
    "The sidebar as a list, the page itself marked, its section open"
    items = []
    for item in contents:
        if isinstance(item, dict) and 'contents' in item:
            within = page in {address for address, *_ in listed(item['contents'], site, 'sidebar')}
            items.append(f"<li><details{' open' if within or item.get('expanded') else ''}><summary>{escape(item['section'])}</summary>{navigation(item['contents'], site, page, top)}</details></li>")
        else:
            (address, title, _), = listed([item], site, 'sidebar')
            items.append(f'<li>{anchor(address, title, page, top)}</li>')
    return f"<ul>{''.join(items)}</ul>"


def anchor(address, title, page, top):
    "A link to the page at `address`, marked if that is where we are"
    return f'<a href="{top}{address}"{" aria-current=page" if address == page else ""}>{escape(title)}</a>'


def links(html, place, site, home):
    "Links to notebooks, and to this site's own address, as links between its pages; names of notebooks as links"
    page, beside = site[place][0], PurePosixPath(place).parent
    def notebook(match):
        target = (beside/match[1]).as_posix()
        return f'href="{relative(site[target][0], page)}{match[2] or ""}"' if target in site else match[0]
    html = re.sub(r'href="(?![a-z]+:)([^"#]+\.ipynb)(#[^"]*)?"', notebook, html.replace(f'href="{home}/', f'href="{relative("", page)}'))
    named = {PurePosixPath(other).stem: address for other, (address, _) in site.items()}
    def name(match): return f'<a href="{relative(named[match[1]], page)}">{match[0]}</a>' if match[1] in named else match[0]
    return re.sub(r'(?<!">)<code>(\d\d_[a-z][\w.]+)</code>', name, html)


def pandoc(markdown):
    "HTML of Markdown; formulas are MathML"
    done = subprocess.run([pypandoc.get_pandoc_path(), '--from', reader, '--to', 'html5', '--mathml', '--wrap=none'], input=markdown.encode(), capture_output=True)
    if done.returncode: sys.exit(done.stderr.decode())
    return done.stdout.decode()


def signature(markdown):
    "Markdown of `show_doc`, its code without what it cannot hold or need not: links, the events that every callback takes, types that say nothing"
    def plainer(match):
        block = re.sub(r'\[`([^`]+)`\]\([^)]*\)', r'`\1`', match[0])
        if 'after_create:NoneType' in block: block = re.sub(r'\(\s*\)', '()', events.sub('', block))
        return re.sub(r':(?:Annotated|NoneType)\b', '', block)
    return wrapped.sub(plainer, markdown)


def symbols(soup):
    "What `show_doc` wrote as a box: name and link to the source in one line, then the rest"
    for link in soup.select('.output > p > a'):
        box, line = link.parent.parent, link.parent
        heading = line.find_next_sibling()
        if link.get_text() != 'source' or heading is None or heading.name not in ('h2', 'h3', 'h4'): continue
        if heading['id'].rpartition('.')[2].startswith('_'):  # its code stands beside it, and nobody calls it by this name
            box.decompose()
            continue
        box['class'] = ['symbol']
        heading.append(soup.new_tag('a', href=link['href'], attrs={'class': 'source'}, string='source'))
        heading.a['aria-label'] = f'Source of {heading["id"]}'
        line.decompose()


interval = re.compile(r'(\[[-+]?[\d.]+), ([-+]?[\d.]+\])') # that should not break between its ends


def grid(table):
    "The rows of a table as lists of its cells, those that span rows or columns in each place they fill"
    rows, hanging = [], {}
    for row in table.select('tr'):
        cells, line = iter(row.find_all(['td', 'th'], recursive=False)), []
        while True:
            if len(line) in hanging:
                cell, left = hanging.pop(len(line))
                if left > 1: hanging[len(line)] = cell, left - 1
                line.append(cell)
            elif (cell := next(cells, None)) is not None:
                wide, deep = (int(cell.get(k) or 1) for k in ('colspan', 'rowspan'))
                for _ in range(wide):
                    if deep > 1: hanging[len(line)] = cell, deep - 1
                    line.append(cell)
            else: break
        rows.append((row.find_parent('thead') is not None, line))
    return rows


def one_head(table):
    "Pandas writes the names of an index in a row of their own below those of the columns: one row holds both"
    rows = table.select('thead tr')
    if len(rows) != 2 or table.select('thead [colspan]'): return
    above, below = (row.find_all(['td', 'th'], recursive=False) for row in rows)
    if len(above) != len(below) or any(bool(a.get_text(strip=True)) and bool(b.get_text(strip=True)) for a, b in zip(above, below)): return
    for a, b in zip(above, below):
        if b.get_text(strip=True): a.replace_with(b)
    rows[1].decompose()


def tables(soup, title):
    "Tables scroll within themselves, by keyboard too, under a first column that stays; columns of numbers stand to the right; every table has a name of its own"
    for style in soup.select('style'): style.decompose()
    for k, table in enumerate(soup.select('table'), 1):
        for cell in table.select('[style], [align]'): del cell['style'], cell['align']
        del table['border']
        for text in table.find_all(string=interval): text.replace_with(interval.sub('\\1,\u00a0\\2', text))
        for cell in table.select('thead th'):
            if not cell.get_text(strip=True): cell.name = 'td'  # a header without a word says nothing to a screen reader
        one_head(table)
        rows = grid(table)
        heads, below = [r for head, r in rows if head], [r for head, r in rows if not head]
        for _, row in rows:
            if row and not row[0].get('colspan'): row[0]['class'] = 'first'  # stays where the table scrolls
        for k_column in range(min(map(len, below), default=0)):
            column = [row[k_column] for row in below]
            texts = [c.get_text(strip=True) for c in column]
            if all(c.name == 'td' for c in column) and any(texts) and all(number.fullmatch(t) for t in texts):
                for cell in column + [row[k_column] for row in heads if len(row) > k_column]: cell['class'] = 'number first' if k_column == 0 else 'number'
        heading = table.find_previous(['h2', 'h3', 'h4'])
        name = f'Table {k}: {plain(heading) if heading else title}'
        table.wrap(soup.new_tag('div', attrs={'class': 'table', 'role': 'region', 'aria-label': name, 'tabindex': '0'}))


def figures(soup, folder, title):
    "Pictures get their size, and words for those who do not see them: the last sentence before, under its heading"
    for image in soup.select('img'):
        if not image.get('alt'):
            heading, words = image.find_previous(['h2', 'h3']), image.find_previous(lambda tag: tag.name in ('p', 'li') and tag.get_text(strip=True) and not tag.find_parent(class_=['symbol', 'table', 'output']))
            sentence = re.split(r'(?<=[.?!:]) +', words.get_text(' ', strip=True))[-1] if words else ''
            image['alt'] = ' '.join(f'{heading.get_text() if heading else title}: {sentence}'.split())[:300]
        path = folder/image['src']
        if path.suffix == '.png' and path.exists(): image['width'], image['height'] = size(path.read_bytes())


def size(png):
    "Width and height of a picture in CSS pixels: 72 to the inch, as matplotlib's figures are meant"
    width, height = struct.unpack('>II', png[16:24])
    at = png.find(b'pHYs', 0, 2000)  # after a palette of at most 768 bytes
    dots = struct.unpack('>I', png[at + 4:at + 8])[0] * .0254 if at > 0 else 72
    return (round(v * 72 / dots) if dots > 100 else v for v in (width, height))


def badges(soup):
    "Pictures from elsewhere, such as a badge, as their words: a page loads nothing"
    for image in soup.select('img[src^="http"]'):
        if image.parent.name == 'a': image.parent['class'] = ['badge']
        image.replace_with(image.get('alt', ''))


def levels(soup):
    "No level of headings is skipped: before the first h2, those of level 3 are of level 2"
    for heading in soup.find_all(['h2', 'h3']):
        if heading.name == 'h2': break
        heading.name = 'h2'


def code(soup):
    "Code to be copied in a box of its own"
    for block in soup.select('pre'):
        block['tabindex'] = '0'  # it may scroll; site.js takes it from those that do not
        if block.find_parent(class_=['symbol', 'output']): continue
        box = block.parent if 'sourceCode' in block.parent.get('class', ()) else block.wrap(soup.new_tag('div'))
        box['class'] = [*box.get('class', ()), 'code']


def sections(soup):
    "Anchors at headings; the list of sections, methods and what is deeper left out"
    items = []
    for heading in soup.select('h2[id], h3[id], h4[id]'):
        name, symbol = plain(heading), 'symbol' in heading.parent.get('class', ())
        heading.append(soup.new_tag('a', href=f'#{heading["id"]}', attrs={'class': 'anchor', 'aria-label': f'Link to {name}'}, string='#'))
        if heading.name == 'h4' or symbol and '.' in name: continue
        label = f'<code>{escape(name)}</code>' if symbol else escape(name)
        if heading.name == 'h2' or not items: items.append((heading['id'], label, []))
        else: items[-1][2].append(f'<li><a href="#{heading["id"]}">{label}</a></li>')
    if len(items) < 2 and not (items and items[0][2]): return ''
    rows = ''.join(f'<li><a href="#{i}">{label}</a>{"<ul>" + "".join(below) + "</ul>" if below else ""}</li>' for i, label, below in items)
    return f'<aside aria-label="On this page"><p>On this page</p><ul>{rows}</ul></aside>'


def plain(tag):
    "Text of a tag, what was added to headings left out"
    return ' '.join(''.join(t for t in tag.find_all(string=True) if not t.find_parent(class_=['anchor', 'source']) and t.parent.name != 'annotation').split())


word = re.compile(r'--[a-z][\w-]+|[A-Za-z_]\w{2,}')
common = {*keyword.kwlist, *dir(__builtins__), 'self', 'str', 'int'}


def entries(soup, title, lead):
    "What the search knows of a page: anchor, heading, whether it is a symbol, the text below, and the words of the code below; outputs are left out"
    found, seen = [['', title, 0, lead, '']], set()
    for tag in soup.find_all(['h2', 'h3', 'h4', 'p', 'li', 'td', 'pre']):
        if tag.get('id') and tag.name[0] == 'h':
            found.append([tag['id'], plain(tag), int('symbol' in tag.parent.get('class', ())), '', ''])
            seen = set()
        elif tag.name == 'pre' and not tag.find_parent(class_='output'):
            new = [w for w in dict.fromkeys(word.findall(tag.get_text())) if w not in seen | common]
            seen |= set(new)
            found[-1][4] = f'{found[-1][4]} {" ".join(new)}'.strip()
        elif tag.name in ('p', 'td') and not tag.find_parent(class_='output') or tag.name == 'li' and not tag.find('p'): found[-1][3] = f'{found[-1][3]} {plain(tag)}'.strip()
    return found


def hero(soup, title, lead):
    "The first screen of the home page: the promise; the first paragraph if it holds a picture; the links of the next if it begins with bold print, as buttons; then code and badges"
    words, picture = f'<h1>{escape(title)}</h1><p class="lead">{lead}</p>', soup.find(['p', 'figure'])
    if not (picture and picture.img and not picture.get_text(strip=True)): return words
    start = picture.find_next_sibling()
    if start is not None and start.name == 'p' and start.strong and start.contents[0] is start.strong:
        links, after = ''.join(str(a.extract()) for a in start.find_all('a')), start.find_next_sibling()
        start.strong.decompose()
        words += f'<p class="start">{links}</p><p>{start.decode_contents().strip(" ·" + chr(10))}</p>'
        start.decompose()
        while after is not None and ('code' in after.get('class', ()) or after.find(class_='badge')):  # what to type, and badges
            here, after = after, after.find_next_sibling()
            words += str(here.extract())
    return f'<div class="hero"><div>{words}</div><div class="picture">{picture.extract().img}</div></div>'


def ways(place, config):
    "How to run a page: in Colab, or as a notebook of one's own"
    repository, branch = config['repo-url'], config['repo-branch']
    colab = f"{repository.replace('https://github.com', 'https://colab.research.google.com/github')}/blob/{branch}/nbs/{place}"
    raw = f"{repository.replace('https://github.com', 'https://raw.githubusercontent.com')}/{branch}/nbs/{place}"
    return f'<p class="ways"><a href="{colab}">Open in Colab</a><a href="{raw}" download>Download notebook</a></p>'


def write(out, page, config, site, top, title, lead, content, **parts):
    "Fill the template of all pages"
    own = {**dict(kind='page', extra='', toc='', around='', version=version, foot=escape(config['page-footer']['center']), picture='index_files/1.png'), **parts}
    summary, name = escape(re.sub('[`*]|\\]\\([^)]*\\)|\\[', '', lead)), config['title']
    bar = ' '.join(anchor(address, text, page, top) for address, text, _ in listed(config['navbar']['left'], site, 'navbar'))
    own['picture'] = f"{config['site-url']}/{own['picture']}"
    html = Template((here/'site/page.html').read_text(encoding='utf-8')).substitute(
        own, pagetitle=escape(title if title == name else f'{title} - {name}'), summary=summary, site=escape(name), repository=config['repo-url'], top=top, home=f'{top}index.html',
        url=f"{config['site-url']}/{page}", bar=bar, navigation=navigation(config['sidebar']['contents'], site, page, top), body=content)
    (out/page).write_text(html, encoding='utf-8')


def render(place, folder, site, config, out):
    "Write the page of the notebook at `place`, and its figures; what the search shall know of it"
    page, front = site[place]
    (out/page).parent.mkdir(parents=True, exist_ok=True)
    files = (out/page).with_name(f'{Path(page).stem}_files')
    def figure(data):
        files.mkdir(exist_ok=True)
        path = files/f'{len(list(files.iterdir())) + 1}.png'
        path.write_bytes(data)
        return f'{files.name}/{path.name}'
    def show(o, alt): return f"::: {{.output}}\n{signature(output(o, figure, lambda html: f'```{{=html}}{chr(10)}{html}{chr(10)}```', alt))}\n:::"
    title, lead, home = front['title'], str(front.get('description') or ''), place == 'index.ipynb'
    said, html = pandoc(f'{lead}\n\n<!-- lead -->\n\n{body(read_nb(folder/place), show)[1]}').split('<!-- lead -->', 1)
    said = said.strip().removeprefix('<p>').removesuffix('</p>')
    html = re.sub(r'<a href="#cb\d+-\d+" aria-hidden="true" tabindex="-1"></a>', '', links(html, place, site, config['site-url']))
    html = re.sub(r'<span id="cb\d+-\d+">(.*)</span>(?=$|</code>)', r'\1', html, flags=re.M)  # a box round each line, of no use here
    soup = BeautifulSoup(html, 'html.parser')
    for link in soup.select('a[target]'): del link['target'], link['style']
    badges(soup)
    symbols(soup)
    levels(soup)
    tables(soup, title)
    figures(soup, (out/page).parent, title)
    code(soup)
    toc, index = sections(soup), entries(soup, title, lead)
    order, top = list(listed(config['sidebar']['contents'], site, 'sidebar')), relative('', page)
    at = next((k for k, (address, *_) in enumerate(order) if address == page), None)
    section = order[at][2] if at is not None else ''
    if home: content, toc = f'{hero(soup, title, said)}{soup}', ''
    else:
        crumbs = ''.join(f'<li>{c}</li>' for c in (f'<a href="{top}index.html">Home</a>', escape(section)) if c)
        content = f'<nav aria-label="Breadcrumbs"><ol class="crumbs">{crumbs}</ol></nav>\n<h1>{escape(title)}</h1>\n<p class="lead">{said}</p>\n{ways(place, config)}\n{soup}'
    around = ''
    if at is not None:
        beside = [(order[k], name, word) for k, name, word in ((at - 1, 'prev', 'Previous'), (at + 1, 'next', 'Next')) if 0 <= k < len(order)]
        around = f'<nav class="around" aria-label="Pages before and after">{"".join(f"<a class={name} rel={name} href={chr(34)}{top}{address}{chr(34)}><span>{word}</span>{escape(text)}</a>" for (address, text, _), name, word in beside)}</nav>'
    source, repository = f"{config['repo-url']}/blob/{config['repo-branch']}/nbs/{place}", config['repo-url']
    foot = f'<a href="{source}">This page\'s notebook</a> <a href="{repository}/issues">Report an issue</a> <span>{escape(config["page-footer"]["center"])}</span>'
    picture = {'picture': f'{PurePosixPath(page).parent/files.name}/1.png'.removeprefix('./')} if files.exists() else {}
    write(out, page, config, site, top, title, lead, content, kind='home' if home else 'page', toc=toc, around=around, foot=foot, **picture)
    return [page, title, section], index


def telling(index):
    "Of the words of code, leave those that lead somewhere: not short, not in the text beside them, and in fewer than 60 places"
    places = Counter(w for *_, code in index for w in set(code.split()))
    for entry in index:
        text = entry[3].lower()
        entry[4] = ' '.join(w for w in entry[4].split() if len(w) > 3 and places[w] < 60 and w.lower() not in text)


def extras(site, config, out, found):
    "What belongs to the whole site: the search's index, the page for what is not there, and what search engines read"
    top = urlparse(config['site-url']).path + '/'
    missing = '<h1>Not found</h1>\n<p class="lead">There is no such page here.</p>\n<p>Search above (press <kbd>/</kbd>), or start at the <a href="{0}index.html">home page</a>.</p>'
    write(out, '404.html', config, site, top, 'Not found', 'There is no such page here.', missing.format(top), extra='<meta name="robots" content="noindex">\n')
    telling([entry for _, own in found for entry in own])
    index = dict(pages=[page for page, _ in found], entries=[[k, *entry] for k, (_, own) in enumerate(found) for entry in own])
    (out/'search.js').write_text(f"window.searchIndex = {json.dumps(index, ensure_ascii=False, separators=(',', ':'))}\n", encoding='utf-8')
    urls = ''.join(f"<url><loc>{config['site-url']}/{page}</loc></url>\n" for (page, *_), _ in found)
    (out/'sitemap.xml').write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{urls}</urlset>\n', encoding='utf-8')
    (out/'robots.txt').write_text(f"User-agent: *\nAllow: /\nSitemap: {config['site-url']}/sitemap.xml\n", encoding='utf-8')


class Links:
    "Addresses a page points to, and the anchors it has"
    def __init__(self, html):
        found = [pair for tag in re.findall(r'<[a-z][^<>]*>', html) for pair in re.findall(r'\s(id|name|href|src)="([^"]*)"', tag)]
        self.targets = {unescape(v) for k, v in found if k in ('href', 'src')} - {''}
        self.anchors = {unescape(v) for k, v in found if k in ('id', 'name')} | {''}


def shorten(out):
    "Links to a method without a heading of its own lead to its class, those to a private name to its page"
    anchors = {p: Links(p.read_text(encoding='utf-8')).anchors for p in out.rglob('*.html')}
    for page in anchors:
        def shorter(match):
            known, anchor = anchors.get((page.parent/match[1]).resolve(), ()), match[2]
            while anchor not in known and '.' in anchor: anchor = anchor.rpartition('.')[0]
            if anchor not in known and anchor[0] == '_': return f'href="{match[1]}"' # a private name: its code is shown, without a heading
            return f'href="{match[1]}#{anchor}"'
        page.write_text(re.sub(r'href="([^":#]+)#([^"]+)"', shorter, page.read_text(encoding='utf-8')), encoding='utf-8')


def broken(out, top):
    "Links within the site that lead nowhere, as texts; `top` is the path it is served under"
    parsed = {p: Links(p.read_text(encoding='utf-8')) for p in sorted(out.rglob('*.html'))}
    for page, found in parsed.items():
        for target in sorted(found.targets):
            if re.match(r'[a-z]+:', target): continue
            address, anchor = urldefrag(unquote(target))
            folder, address = (out, address.removeprefix(top)) if address.startswith(top) else (page.parent, address)
            path = (folder/address).resolve() if address else page
            if not path.exists() or path in parsed and anchor not in parsed[path].anchors: yield f'{page.relative_to(out)} links to {target}, which is not there'


def maps(out):
    "The maps of collections whose points, neighbours and excerpts are kept in nbs/maps, each a page by itself"
    from mtssl.embedding.map_page import write_map_page
    for path in sorted((root/'nbs/maps').glob('*.json')):
        kept = json.loads(path.read_text(encoding='utf-8'))
        write_map_page(out/'maps'/f'{path.stem}.html', kept['title'], kept['data'])


def main(out, only):
    with working_directory(root): folder = proc_nbs(force=not only, n_workers=2)
    if not only: shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    for name in 'site.css', 'site.js', 'minisearch.js': shutil.copy(here/'site'/name, out)
    if (root/'nbs/images').exists(): shutil.copytree(root/'nbs/images', out/'images', dirs_exist_ok=True)
    site, config = pages(folder), configuration()
    if only:
        for place in site:
            if any(part in place for part in only): render(place, folder, site, config, out)
        return
    with ProcessPoolExecutor(2) as workers: found = list(workers.map(partial(render, folder=folder, site=site, config=config, out=out), site))
    extras(site, config, out, found)
    shorten(out)
    maps(out)
    problems = list(broken(out, urlparse(config['site-url']).path + '/'))
    if problems: sys.exit('\n'.join(problems))
    print(f'{len(site)} pages in {out}')


if __name__ == '__main__': main(Path(sys.argv[1] if len(sys.argv) > 1 else root/'_docs').resolve(), sys.argv[2:])
