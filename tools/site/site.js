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

// what scrolls can be reached by keyboard
const scrolling = () => {
  for (const e of all('main pre, .table, .output, main p:has(> img), .hero .picture, math[display=block], .mathblock')) {
    const style = getComputedStyle(e), scrolls = way => /auto|scroll/.test(style[`overflow${way}`])
    if (scrolls('X') && e.scrollWidth > e.clientWidth || scrolls('Y') && e.scrollHeight > e.clientHeight) e.tabIndex = 0
    else if (e.tabIndex === 0) e.removeAttribute('tabindex')
  }
}
scrolling()
addEventListener('load', scrolling)
addEventListener('resize', scrolling)

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

// search: the library and the index are scripts, loaded when first asked for, so that it works from a folder too
const filler = new Set('a an and are as at be by can do does for from get have how i if in is it me my not of on or please should that the there this to use using want we what when where which why will with you your'.split(' '))
const same = [ // other words for the same thing, each line a group; those of several words are found as a phrase
  ['license', 'licence', 'apache'], ['finetune', 'finetuning', 'fine-tune', 'fine-tuning', 'fine tuning'], ['sklearn', 'scikit-learn', 'scikit'], ['spectogram', 'spectrogram', 'stft', 'mel'],
  ['gpu', 'cuda', 'device'], ['multi gpu', 'multi-gpu', 'multigpu', 'several gpus', 'ddp', 'distributed', 'torchrun', 'accelerate', 'ranks'], ['oom', 'out of memory', 'memory'], ['batch size', 'batchsize', 'batch_size', 'bs'],
  ['install', 'installation', 'setup', 'set up', 'pip'], ['huggingface', 'hugging face', 'hub'], ['pytorch', 'torch'], ['microsoft windows', 'wsl', 'windows'], ['colab', 'notebook'], ['folder', 'directory'],
  ['song', 'track'], ['learning rate', 'lr'], ['epochs', 'epoch'], ['sample rate', 'samplerate', 'sr'], ['classify', 'classification', 'classifier'], ['tag', 'tagging'], ['beat', 'beats', 'tempo'], ['checkpoint', 'resume'],
  ['mp4', 'm4a', 'aac'], ['error', 'troubleshooting', 'wrong'], ['visualize', 'visualise', 'plot', 'map'], ['playlist', 'similar'], ['tensorboard', 'wandb', 'mlflow', 'log'], ['dataset', 'labelled set', 'data set'],
  ['loss weight', 'weighting'], ['reproduce', 'seed'], ['cli', 'command line', 'command'], ['crash', 'killed', 'interrupted', 'resume'], ['slow', 'speed', 'faster'], ['onnx', 'export'], ['bibtex', 'cite', 'citation'],
  ['custom', 'own', 'extend', 'extending'], ['m1', 'mps', 'apple', 'mac', 'macos'], ['docker', 'install'], ['uninstall', 'install'], ['random init', 'random-initialised', 'baseline'], ['pretrain', 'pre-train', 'pretraining', 'pre-training'], ['kaggle', 'colab'],
]
const endings = [[/(?:isation|ization)s?$/, 'is'], [/i[sz](?:e[drs]?|ing)$/, 'is'], [/(?:ations?|ators?)$/, ''], [/(?:ings?|edly|ed|ers?|ors?|ions?)$/, ''], [/(?:ies|y)$/, ''], [/(?:ness|ly|able)$/, ''], [/(?:es|s|e)$/, '']]
const stem = word => { // short, and always a beginning of the word, so that what matched can be marked
  if (word.length < 4 || /[\d_-]/.test(word)) return word
  for (const [ending, rest] of endings) {
    const short = word.replace(ending, rest)
    if (short !== word && short.length > 2) return short.replace(/([bdfgmnprt])\1$/, '$1')
  }
  return word
}
const cut = text => {
  const low = text.toLowerCase(), options = (low.match(/--[a-z][\w-]+/g) || []).map(o => o.slice(2)).filter(o => o.includes('-'))
  return [...options, ...low.split(/[^\p{L}\p{N}_]+/u).flatMap(w => w.includes('_') ? [w, ...w.split('_')] : [w])].filter(Boolean)
}
const terms = text => cut(text).filter(w => !filler.has(w))
const exact = {prefix: false, fuzzy: false}
const asked = text => { // what is looked for: each word, or another for it
  const plain = ` ${text.toLowerCase().replace(/[^\p{L}\p{N}_-]+/gu, ' ').trim()} `, groups = []
  let left = plain
  for (const option of plain.match(/--[a-z][\w-]*-[\w-]+/g) || []) { // as it is, not its words
    groups.push({...exact, queries: [option], tokenize: o => [o.slice(2)]})
    left = left.replace(option, ' ')
  }
  for (const group of same) {
    const named = group.filter(g => plain.includes(` ${g} `) || plain.includes(` ${g}s `)).sort((a, b) => b.length - a.length)[0]
    if (!named) continue
    groups.push({combineWith: 'OR', queries: [{combineWith: 'AND', queries: terms(named).map(w => ({queries: [w], boost: {heading: 6, title: 3}}))}, ...group.filter(g => g !== named).map(g => ({combineWith: 'AND', queries: terms(g).map(w => ({...exact, queries: [w]}))}))]})
    left = left.replace(` ${named}s `, ' ').replace(` ${named} `, ' ')
  }
  return [...groups, ...terms(left)]
}
const found = text => {
  const queries = asked(text), low = text.trim().toLowerCase()
  if (!queries.length) return []
  const options = {boostDocument: (id, term, e) => (e.heading.toLowerCase() === low ? 6 : e.heading.toLowerCase().split('.').pop() === low ? 3 : 1) * (e.faq ? 2 : 1) * (e.symbol ? 1.2 : 1)}
  const all = engine.search({combineWith: 'AND', queries}, options)
  return all.length || queries.length < 2 ? all : engine.search({combineWith: 'OR', queries}, options)
}
const escaped = text => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
const pattern = (words, flags) => new RegExp(`(?<![\\p{L}\\p{N}])((?:${words.map(escaped).join('|')})[\\p{L}\\p{N}]*)`, flags)
const marked = (text, words) => words.length ? text.split(pattern(words, 'giu')).map((part, i) => i % 2 ? make('mark', {}, part) : part) : [text]
const excerpt = (text, words) => {
  const at = Math.max(0, (words.length ? text.search(pattern(words, 'iu')) : 0) - 40)
  return (at ? '…' : '') + text.slice(at, at + 180)
}
let engine
const prepare = () => {
  index = window.searchIndex
  engine = new MiniSearch({
    fields: ['heading', 'title', 'text', 'code'], storeFields: ['heading', 'symbol', 'faq'], tokenize: cut, processTerm: stem,
    searchOptions: {boost: {heading: 4, title: 2, code: .5}, prefix: w => w.length > 2, fuzzy: w => w.length > 4 ? .2 : false, weights: {fuzzy: .2, prefix: .6}},
  })
  engine.addAll(index.entries.map(([p, anchor, heading, symbol, text, code], id) => ({id, heading, symbol, text, code, title: index.pages[p][1], faq: index.pages[p][0] === 'faq.html'})))
}
let index, dialog, chosen = -1
const script = address => new Promise((done, fail) => {
  const tag = make('script', {src: body.dataset.top + address})
  tag.onload = done
  tag.onerror = fail
  document.head.append(tag)
})
const load = async () => {
  if (engine) return
  await Promise.all([script('minisearch.js'), script('search.js')])
  if (!engine) prepare()
}
const build = () => {
  const input = make('input', {type: 'search', role: 'combobox', 'aria-label': 'Search', 'aria-expanded': 'true', 'aria-controls': 'found', 'aria-autocomplete': 'list', placeholder: 'Search text, names, code', autocomplete: 'off', spellcheck: 'false'})
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
    const hits = engine ? found(input.value) : []
    list.replaceChildren(...hits.slice(0, 30).map(({id, terms: words}, i) => {
      const [p, anchor, heading, symbol, text] = index.entries[id]
      const [address, title, section] = index.pages[p]
      const link = make('a', {role: 'option', id: `found-${i}`, tabindex: '-1', 'aria-selected': 'false', href: body.dataset.top + address + (anchor && `#${encodeURIComponent(anchor)}`)},
        make('small', {}, [section, title].filter(Boolean).join(' / ')), make(symbol ? 'code' : 'b', {}, ...marked(heading, words)), make('p', {}, ...marked(excerpt(text, words), words)))
      link.addEventListener('click', () => dialog.close())
      return link
    }))
    status.textContent = input.value.trim() ? `${hits.length} found` + (hits.length > 30 ? ', the best 30 shown' : '') : 'Arrow keys choose, Enter opens, Escape closes'
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
