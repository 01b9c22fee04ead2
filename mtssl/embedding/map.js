const $ = id => document.getElementById(id)
const data = JSON.parse($('data').textContent), n = data.names.length
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer
const kinds = {class: Uint16Array, number: Float32Array}
for (const column of data.columns) if (column.codes) column.codes = new kinds[column.kind](bytes(column.codes))
for (const layout of data.layouts) layout.at = new Float32Array(bytes(layout.at)) // x0 y0 x1 y1 ...
const near = new Int32Array(bytes(data.near)), cosines = new Int8Array(bytes(data.cosines)), k = n ? near.length / n : 0
const many = new Intl.NumberFormat('en').format
const element = (tag, text, kind) => Object.assign(document.createElement(tag), {textContent: text ?? '', className: kind ?? ''})

// ---- names
const plain = name => name.slice(name.lastIndexOf('/') + 1).replace(/\.[A-Za-z0-9]{1,5}$/, '')
const folderOf = name => name.includes('/') ? name.slice(0, name.lastIndexOf('/')) : ''
const titles = data.titles ?? data.names.map(plain)
const lower = data.names.map((name, i) => `${name} ${titles[i]}`.toLowerCase())
const twoLines = (node, i) => node.append(element('span', titles[i]), element('small', folderOf(data.names[i])))

// ---- state
const state = {layout: 0, column: data.columns[data.colour], focus: new Set(), found: null, current: -1, hover: -1, list: new Set(), lasso: false}
let at = data.layouts[0].at, figure, points, marks, links, glyph

// ---- colours
const palette = ['#3b82c4', '#e07b39', '#3f9d5b', '#c8476a', '#8a63c9', '#b08a2e', '#2fa3a3', '#d673b8', '#7f9430', '#5f73dc', '#a5643f', '#d9a321',
  '#74a8e0', '#58b98a', '#e58a8a', '#b39ad9', '#4c7a8c', '#8f4a86', '#c7b34a', '#6b8e5a']
const grey = '#8b949e', ramp = ['#4f46b8', '#8d3fb4', '#c4478f', '#e4685f', '#f0953f', '#f2c14e']
const between = (a, b, t) => '#' + [1, 3, 5].map(p => Math.round(parseInt(a.slice(p, p + 2), 16) * (1 - t) + parseInt(b.slice(p, p + 2), 16) * t).toString(16).padStart(2, '0')).join('')
const steps = Array.from({length: 64}, (_, i) => { const p = i / 63 * (ramp.length - 1), q = Math.min(ramp.length - 2, Math.floor(p)); return between(ramp[q], ramp[q + 1], p - q) })
const none = 65535
for (const column of data.columns) {
  if (column.kind === 'class') {
    column.counts = new Array(column.values.length).fill(0)
    column.missing = 0
    for (const code of column.codes) code === none ? column.missing++ : column.counts[code]++
    column.order = column.counts.map((_, c) => c).sort((a, b) => column.counts[b] - column.counts[a] || a - b)
    column.colours = new Array(column.values.length).fill(grey)
    column.order.slice(0, palette.length).forEach((c, place) => column.colours[c] = palette[place])
  } else if (column.kind === 'number') {
    const known = column.codes.filter(Number.isFinite)
    column.low = known.reduce((a, b) => Math.min(a, b), Infinity)
    column.high = known.reduce((a, b) => Math.max(a, b), -Infinity)
    column.missing = n - known.length
  }
}
const valueOf = (column, i) => column.kind === 'class' ? column.values[column.codes[i]] : column.kind === 'number' ? (Number.isFinite(column.codes[i]) ? String(+column.codes[i].toPrecision(4)) : undefined) : column.values[i] || undefined
function colourOf(column, i) {
  if (column.kind === 'class') return column.codes[i] === none ? grey : column.colours[column.codes[i]]
  const value = column.codes[i]
  return Number.isFinite(value) ? steps[Math.round(63 * (value - column.low) / (column.high - column.low || 1))] : grey
}
const shows = i => (!state.focus.size || state.focus.has(state.column.codes[i])) && (!state.found || state.found.has(i))
const narrowed = () => state.focus.size > 0 || state.found !== null
function paint() {
  const colour = new Array(n), narrow = narrowed()
  for (let i = 0; i < n; i++) {
    const c = colourOf(state.column, i), lit = !narrow || shows(i)
    colour[i] = lit ? (narrow && c === grey ? '#2474b5' : c) + 'd9' : '#8b949e26'
  }
  points.data = {x: points.data.x, y: points.data.y, colour}
}
function place() {
  const x = new Float64Array(n), y = new Float64Array(n)
  at = data.layouts[state.layout].at
  for (let i = 0; i < n; i++) { x[i] = at[2 * i]; y[i] = at[2 * i + 1] }
  points.data = {x, y, colour: points.data.colour.length === n ? points.data.colour : new Array(n).fill(grey)}
}

