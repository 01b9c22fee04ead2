// What the pages do beyond being read: dark mode, search, the pages' drawer, copying code, the section in view. Nothing is loaded from elsewhere.
'use strict'
const page = document.documentElement, body = document.body, all = (css, from = document) => [...from.querySelectorAll(css)]
const make = (tag, attributes = {}, ...children) => {
  const e = document.createElement(tag)
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v)
  e.append(...children)
  return e
}

// dark mode: the system's choice until the reader makes one
const theme = document.querySelector('.theme'), system = matchMedia('(prefers-color-scheme: dark)')
const dark = () => page.dataset.theme ? page.dataset.theme === 'dark' : system.matches
const tell = () => theme.setAttribute('aria-pressed', dark())
theme.addEventListener('click', () => {
  page.dataset.theme = dark() ? 'light' : 'dark'
  try { localStorage.setItem('theme', page.dataset.theme) } catch {}
  tell()
})
system.addEventListener('change', tell)
tell()

// pages in a drawer on a phone
const menu = document.querySelector('.menu'), pages = document.getElementById('pages')
const drawer = open => { pages.classList.toggle('open', open); menu.setAttribute('aria-expanded', open) }
menu.addEventListener('click', () => { drawer(!pages.classList.contains('open')); if (pages.classList.contains('open')) pages.querySelector('a').focus() })
document.addEventListener('click', e => { if (!pages.contains(e.target) && !menu.contains(e.target)) drawer(false) })
document.addEventListener('keydown', e => { if (e.key === 'Escape' && pages.classList.contains('open')) { drawer(false); menu.focus() } })
const current = pages.querySelector('[aria-current]')
if (current && current.offsetTop > pages.clientHeight * .8) pages.scrollTop = current.offsetTop - pages.clientHeight / 2

// copy buttons
for (const block of all('.code')) {
  const button = make('button', {class: 'copy', type: 'button', 'aria-label': 'Copy code'}, 'Copy')
  const say = text => { button.textContent = text; button.classList.add('done'); setTimeout(() => { button.textContent = 'Copy'; button.classList.remove('done') }, 1500) }
  button.addEventListener('click', async () => {
    try { await navigator.clipboard.writeText(block.querySelector('pre').innerText.trimEnd()); say('Copied') }
    catch { getSelection().selectAllChildren(block.querySelector('pre')); say('Selected') }
  })
  block.append(button)
}

// what scrolls sideways can be reached by keyboard
for (const e of all('main pre, .table')) if (e.scrollWidth > e.clientWidth) e.tabIndex = 0

// the section in view, in the list of sections
const sections = all('aside a').map(a => [document.getElementById(decodeURIComponent(a.hash.slice(1))), a]).filter(([heading]) => heading)
const mark = () => {
  let found = sections[0]
  for (const s of sections) if (s[0].getBoundingClientRect().top < 120) found = s
  for (const [, a] of sections) {
    a.removeAttribute('aria-current')
    for (let li = a.closest('li'); li; li = li.parentElement.closest('li')) li.classList.remove('here')
  }
  found[1].setAttribute('aria-current', 'true')
  for (let li = found[1].closest('li'); li; li = li.parentElement.closest('li')) li.classList.add('here')
}
if (sections.length) {
  let waiting = false
  addEventListener('scroll', () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; mark() }) } }, {passive: true})
  mark()
}

