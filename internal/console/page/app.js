import { bytes, duration, h, number, parse, unique } from './dom.js'
import { Call } from './call.js'
import { Form } from './form.js'
import { Timeline } from './timeline.js'
import { snippets } from './snippets.js'
import * as session from './session.js'

const { ask, askForToken, Unauthorized } = session

const $ = (id) => document.getElementById(id)
const modes = [
  ['unary', 'Unary', 'one request, one reply'],
  ['server_stream', 'Server streaming', 'one request, many replies'],
  ['client_stream', 'Client streaming', 'many requests, one reply'],
  ['bidi_stream', 'Bidirectional', 'many requests, many replies'],
]
const modeName = Object.fromEntries(modes.map(([id, name]) => [id, name]))

let catalogue
let current
const views = new Map() // by service/method
// Servers that answered have a colour each, in the order in which they appeared.
const peers = []
function peerIndex(address) {
  if (!peers.includes(address)) peers.push(address)
  return peers.indexOf(address) % 8
}

const load = async () => { catalogue = await session.catalogue(() => away(true)) }

function all() {
  return catalogue.services.flatMap((service) => service.methods.map((method) => ({ service, method, name: `${service.name}/${method.name}` })))
}

// The list of methods.

function list() {
  const wanted = $('search').value.toLowerCase().split(/\s+/).filter(Boolean)
  const found = all().filter(({ name, method }) => wanted.every((w) => `${name} ${modeName[method.mode]}`.toLowerCase().includes(w)))
  const groups = modes.map(([mode, title, about]) => {
    const its = found.filter(({ method }) => method.mode === mode)
    if (!its.length) return null
    const id = `group-${mode}`
    return h('section', { 'aria-labelledby': id }, h('h2', { id, title: about }, h('span', { class: `glyph ${mode}`, 'aria-hidden': 'true' }), title),
      h('ul', {}, its.map(({ name, service, method }) => h('li', {}, h('a', {
        href: `#/${name}`, 'aria-current': current?.name === name ? 'page' : undefined, class: method.deprecated ? 'deprecated' : undefined,
      }, h('span', { class: 'name' }, method.name), views.get(name)?.call?.open && h('span', { class: 'live', title: 'a call is open' }, h('span', { class: 'hidden' }, 'a call is open')),
      h('span', { class: 'service' }, service.name.split('.').at(-1)))))))
  })
  const panels = wanted.length || !catalogue.panels ? null : h('section', { 'aria-labelledby': 'panels' }, h('h2', { id: 'panels' }, 'Pages'),
    h('ul', {}, catalogue.panels.map(({ name, title }) => h('li', {}, h('a', { href: `panels/${name}/` }, h('span', { class: 'name' }, title), h('span', { class: 'service' }, name))))))
  groups.unshift(panels)
  $('methods').replaceChildren(...(found.length ? groups.filter(Boolean) : [h('p', { class: 'empty small' }, catalogue.services.length ? 'No method has that in its name.' : 'This client has no services.')]))
}

function move(step) {
  const links = [...$('methods').querySelectorAll('a')]
  const at = links.indexOf(document.activeElement)
  const next = links[at + step]
  if (next) next.focus()
  else if (step < 0) $('search').focus()
}

// The view of a method.

class View {
  constructor({ service, method, name }) {
    Object.assign(this, { service, method, name, samples: [] })
    this.streams = method.mode === 'client_stream' || method.mode === 'bidi_stream'
    this.timeline = new Timeline(catalogue, method, peerIndex)
    this.form = new Form(catalogue, method.input, () => this.fromForm())
    this.element = h('article', { class: 'method' }, this.head(), this.numbers(), h('div', { class: 'panels' }, this.request(), this.happens()))
    let kept
    try { kept = parse(sessionStorage.getItem(`message ${name}`) || '{}') } catch { kept = {} }
    this.form.show(kept)
    this.fromForm()
    this.update()
  }