// ---- what is marked: the list, the neighbours and the current track, with lines to its neighbours
function mark() {
  const m = {x: [], y: [], size: [], line: [], width: []}, size = glyph.size.value
  const dark = isDark(), strong = dark ? '#ffffff' : '#000000', listed = dark ? '#f2c14e' : '#b35900'
  const ring = (i, more, line, width) => { m.x.push(at[2 * i]); m.y.push(at[2 * i + 1]); m.size.push(size + more); m.line.push(line); m.width.push(width) }
  for (const i of state.list) ring(i, 3, listed, 1.5)
  const l = {x0: [], y0: [], x1: [], y1: []}, c = state.current
  if (c >= 0) {
    for (let j = 0; j < k; j++) {
      const i = near[c * k + j]
      if (i < 0) continue
      ring(i, 4, strong, 1.2)
      l.x0.push(at[2 * c]); l.y0.push(at[2 * c + 1]); l.x1.push(at[2 * i]); l.y1.push(at[2 * i + 1])
    }
    ring(c, 9, strong, 2.5)
  }
  marks.data = m
  links.data = l
}

// ---- the view: equal units on both axes, whatever the shape of the window
const stage = $('map')
const box = () => ({w: stage.clientWidth || 1, h: stage.clientHeight || 1})
const view = () => ({x0: figure.x_range.start, x1: figure.x_range.end, y0: figure.y_range.start, y1: figure.y_range.end})
function look(cx, cy, unit) { // centre, and data units of one pixel
  const {w, h} = box()
  figure.x_range.setv({start: cx - unit * w / 2, end: cx + unit * w / 2})
  figure.y_range.setv({start: cy - unit * h / 2, end: cy + unit * h / 2})
  resize()
}
let whole = 1
function extent() {
  let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity
  for (let i = 0; i < n; i++) {
    x0 = Math.min(x0, at[2 * i]); x1 = Math.max(x1, at[2 * i]); y0 = Math.min(y0, at[2 * i + 1]); y1 = Math.max(y1, at[2 * i + 1])
  }
  const {w, h} = box(), room = Math.min(40, w / 12)
  return {cx: (x0 + x1) / 2, cy: (y0 + y1) / 2, unit: Math.max((x1 - x0) / (w - 2 * room), (y1 - y0) / Math.max(50, h - 2 * room - 40), 1e-9)}
}
function fit() { const e = extent(); whole = e.unit; look(e.cx, e.cy, e.unit) }
function zoom(factor) { const v = view(); look((v.x0 + v.x1) / 2, (v.y0 + v.y1) / 2, (v.x1 - v.x0) / box().w / factor) }
const usual = n <= 600 ? 10 : n <= 2500 ? 8 : n <= 8000 ? 6 : 4.5
function resize() { // points grow a little as one comes nearer
  const v = view(), wanted = Math.round(Math.min(16, usual * Math.max(1, whole / ((v.x1 - v.x0) / box().w)) ** .35))
  if (glyph.size.value !== wanted) { glyph.size = {value: wanted}; mark() }
}
function keepInView(i) {
  const v = view(), x = at[2 * i], y = at[2 * i + 1], mx = (v.x1 - v.x0) * .06, my = (v.y1 - v.y0) * .06
  if (x > v.x0 + mx && x < v.x1 - mx && y > v.y0 + my && y < v.y1 - my) return
  look(x, y, (v.x1 - v.x0) / box().w)
}
function nearestTo(px, py, most) { // the track nearest to a pixel, within so many pixels; those that are shown first
  const v = view(), {w, h} = box(), sx = w / (v.x1 - v.x0), sy = h / (v.y1 - v.y0), narrow = narrowed()
  let best = -1, least = most * most
  for (let i = 0; i < n; i++) {
    const dx = (at[2 * i] - v.x0) * sx - px, dy = (v.y1 - at[2 * i + 1]) * sy - py, d = dx * dx + dy * dy
    if (d < least && (!narrow || shows(i))) { least = d; best = i }
  }
  return best
}
function pixelOf(i) { const v = view(), {w, h} = box(); return [(at[2 * i] - v.x0) / (v.x1 - v.x0) * w, (v.y1 - at[2 * i + 1]) / (v.y1 - v.y0) * h] }