// search: the index is a script, loaded when first asked for, so that it works from a folder too
const escaped = text => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
const marked = (text, words) => text.split(new RegExp(`(${words.map(escaped).join('|')})`, 'gi')).map((part, i) => i % 2 ? make('mark', {}, part) : part)
const excerpt = (text, words) => {
  const at = Math.max(0, text.search(new RegExp(words.map(escaped).join('|'), 'i')) - 40)
  return (at ? '…' : '') + text.slice(at, at + 180)
}
const score = (entry, words) => {
  const [, , heading, symbol, text] = entry, head = heading.toLowerCase(), name = head.split('.').pop(), low = text.toLowerCase()
  let total = 0
  for (const w of words) {
    const at = head.indexOf(w)
    const s = head === w ? 100 : at === 0 ? 60 : name.startsWith(w) ? 50 : at > 0 ? 40 : entry.title.includes(w) ? 12 : low.includes(w) ? 10 : 0
    if (!s) return 0
    total += s + (symbol && at >= 0 ? 5 : 0) + (s < 20 ? Math.min(low.split(w).length - 1, 5) : 0)
  }
  return total - Math.min(head.length, 60) / 60
}
let index, dialog, chosen = -1
const load = () => new Promise((done, fail) => {
  if (index) return done()
  const script = make('script', {src: `${body.dataset.top}search.js`})
  script.onload = () => {
    index = window.searchIndex
    for (const e of index.entries) e.title = index.pages[e[0]][1].toLowerCase()
    done()
  }
  script.onerror = fail
  document.head.append(script)
})
const build = () => {
  const input = make('input', {type: 'search', role: 'combobox', 'aria-label': 'Search', 'aria-expanded': 'true', 'aria-controls': 'found', 'aria-autocomplete': 'list', placeholder: 'Search names, headings, text', autocomplete: 'off', spellcheck: 'false'})
  const list = make('div', {id: 'found', role: 'listbox', 'aria-label': 'Found'}), status = make('p', {role: 'status'})
  dialog = make('dialog', {'aria-label': 'Search'}, input, list, status)
  const choose = i => {
    const options = [...list.children]
    if (!options.length) { chosen = -1; return input.removeAttribute('aria-activedescendant') }
    chosen = (i + options.length) % options.length
    options.forEach((o, k) => o.setAttribute('aria-selected', k === chosen))
    options[chosen].scrollIntoView({block: 'nearest'})
    input.setAttribute('aria-activedescendant', options[chosen].id)
  }
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean)
    const found = !words.length || !index ? [] : index.entries.map(e => [score(e, words), e]).filter(([s]) => s > 0).sort((a, b) => b[0] - a[0])
    list.replaceChildren(...found.slice(0, 30).map(([, [p, anchor, heading, symbol, text]], i) => {
      const [address, title, section] = index.pages[p]
      const link = make('a', {role: 'option', id: `found-${i}`, tabindex: '-1', 'aria-selected': 'false', href: body.dataset.top + address + (anchor && `#${encodeURIComponent(anchor)}`)},
        make('small', {}, [section, title].filter(Boolean).join(' / ')), make(symbol ? 'code' : 'b', {}, ...marked(heading, words)), make('p', {}, ...marked(excerpt(text, words), words)))
      link.addEventListener('click', () => dialog.close())
      return link
    }))
    status.textContent = words.length ? `${found.length} found` + (found.length > 30 ? ', the best 30 shown' : '') : 'Arrow keys choose, Enter opens, Escape closes'
    choose(0)
  }
  input.addEventListener('input', show)
  input.addEventListener('keydown', e => {
    if (e.key === 'ArrowDown' || e.key === 'ArrowUp') { e.preventDefault(); choose(chosen + (e.key === 'ArrowDown' ? 1 : -1)) }
    if (e.key === 'Enter' && list.children[chosen]) { e.preventDefault(); list.children[chosen].click() }
    if (e.key === 'Escape') { e.preventDefault(); dialog.close() }
  })
  dialog.addEventListener('click', e => { if (e.target === dialog) dialog.close() })
  dialog.show_found = show
  body.append(dialog)
}
const search = () => {
  if (!dialog) build()
  if (!dialog.open) dialog.showModal()
  const input = dialog.querySelector('input')
  input.focus()
  input.select()
  load().then(dialog.show_found, () => { dialog.querySelector('[role=status]').textContent = 'The index of this site could not be read.' })
}
document.querySelector('.search').addEventListener('click', search)
document.addEventListener('keydown', e => {
  const writing = e.target.closest && e.target.closest('input, textarea, select, [contenteditable]')
  if ((e.key === '/' && !writing && !e.ctrlKey && !e.metaKey && !e.altKey) || (e.key === 'k' && (e.ctrlKey || e.metaKey))) { e.preventDefault(); search() }
})
