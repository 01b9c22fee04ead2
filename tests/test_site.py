"""The website renders without Quarto: one page a notebook, every link within it leads somewhere, nothing comes from elsewhere."""
import re, sys

from conftest import run, tracked


def test_site(checkout, tmp_path):
    site = tmp_path/'site'
    run(sys.executable, 'tools/render.py', site, cwd=checkout)
    notebooks = [p for p in tracked() if p.suffix == '.ipynb' and p.parts[0] == 'nbs']
    pages = sorted(site.rglob('*.html'))
    assert len(pages) == len(notebooks), f'{len(notebooks)} notebooks gave {len(pages)} pages: do two of them have the same title or module?'
    for page in pages:
        html = page.read_text(encoding='utf-8')
        loaded = re.findall(r'<(?:script|img|link|source)[^>]*(?:src|href)="(https?:[^"]*)', html)
        assert not loaded, f'{page.name} loads {loaded[0]}: pages must not need a network'
        assert 'math inline' not in html and 'Traceback (most recent call last)' not in html, f'{page.name} shows raw formulas or a traceback'