// ---- the chosen track
const audio = $('audio')
const addressOf = i => data.base === null ? null : data.base + data.names[i].split('/').map(encodeURIComponent).join('/')
const soundOf = i => data.excerpts ? (data.excerpts[i] ? `data:${data.sound};base64,${data.excerpts[i]}` : null) : addressOf(i)
function choose(i, play = true) {
  state.current = i
  $('hint').hidden = true
  $('track').hidden = false
  $('name').textContent = titles[i]
  $('where').textContent = folderOf(data.names[i])
  const sound = soundOf(i), address = addressOf(i)
  $('silent').hidden = sound !== null
  $('silent').textContent = sound === null ? 'This page holds no sound of this track.' : ''
  audio.hidden = sound === null
  if (sound === null) audio.removeAttribute('src'); else audio.src = sound
  if (play && sound !== null) audio.play().catch(() => {})
  $('open').hidden = address === null
  if (address !== null) $('open').href = address
  tell(i)
  neighbours(i)
  $('add').textContent = state.list.has(i) ? 'Take off the list' : 'Add to the list'
  keepInView(i)
  mark()
  $('said').textContent = `${titles[i]}${play ? '' : '. Enter plays it'}`
}
function tell(i) {
  const rows = data.columns.map(column => [column.name, valueOf(column, i)]).filter(([, value]) => value !== undefined && value !== '')
  $('about').replaceChildren(...rows.flatMap(([name, value]) => [element('dt', name), element('dd', value)]), element('dt', 'file'), element('dd', data.names[i]))
}
function neighbours(i) {
  $('near').replaceChildren(...Array.from(near.subarray(i * k, (i + 1) * k), (other, j) => {
    if (other < 0) return ''
    const item = element('li'), button = element('button'), text = element('span', '', 'text')
    twoLines(text, other)
    button.append(text, element('span', (cosines[i * k + j] / 100).toFixed(2), 'cosine'))
    button.title = 'How alike: the cosine, 1 for the same'
    button.addEventListener('click', () => choose(other))
    item.append(button)
    return item
  }).filter(Boolean))
}
audio.addEventListener('error', () => {
  if (!audio.getAttribute('src')) return
  $('silent').hidden = false
  const kind = data.names[state.current].split('.').pop()
  $('silent').textContent = audio.error?.code === 4 && data.excerpts === null
    ? `The browser finds no file it can play at ${decodeURIComponent(audio.getAttribute('src'))}. Keep this page where it was made; if the file is there, this browser does not know .${kind}, and a page made with --excerpts plays it.`
    : 'The browser cannot play this sound.'
})