  head() {
    const address = catalogue.dashboard_url?.replaceAll('{service}', encodeURIComponent(this.service.name)).replaceAll('{method}', encodeURIComponent(this.method.name))
    const [lead, ...rest] = (this.method.comment || '').split('\n\n')
    return h('header', {},
      h('p', { class: 'path' }, h('span', { class: `badge ${this.method.mode}` }, modeName[this.method.mode]), h('code', {}, this.service.name),
        this.method.safe && h('span', { class: 'tag', title: 'The contract says so: idempotency_level = NO_SIDE_EFFECTS' }, 'no side effects'),
        this.method.deprecated && h('span', { class: 'tag' }, 'deprecated'),
        address && h('a', { class: 'dashboard', href: address, target: '_blank', rel: 'noreferrer' }, 'Dashboard ↗')),
      h('h2', {}, this.method.name),
      lead && h('p', { class: 'lead' }, lead),
      rest.length > 0 && h('details', { class: 'contract' }, h('summary', {}, 'Order, limits and codes'), rest.map((text) => h('p', {}, text))))
  }

  numbers() {
    const figure = (id, label, title) => h('div', { class: 'figure', title }, h('dt', {}, label), h('dd', {}, this[id] = h('span', {}, '–')))
    this.spark = document.createElementNS('http://www.w3.org/2000/svg', 'polyline')
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
    svg.setAttribute('viewBox', '0 0 120 28')
    svg.setAttribute('class', 'spark')
    svg.setAttribute('aria-hidden', 'true')
    svg.setAttribute('hidden', '')
    svg.append(this.spark)
    this.pods = h('ul', { class: 'pods' })
    return h('section', { class: 'numbers', 'aria-label': 'Numbers of this method from all calls of this client' },
      h('dl', {}, figure('live', 'Running', 'Calls of this client that run now'),
        h('div', { class: 'figure', title: 'Calls begun in the last minute' }, h('dt', {}, 'Calls'), h('dd', {}, this.rate = h('span', {}, '–'), svg)),
        figure('failed', 'Errors', 'Calls of the last minute that ended with another code than OK'),
        figure('p99', 'p99', '99 of 100 calls of the last minute took less'), figure('out', 'Sent', 'Bytes of requests'), figure('in', 'Received', 'Bytes of replies')),
      h('div', { class: 'answering' }, h('h3', {}, 'Answered by'), this.pods))
  }

  request() {
    const tab = (id, label, panel) => {
      const button = h('button', { type: 'button', role: 'tab', id: unique('tab'), 'aria-controls': panel.id, onclick: () => this.select(id) }, label)
      panel.setAttribute('aria-labelledby', button.id)
      return button
    }
    const panel = (...content) => h('div', { role: 'tabpanel', id: unique('panel'), class: 'tab' }, content)
    this.text = h('textarea', { class: 'code', rows: 14, spellcheck: false, 'aria-label': 'The message as JSON', oninput: () => this.fromText() })
    this.problem = h('p', { class: 'problem', role: 'status', hidden: true })
    this.metadata = h('div', { class: 'items' })
    const row = (name = '', value = '') => {
      const item = h('div', { class: 'item pair' }, h('input', { value: name, placeholder: 'x-name', 'aria-label': 'Name of metadata', spellcheck: false }),
        h('input', { value, placeholder: 'value', 'aria-label': 'Value of metadata', spellcheck: false }),
        h('button', { type: 'button', class: 'ghost small remove', 'aria-label': 'Remove metadata', onclick: () => item.remove() }, '×'))
      this.metadata.append(item)
    }
    this.deadline = h('input', { id: unique('deadline'), placeholder: 'none', size: 6, spellcheck: false, value: this.method.mode === 'unary' ? '10s' : '' })
    this.resume = h('input', { type: 'checkbox', id: unique('resume') })
    const panels = {
      form: panel(this.form.element),
      json: panel(this.text),
      more: panel(h('fieldset', { class: 'field' }, h('legend', {}, 'Metadata'), h('p', { class: 'help' }, `Names that this client sends: ${catalogue.metadata}. Values of names that end with -bin are in base64.`),
        this.metadata, h('button', { type: 'button', class: 'small', onclick: () => row() }, '+ Add'))),
    }
    this.tabs = {
      form: [tab('form', 'Form', panels.form), panels.form], json: [tab('json', 'JSON', panels.json), panels.json], more: [tab('more', 'Metadata', panels.more), panels.more],
    }
    const tabs = h('div', { role: 'tablist', class: 'tabs', 'aria-label': 'Request', onkeydown: (e) => this.arrows(e) }, Object.values(this.tabs).map(([b]) => b))
    this.select('form')
    this.sendButton = h('button', { type: 'submit', class: 'primary', title: 'Ctrl+Enter' }, 'Send')
    this.openButton = this.streams && h('button', { type: 'button', onclick: () => this.start(), title: 'Begin the call without a message' }, 'Open')
    this.halfButton = this.streams && h('button', { type: 'button', onclick: () => this.halfClose(), title: 'Nothing more will be sent' }, 'Half-close')
    this.cancelButton = h('button', { type: 'button', class: 'danger', onclick: () => this.call.cancel() }, 'Cancel')
    const copy = h('div', { class: 'copy' }, h('span', { class: 'muted small' }, 'Copy as '), ['grpcurl', 'curl', 'Go'].map((name) =>
      h('button', { type: 'button', class: 'link', onclick: () => this.copy(name) }, name)))
    return h('section', { class: 'panel', 'aria-label': 'Request' },
      h('div', { class: 'bar' }, h('h3', {}, 'Request'), h('code', { class: 'muted type' }, this.method.input.split('.').at(-1)), copy),
      tabs,
      h('form', { class: 'request', onsubmit: (e) => { e.preventDefault(); this.send() } }, Object.values(this.tabs).map(([, p]) => p), this.problem,
        h('div', { class: 'actions' }, this.sendButton, this.openButton, this.halfButton, this.cancelButton,
          h('span', { class: 'options' },
            h('label', { for: this.deadline.id, title: 'The time that the whole call may take: 500ms, 10s, 1m' }, 'Deadline'), this.deadline,
            h('span', { class: 'check', title: 'When the call breaks because its server goes away, make it again on any other, with all messages from the first one on' },
              this.resume, h('label', { for: this.resume.id }, 'Again after a break'))))))
  }