// ---- the list
function listed() {
  const all = [...state.list]
  $('number').textContent = many(all.length)
  $('empty').hidden = all.length > 0
  $('list').hidden = !all.length
  $('tracks').replaceChildren(...all.slice(0, 200).map(i => {
    const item = element('li'), text = element('button', '', 'text'), off = element('button', '×', 'off')
    twoLines(text, i)
    text.addEventListener('click', () => choose(i))
    off.setAttribute('aria-label', `Take ${titles[i]} off the list`)
    off.addEventListener('click', () => change([i], false))
    item.append(text, off)
    return item
  }), ...all.length > 200 ? [element('li', `and ${many(all.length - 200)} more`)] : [])
  $('add').textContent = state.list.has(state.current) ? 'Take off the list' : 'Add to the list'
  mark()
}
function change(tracks, on) {
  for (const i of tracks) on ? state.list.add(i) : state.list.delete(i)
  $('said').textContent = `${many(state.list.size)} on the list`
  listed()
}
const toggle = () => state.current >= 0 && change([state.current], !state.list.has(state.current))
function save(name, text, kind) {
  const link = Object.assign(document.createElement('a'), {href: URL.createObjectURL(new Blob([text], {type: kind})), download: name})
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 1000)
}
const quoted = value => /[",\n\r]/.test(value ?? '') ? `"${value.replaceAll('"', '""')}"` : value ?? ''
$('m3u').addEventListener('click', () => save('list.m3u8', ['#EXTM3U', ...[...state.list].flatMap(i => [`#EXTINF:-1,${titles[i]}`, data.folder + data.names[i]])].join('\n') + '\n', 'audio/x-mpegurl'))
$('csv').addEventListener('click', () => save('list.csv', [['path', ...data.columns.map(c => c.name)], ...[...state.list].map(i => [data.names[i], ...data.columns.map(c => valueOf(c, i))])].map(row => row.map(quoted).join(',')).join('\r\n') + '\r\n', 'text/csv'))
$('copy').addEventListener('click', async () => {
  try { await navigator.clipboard.writeText([...state.list].map(i => data.names[i]).join('\n')); $('said').textContent = $('copy').textContent = 'Copied' }
  catch { $('copy').textContent = 'Not allowed' }
  setTimeout(() => $('copy').textContent = 'Copy', 1500)
})
$('clear').addEventListener('click', () => change([...state.list], false))
$('add').addEventListener('click', toggle)

// ---- colours and legend
function legend() {
  const column = state.column, numbers = column.kind === 'number'
  $('scale').hidden = !numbers
  if (numbers) {
    $('bar').style.background = `linear-gradient(to right, ${ramp})`
    $('low').textContent = +column.low.toPrecision(4)
    $('high').textContent = +column.high.toPrecision(4)
  }
  $('unknown').hidden = !column.missing
  $('unknown').textContent = `${many(column.missing)} without one, in grey`
  $('legend').replaceChildren(...numbers ? [] : column.order.map(c => {
    const item = element('li'), button = element('button'), dot = element('span', '', 'dot')
    dot.style.background = column.colours[c]
    button.append(dot, element('span', column.values[c], 'text'), element('span', many(column.counts[c]), 'count'))
    button.setAttribute('aria-pressed', state.focus.has(c))
    button.addEventListener('click', () => {
      state.focus.has(c) ? state.focus.delete(c) : state.focus.add(c)
      button.setAttribute('aria-pressed', state.focus.has(c))
      narrow()
    })
    item.append(button)
    return item
  }))
}
function narrow() { // fewer are shown, or all again
  paint()
  $('shown').hidden = !narrowed()
  if (narrowed()) {
    let count = 0
    for (let i = 0; i < n; i++) count += shows(i)
    $('keep').textContent = `Add the ${many(count)} shown to the list`
  }
}
function showAll() {
  state.focus.clear()
  state.found = null
  $('find').value = ''
  close()
  legend()
  narrow()
}
$('keep').addEventListener('click', () => change(data.names.map((_, i) => i).filter(shows), true))
$('show-all').addEventListener('click', showAll)
for (const [i, column] of data.columns.entries()) if (column.kind !== 'text') $('colour').append(new Option(column.name, i))
$('colour').value = data.colour
$('colour').addEventListener('change', e => { state.column = data.columns[e.target.value]; state.focus.clear(); legend(); narrow() })

// ---- search
let active = -1, options = []
function search() {
  const words = $('find').value.toLowerCase().split(/\s+/).filter(Boolean), hits = []
  if (words.length) for (let i = 0; i < n; i++) if (words.every(w => lower[i].includes(w))) hits.push(i)
  state.found = words.length ? new Set(hits) : null
  $('count').textContent = `${many(hits.length)} found`
  options = hits.slice(0, 60)
  $('found').replaceChildren(...options.map((i, place) => {
    const item = element('li')
    item.id = `found-${place}`
    item.setAttribute('role', 'option')
    const at = titles[i].toLowerCase().indexOf(words[0]), title = element('span')
    if (at < 0) title.textContent = titles[i]
    else title.append(titles[i].slice(0, at), element('mark', titles[i].slice(at, at + words[0].length)), titles[i].slice(at + words[0].length))
    item.append(title, element('small', folderOf(data.names[i])))
    item.addEventListener('mousedown', e => { e.preventDefault(); take(place) })
    return item
  }))
  $('results').hidden = !words.length
  $('find').setAttribute('aria-expanded', words.length > 0)
  activate(options.length ? 0 : -1)
  narrow()
}
function activate(place) {
  active = place
  for (const [p, item] of [...$('found').children].entries()) item.setAttribute('aria-selected', p === place)
  if (place < 0) return $('find').removeAttribute('aria-activedescendant')
  $('find').setAttribute('aria-activedescendant', `found-${place}`)
  $('found').children[place].scrollIntoView({block: 'nearest'})
}
function close() { $('results').hidden = true; $('find').setAttribute('aria-expanded', 'false') }
function take(place) { close(); choose(options[place]) }
$('find').addEventListener('input', search)
$('find').addEventListener('focus', () => { if ($('find').value) search() })
$('find').addEventListener('blur', close)
$('find').addEventListener('keydown', e => {
  if (e.key === 'ArrowDown' || e.key === 'ArrowUp') { e.preventDefault(); if (options.length) activate((active + (e.key === 'ArrowDown' ? 1 : -1) + options.length) % options.length) }
  else if (e.key === 'Enter' && active >= 0) { e.preventDefault(); take(active) }
  else if (e.key === 'Escape') { e.preventDefault(); $('find').value ? showAll() : $('find').blur() }
})

// ---- light and dark
const system = matchMedia('(prefers-color-scheme: dark)'), root = document.documentElement
const isDark = () => root.dataset.theme ? root.dataset.theme === 'dark' : system.matches
const tellTheme = () => $('theme').setAttribute('aria-pressed', isDark())
$('theme').addEventListener('click', () => { root.dataset.theme = isDark() ? 'light' : 'dark'; tellTheme(); mark() })
system.addEventListener('change', () => { tellTheme(); mark() })

// ---- pointer: hover for the name, click or tap to hear
function tip(i) {
  if (i === state.hover) return
  state.hover = i
  stage.style.cursor = i >= 0 ? 'pointer' : ''
  $('tip').hidden = $('ring').hidden = i < 0
  if (i < 0) return
  const value = valueOf(state.column, i), [x, y] = pixelOf(i), {w} = box()
  Object.assign($('ring').style, {left: `${x}px`, top: `${y}px`, width: `${glyph.size.value + 5}px`, height: `${glyph.size.value + 5}px`}) // not drawn by WebGL, which would draw all points again
  $('tip').replaceChildren(element('span', titles[i]), element('small', value === undefined ? folderOf(data.names[i]) : `${state.column.name}: ${value}`))
  $('tip').style.left = x > w / 2 ? '' : `${x + 14}px`
  $('tip').style.right = x > w / 2 ? `${w - x + 14}px` : ''
  $('tip').style.top = `${Math.max(4, y - 14)}px`
}
let down = null, asked = null
const spot = e => { const r = stage.getBoundingClientRect(); return [e.clientX - r.left, e.clientY - r.top] }
stage.addEventListener('pointermove', e => {
  if (down && Math.hypot(e.clientX - down.x, e.clientY - down.y) > 8) down.moved = true
  if (e.pointerType === 'touch' || e.buttons) return tip(-1)
  const wanted = asked === null
  asked = spot(e)
  if (wanted) requestAnimationFrame(() => { const p = asked; asked = null; tip(nearestTo(...p, 12)) })
}, true)
stage.addEventListener('pointerleave', () => tip(-1))
stage.addEventListener('pointerdown', e => {
  down = down && !down.up ? {moved: true} : {x: e.clientX, y: e.clientY, moved: false} // a second finger is no tap
  state.shift = e.shiftKey
  close()
}, true)
stage.addEventListener('pointerup', e => {
  if (down && !down.moved) {
    const i = nearestTo(...spot(e), e.pointerType === 'touch' ? 28 : 12)
    if (i >= 0) choose(i)
  }
  down = null
}, true)
stage.addEventListener('pointercancel', () => down = null, true)

// ---- keys
function step(dx, dy) { // to the nearest track in a direction, within 45 degrees of it
  const from = state.current, v = view(), u = (v.x1 - v.x0) / box().w
  if (from < 0) return choose(nearestTo(box().w / 2, box().h / 2, Infinity), false)
  let best = -1, least = Infinity
  for (let i = 0; i < n; i++) {
    const x = (at[2 * i] - at[2 * from]) / u, y = (at[2 * i + 1] - at[2 * from + 1]) / u
    const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx)
    if (i === from || along <= 0 || across > along || narrowed() && !shows(i)) continue
    const cost = along + 2 * across
    if (cost < least) { least = cost; best = i }
  }
  if (best >= 0) choose(best, false)
}
const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}
document.addEventListener('keydown', e => {
  if (e.ctrlKey || e.metaKey || e.altKey || $('keys').open) return
  const on = e.target, typing = on.matches('input, select, textarea'), onControl = typing || on.matches('button, summary, a, audio')
  if (typing) return
  if (e.key === '/') { e.preventDefault(); $('find').focus(); $('find').select() }
  else if (e.key === '?') $('keys').showModal()
  else if (e.key === 'Escape') showAll()
  else if (arrows[e.key] && !on.matches('audio')) { e.preventDefault(); step(...arrows[e.key]) }
  else if (e.key === 'Enter' && !onControl && state.current >= 0) choose(state.current)
  else if (e.key === ' ' && !onControl) { e.preventDefault(); if (state.current >= 0) audio.paused ? audio.play().catch(() => {}) : audio.pause() }
  else if (/^[1-9]$/.test(e.key) && state.current >= 0) { const i = near[state.current * k + +e.key - 1]; if (+e.key <= k && i >= 0) choose(i) }
  else if (e.key === '+' || e.key === '=') zoom(1.5)
  else if (e.key === '-') zoom(1 / 1.5)
  else if (e.key === '0') fit()
  else if (e.key.toLowerCase() === 'l') drag(true)
  else if (e.key.toLowerCase() === 'm') drag(false)
  else if (e.key.toLowerCase() === 'a') toggle()
})
$('help').addEventListener('click', () => $('keys').showModal())
$('nearer').addEventListener('click', () => zoom(1.5))
$('farther').addEventListener('click', () => zoom(1 / 1.5))
$('fit').addEventListener('click', fit)
$('move').addEventListener('click', () => drag(false))
$('lasso').addEventListener('click', () => drag(true))
let tools = {}
function drag(lasso) {
  state.lasso = lasso
  tools.pan.active = !lasso
  tools.lasso.active = lasso
  $('lasso').setAttribute('aria-pressed', lasso)
  $('move').setAttribute('aria-pressed', !lasso)
}
if (data.layouts.length > 1) for (const [i, layout] of data.layouts.entries()) {
  const button = element('button', layout.name)
  button.title = layout.title
  button.setAttribute('aria-pressed', i === 0)
  button.addEventListener('click', () => {
    state.layout = i
    for (const [j, other] of [...$('layouts').children].entries()) other.setAttribute('aria-pressed', i === j)
    place(); fit(); mark(); facts()
  })
  $('layouts').append(button)
}