  happens() {
    this.pauseButton = h('button', { type: 'button', class: 'small', 'aria-pressed': 'false', title: 'Take no more replies, which holds back the server', onclick: () => this.pause() }, 'Pause')
    return h('section', { class: 'panel', 'aria-label': 'What happens' },
      h('div', { class: 'bar' }, h('h3', {}, 'Timeline'), this.timeline.summary, h('span', { class: 'space' }), this.method.mode === 'unary' ? null : this.pauseButton,
        h('button', { type: 'button', class: 'small', onclick: () => this.timeline.clear() }, 'Clear')),
      this.timeline.scroller)
  }

  select(id) {
    for (const [name, [button, panel]] of Object.entries(this.tabs)) {
      button.setAttribute('aria-selected', String(name === id))
      button.tabIndex = name === id ? 0 : -1
      panel.hidden = name !== id
    }
  }

  arrows(e) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key]
    if (!step) return
    const names = Object.keys(this.tabs)
    const at = names.findIndex((n) => this.tabs[n][0].getAttribute('aria-selected') === 'true')
    const next = names[(at + step + names.length) % names.length]
    this.select(next)
    this.tabs[next][0].focus()
  }

  fromForm() {
    this.text.value = JSON.stringify(this.form.value, null, 2)
    this.keep()
  }

  fromText() {
    if (this.keep()) this.form.show(parse(this.text.value || '{}'))
  }

  // keep remembers the message for this tab, and tells what is wrong with it.
  keep() {
    let problem = ''
    const text = this.text.value || '{}'
    try {
      const value = JSON.parse(text)
      if (!value || typeof value !== 'object' || Array.isArray(value)) problem = 'A message is an object: {…}'
    } catch (error) { problem = error.message }
    if (!problem && text.length > catalogue.max_frame_bytes - 64) problem = `This is more than the console takes at once, ${bytes(catalogue.max_frame_bytes)} as JSON.`
    this.text.setAttribute('aria-invalid', String(!!problem))
    this.problem.hidden = !problem
    this.problem.textContent = problem
    if (!problem && text.length < 64 << 10) try { sessionStorage.setItem(`message ${this.name}`, text) } catch { /* It is full. */ }
    return !problem
  }

  pairs() {
    return [...this.metadata.children].map((item) => [...item.querySelectorAll('input')].map((i) => i.value.trim())).filter(([name]) => name)
  }

  start() {
    this.timeline.begin(this.resume.checked)
    this.pauseButton.setAttribute('aria-pressed', 'false')
    this.pauseButton.textContent = 'Pause'
    this.call = new Call(this.name, { metadata: this.pairs(), deadline: this.deadline.value.trim(), resume: this.resume.checked }, (event) => {
      this.timeline.add(event)
      if (event.type === 'status' || event.type === 'lost') {
        this.update()
        list()
        look()
      }
    })
    this.update()
    list()
  }

  send() {
    if (!this.keep()) return
    if (!this.call?.open) this.start()
    const text = this.text.value.trim() || '{}'
    this.timeline.sending(text.length < 64 << 10 ? JSON.stringify(parse(text)) : `${text.slice(0, 200)}…`)
    this.call.send(text)
    this.update()
  }

  halfClose() {
    this.call.halfClose()
    this.timeline.add({ type: 'half_close' })
    this.update()
  }

  pause() {
    if (!this.call?.open) return
    const paused = !this.call.paused
    this.call.pause(paused)
    this.pauseButton.setAttribute('aria-pressed', String(paused))
    this.pauseButton.textContent = paused ? 'Go on' : 'Pause'
    this.timeline.add({ type: paused ? 'paused' : 'continued' })
  }

  // update has the buttons that make sense now.
  update() {
    const open = !!this.call?.open
    this.sendButton.disabled = open && (!this.streams || this.call.halfClosed)
    if (this.openButton) this.openButton.hidden = open
    if (this.halfButton) this.halfButton.disabled = !open || this.call.halfClosed
    this.cancelButton.disabled = !open
    this.pauseButton.disabled = !open
    const forbidden = catalogue.rights === 'read' && !this.method.safe
    if (forbidden) {
      this.sendButton.disabled = true
      this.sendButton.title = 'Your token may call only methods without side effects'
      if (this.openButton) this.openButton.disabled = true
    }
  }

  copy(name) {
    if (!this.keep()) return
    const snippet = snippets({ service: this.service, method: this.method, message: this.text.value || '{}', metadata: this.pairs(), deadline: this.deadline.value.trim() })[name]
    $('snippet-title').textContent = `As ${name}`
    $('snippet-note').textContent = snippet.note
    $('snippet-text').textContent = snippet.text
    $('snippet-copy').textContent = 'Copy'
    $('snippet-copy').onclick = async () => {
      try {
        await navigator.clipboard.writeText(snippet.text)
        $('snippet-copy').textContent = 'Copied'
      } catch { getSelection().selectAllChildren($('snippet-text')) } // Only pages of localhost and https may write there.
    }
    $('snippet').showModal()
  }

  // counted shows what the client has counted, as the difference to a minute ago.
  counted(now, pods) {
    this.samples.push({ at: Date.now(), ...now })
    while (this.samples.length > 2 && Date.now() - this.samples[0].at > 60000) this.samples.shift()
    const first = this.samples[0]
    const passed = (Date.now() - first.at) / 1000
    const began = now.started - first.started
    const failed = now.failed - first.failed
    this.live.textContent = number(now.live)
    this.rate.textContent = passed > 1 ? `${number(began / passed)}/s` : `${number(now.started)}`
    this.failed.textContent = number(passed > 1 ? failed : now.failed)
    this.failed.className = failed > 0 ? 'alarm' : ''
    const p99 = quantile(0.99, now.buckets, first.buckets) ?? now.p99_seconds
    this.p99.textContent = p99 ? duration(p99 * 1000) : '–'
    this.out.textContent = bytes(now.bytes_sent)
    this.in.textContent = bytes(now.bytes_received)
    const rates = this.samples.slice(1).map((s, i) => (s.started - this.samples[i].started) / Math.max(0.1, (s.at - this.samples[i].at) / 1000))
    const top = Math.max(...rates, 0.001)
    this.spark.parentNode.toggleAttribute('hidden', rates.length < 3)
    this.spark.setAttribute('points', rates.map((r, i) => `${120 - (rates.length - 1 - i) * 4},${26 - (r / top) * 24}`).join(' '))
    this.pods.replaceChildren(...(pods.length ? pods.map((pod) => {
      const bar = h('span', { class: `fill pod-${peerIndex(pod.address)}` })
      bar.style.width = `${Math.max(1, pod.share * 100)}%`
      return h('li', { title: `${pod.calls} attempts in the last minute, ${pod.open} running` }, h('code', {}, pod.address),
        h('span', { class: 'share' }, bar), h('span', { class: 'percent' }, `${Math.round(pod.share * 100)} %`))
    }) : [h('li', { class: 'muted small' }, 'no server in the last minute')]))
  }
}

// quantile is where a part of the calls between two counts lies.
function quantile(part, now, before) {
  const counts = now?.map((b, i) => b.count - (before?.[i]?.count ?? 0)) || []
  const total = counts.at(-1)
  if (!total || now === before) return undefined
  let [from, below] = [0, 0]
  for (const [i, count] of counts.entries()) {
    if (count > below && count >= part * total) return from + (now[i].below_seconds - from) * (part * total - below) / (count - below)
    from = now[i].below_seconds
    below = count
  }
  return from
}

function show() {
  const wanted = decodeURIComponent(location.hash.replace(/^#\/?/, ''))
  const found = all().find(({ name }) => name === wanted) || all()[0]
  if (!found) {
    $('main').replaceChildren(h('p', { class: 'empty' }, 'This client has no services. Add one, and it appears here.'))
    return
  }
  if (!views.has(found.name)) views.set(found.name, new View(found))
  current = views.get(found.name)
  document.title = `${current.method.name} · ${catalogue.product} console`
  $('main').replaceChildren(current.element)
  list()
  menu(false)
  look()
}

function menu(open) {
  document.body.classList.toggle('menu-open', open)
  $('menu').setAttribute('aria-expanded', String(open))
}

// away says whether the client, which serves this page, is there.
function away(isAway) {
  $('banner').hidden = !isAway
  $('banner').textContent = 'The client that serves this page is away. The page goes on by itself when it is back.'
  $('state').className = isAway ? 'state gone' : 'state'
  if (isAway) $('state-text').textContent = 'client away'
}

let looking = false
let wasAway = false

// look asks for the numbers of the method that is shown, and whether client and servers are there.
async function look() {
  if (!catalogue || looking || document.hidden) return
  looking = true
  const view = current
  try {
    const method = view ? `?method=${encodeURIComponent(view.name)}` : ''
    const [[pods], numbers] = await Promise.all([ask(`api/pods${method}`), view ? ask(`api/metrics${method}`) : null])
    if (wasAway) {
      wasAway = false
      for (const v of views.values()) v.samples = [] // Another process counts from zero.
      await load()
      list()
    }
    away(false)
    const ready = pods.servers.filter((s) => s.state === 'READY' || s.state === 'IDLE')
    const missing = pods.servers.filter((s) => !ready.includes(s))
    $('state').className = `state ${missing.length ? 'waiting' : 'ready'}`
    $('state-text').textContent = missing.length ? 'waiting for servers' : 'servers ready'
    $('state').title = pods.servers.map((s) => `${s.target}: ${s.state}`).join('\n')
    if (missing.length) {
      $('banner').hidden = false
      $('banner').textContent = `No server answers at ${missing.map((s) => s.target).join(', ')}. Calls wait until one does.`
    }
    view?.counted(numbers[0], pods.pods)
  } catch (error) {
    if (error instanceof Unauthorized) {
      await askForToken()
      await load()
    } else {
      wasAway = true
      away(true)
    }
  } finally { looking = false }
}

document.addEventListener('keydown', (e) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName)
  if (e.key === '/' && !typing && !document.querySelector('dialog[open]')) {
    e.preventDefault()
    if (getComputedStyle($('menu')).display !== 'none') menu(true)
    $('search').focus()
  }
  if (e.key === 'Enter' && (e.ctrlKey || e.metaKey) && current && !current.sendButton.disabled) {
    e.preventDefault()
    current.send()
  }
})
$('side').addEventListener('keydown', (e) => {
  if (e.key === 'ArrowDown' || e.key === 'ArrowUp') {
    e.preventDefault()
    move(e.key === 'ArrowDown' ? 1 : -1)
  }
  if (e.key === 'Escape') { $('search').value = ''; list(); menu(false) }
  if (e.key === 'Enter' && document.activeElement === $('search')) $('methods').querySelector('a')?.click()
})
$('search').addEventListener('input', list)
$('menu').addEventListener('click', () => menu(!document.body.classList.contains('menu-open')))
window.addEventListener('hashchange', show)
document.addEventListener('visibilitychange', look)

await load()
away(false)
$('product').textContent = catalogue.product
$('version').textContent = catalogue.version
$('state').after(session.rollout(catalogue))
show()
setInterval(look, 2000)