// ---- begin
function facts() {
  const left = data.left_out ? `, ${many(data.left_out)} could not be read` : ''
  $('facts').textContent = `${many(n)} track${n === 1 ? '' : 's'}${left} · ${data.layouts[state.layout].title}`
}
$('made').textContent = data.made
async function begin() {
  const views = await Bokeh.embed.embed_item(JSON.parse($('plot').textContent), 'map')
  const view = Symbol.iterator in views ? [...views][0] : Object.values(views)[0]
  figure = view.model
  const model = name => figure.document.get_model_by_name(name)
  points = model('points'); marks = model('marks'); links = model('links'); glyph = model('glyph')
  tools = {pan: model('pan'), lasso: model('lasso')}
  place()
  fit()
  legend()
  paint()
  mark()
  facts()
  tellTheme()
  points.selected.change.connect(() => {
    const chosen = points.selected.indices.filter(i => !narrowed() || shows(i))
    if (!chosen.length) return
    if (!state.shift) state.list.clear()
    change(chosen, true)
    points.selected.indices = []
  })
  figure.x_range.change.connect(() => { tip(-1); resize() })
  let last = box()
  new ResizeObserver(() => {
    const {w, h} = box(), x = figure.x_range, y = figure.y_range
    if (w === last.w && h === last.h) return
    const unit = (x.end - x.start) / last.w
    if (Math.abs(unit / whole - 1) < 1e-6) fit() // all was shown, and is shown in a window of another shape
    else look((x.start + x.end) / 2, (y.start + y.end) / 2, Math.max(unit, 1e-12))
    last = {w, h}
  }).observe(stage)
  window.musicMap = {state, choose, pixelOf, view: () => view, figure}
  root.dataset.ready = 'yes'
}
begin().catch(error => {
  $('problem').hidden = false
  $('problem').textContent = `The map cannot be drawn in this browser (${error.message}); search, sound and neighbours below work without it.`
  throw error
})
