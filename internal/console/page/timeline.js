import { bytes, duration, fromBase64, h, toHex } from './dom.js'

// What happens to calls, in order: what was sent and received, by which server, and where a stream broke and went on.

const most = 500

// mostHeld bounds the texts of messages that all timelines of the page hold together, in characters. Of the oldest there is
// only what their row shows.
const mostHeld = 16 << 20

const held = new Set()
let heldLength = 0

// mostSent bounds the requests of a call that are kept because they may be sent again. The bridge keeps 1 MiB of them, which
// is more as JSON.
const mostSent = 4 << 20

// Text is that of a message, as long as there is room for it.
class Text {
  constructor(text) {
    this.text = text
    held.add(this)
    heldLength += text.length
    for (const oldest of held) {
      if (heldLength <= mostHeld || oldest === this) break
      oldest.drop()
    }
  }

  drop() {
    if (!held.delete(this)) return
    heldLength -= this.text.length
    this.text = undefined
    this.onDrop?.()
  }
}

export class Timeline {
  constructor(catalogue, method, peers) {
    Object.assign(this, { catalogue, method, peers, dropped: 0, pending: [], counts: { sent: 0, received: 0, bytes: 0 } })
    this.list = h('ol', { class: 'events' })
    this.note = h('p', { class: 'muted small', hidden: true })
    this.empty = h('p', { class: 'empty' })
    this.scroller = h('div', { class: 'scroller', tabIndex: 0, role: 'region', 'aria-label': 'Timeline' }, this.empty, this.note, this.list)
    this.summary = h('p', { class: 'muted small summary', role: 'status' })
    this.tell()
  }

  clear() {
    for (const row of this.list.children) row.held?.drop()
    this.list.replaceChildren()
    this.dropped = 0
    this.tell()
  }

  tell() {
    const { sent, received, bytes: size } = this.counts
    this.empty.hidden = this.list.childElementCount + this.pending.length > 0
    this.empty.textContent = emptyTexts[this.method.mode]
    this.summary.textContent = sent + received ? `${sent} sent, ${received} received, ${bytes(size)}` : ''
    this.note.hidden = !this.dropped
    this.note.textContent = `${this.dropped} earlier events are not kept.`
  }

  // begin says that what comes now is of another call, and whether the bridge makes that again after a break.
  begin(resume) {
    this.last = 0
    this.counts = { sent: 0, received: 0, bytes: 0 }
    this.sentTexts = []
    this.sentLength = 0
    this.resume = resume
  }

  // sending takes the text of a request, which the events of the bridge do not have.
  sending(text) {
    this.sentTexts.push(text)
    this.sentLength += text.length
    if (this.sentLength > mostSent) this.resume = false // The bridge does not either.
  }

  // sentText is the text of a request that is sent now. It is kept only where the request may be sent again.
  sentText(number) {
    const text = this.sentTexts[number]
    if (!this.resume) this.sentTexts[number] = undefined
    return text
  }

  // add takes an event of the bridge. Many at once are drawn together.
  add(event) {
    if (event.type === 'error') this.sentTexts.splice(event.number, 1) // Requests that are sent are numbered without it.
    if (event.type === 'sent' && !event.again) { this.counts.sent++; this.counts.bytes += event.bytes }
    if (event.type === 'message') { this.counts.received++; this.counts.bytes += event.bytes }
    const row = this.row(event)
    if (!row) return
    this.pending.push(row)
    if (this.pending.length > most) this.forget(this.pending.shift())
    this.scheduled ??= requestAnimationFrame(() => this.draw())
  }

  draw() {
    this.scheduled = undefined
    const atEnd = this.scroller.scrollTop + this.scroller.clientHeight >= this.scroller.scrollHeight - 40
    this.list.append(...this.pending)
    this.pending = []
    while (this.list.childElementCount > most) this.forget(this.list.firstElementChild)
    this.tell()
    if (atEnd) this.scroller.scrollTop = this.scroller.scrollHeight
  }

  forget(row) {
    row.held?.drop()
    row.remove()
    this.dropped++
  }

  since(event) {
    const passed = Math.max(0, (event.time ?? this.last) - this.last)
    this.last = event.time ?? this.last
    return h('span', { class: 'since', title: event.time === undefined ? '' : `${event.time} ms after the start` }, `+${duration(passed)}`)
  }

  pod(event) {
    return event.peer ? h('span', { class: `pod pod-${this.peers(event.peer)}`, title: `answered by ${event.peer}` }, event.peer) : h('span', { class: 'pod' })
  }

  row(event) {
    const quiet = (text, ...more) => h('li', { class: 'event quiet' }, this.since(event), h('span', { class: 'way', 'aria-hidden': 'true' }, '·'),
      h('span', { class: 'what' }, text, ...more), this.pod(event))
    switch (event.type) {
      case 'started':
        return quiet('call started', event.trace_id && h('span', { class: 'trace' }, ' trace ', event.trace_url
          ? h('a', { href: event.trace_url, target: '_blank', rel: 'noreferrer' }, event.trace_id.slice(0, 8)) : h('code', {}, event.trace_id.slice(0, 8))))
      case 'attempt':
        return quiet(event.attempt > 1 ? `attempt ${event.attempt}, on a server that is ready` : 'on its way to a server')
      case 'header':
        return this.detailed(event, 'quiet', '·', 'header', `${event.metadata?.length || 0} ${event.metadata?.length === 1 ? 'field' : 'fields'}`, pairs(event.metadata))
      case 'queued':
        return null
      case 'sent':
        return this.message(event, 'out', '→', 'sent', event.again ? 'again' : '', this.sentText(event.number), this.method.input)
      case 'message':
        return this.message(event, 'in', '←', 'received', '', event.message === undefined ? event.error : JSON.stringify(event.message),
          event.message === undefined ? undefined : this.method.output)
      case 'error':
        return h('li', { class: 'event bad' }, this.since(event), h('span', { class: 'way', 'aria-hidden': 'true' }, '!'),
          h('span', { class: 'what' }, 'not sent: ', event.error), this.pod(event))
      case 'break':
        return h('li', { class: 'event break' }, this.since(event), h('span', { class: 'way', 'aria-hidden': 'true' }, '⚡'),
          h('span', { class: 'what' }, h('strong', {}, 'the stream broke'), ` ${event.status.name}: ${event.status.message || ''}`), this.pod(event))
      case 'resume':
        return h('li', { class: 'event resume' }, this.since(event), h('span', { class: 'way', 'aria-hidden': 'true' }, '↻'),
          h('span', { class: 'what' }, h('strong', {}, 'called again'), ' from its first message'), this.pod(event))
      case 'half_close':
        return quiet('half-closed: nothing more will be sent')
      case 'paused':
        return quiet('paused: the server is held back')
      case 'continued':
        return quiet('going on')
      case 'lost':
        return h('li', { class: 'event break' }, this.since(event), h('span', { class: 'way', 'aria-hidden': 'true' }, '⚡'),
          h('span', { class: 'what' }, h('strong', {}, event.tooLarge ? 'the message is too large for the console' : 'the connection to the console is lost')),
          this.pod(event))
      case 'status':
        return this.status(event)
    }
    return null
  }

  // message is the row of one, whose type is undefined if the text is not its JSON.
  message(event, kind, way, label, note, text, type) {
    if (text === undefined) return this.detailed(event, kind, way, label, note, null)
    const one = new Text(text)
    const row = this.detailed(event, kind, way, label, note, () => {
      if (one.text === undefined) return h('p', { class: 'muted small' }, 'The message is not kept any more.')
      return type ? this.pretty(one.text, type) : h('pre', {}, one.text)
    }, text.length > 240 ? text.slice(0, 240) + '…' : text)
    row.held = one
    // What is open holds the message too.
    one.onDrop = () => { row.firstElementChild.open = false }
    return row
  }

  detailed(event, kind, way, label, note, content, short) {
    const summary = h('summary', {}, this.since(event), h('span', { class: 'way', role: 'img', 'aria-label': label }, way),
      h('span', { class: 'what' }, short ? h('code', {}, short) : h('span', {}, label), note && h('em', {}, ` ${note}`)),
      h('span', { class: 'size' }, event.bytes === undefined ? '' : bytes(event.bytes)), this.pod(event))
    const details = h('details', {
      ontoggle: () => {
        while (details.childElementCount > 1) details.lastElementChild.remove()
        if (details.open) details.append(typeof content === 'function' ? content() : h('pre', {}, content || 'nothing'))
      },
    }, summary)
    return h('li', { class: `event ${kind}` }, details)
  }

  // pretty shows a message in lines, with bytes as people read them.
  pretty(text, type) {
    let value
    try { value = JSON.parse(text) } catch { return h('pre', {}, text) }
    const parts = [h('pre', { tabIndex: 0, 'aria-label': 'Message' }, JSON.stringify(value, null, 2))]
    const read = []
    this.bytesIn(value, type, '', read)
    if (read.length) parts.push(h('dl', { class: 'decoded' }, read.slice(0, 20).flatMap(([path, array]) => [h('dt', {}, path), h('dd', {}, shown(array))])))
    return h('div', {}, parts)
  }

  bytesIn(value, type, path, into, depth = 0) {
    const message = this.catalogue.messages[type]
    if (!message || !value || typeof value !== 'object' || depth > 8) return
    for (const field of message.fields) {
      const v = value[field.json]
      if (v === undefined) continue
      const inner = field.value || field
      const all = field.key ? Object.entries(v) : field.repeated ? v.map((x, i) => [i, x]) : [['', v]]
      for (const [at, one] of all.slice(0, 20)) {
        const where = path + field.name + (at === '' ? '' : `[${at}]`)
        if (inner.kind === 'bytes' && typeof one === 'string') into.push([where, fromBase64(one)])
        else if (inner.kind === 'message') this.bytesIn(one, inner.type, `${where}.`, into, depth + 1)
      }
    }
  }

  status(event) {
    const s = event.status
    const good = s.code === 0
    return h('li', { class: `event status ${good ? 'good' : 'bad'}` },
      h('div', { class: 'line' }, this.since(event), h('span', { class: 'way', 'aria-hidden': 'true' }, good ? '✓' : '✕'),
        h('span', { class: 'what' }, h('strong', {}, s.name), s.message ? ` ${s.message}` : '', good ? ` after ${duration(event.time || 0)}` : ''), this.pod(event)),
      s.details?.length ? h('div', { class: 'details' }, s.details.map(detail)) : null,
      event.trailers?.length ? h('details', { class: 'trailers' }, h('summary', {}, `${event.trailers.length} ${event.trailers.length === 1 ? 'trailer' : 'trailers'}`), h('pre', {}, pairs(event.trailers))) : null)
  }
}

const emptyTexts = {
  unary: 'Nothing has been called yet. Fill in the request and send it.',
  server_stream: 'Nothing has been called yet. Send the request, and the replies appear here as they come.',
  client_stream: 'Nothing has been called yet. Send as many messages as you like, then half-close to get the reply.',
  bidi_stream: 'Nothing has been called yet. Send messages whenever you like; replies appear here as they come.',
}

const pairs = (metadata) => (metadata || []).map(([name, value]) => `${name}: ${value}`).join('\n')

function detail(d) {
  const name = (d['@type'] || '').split('.').at(-1)
  const rest = Object.entries(d).filter(([k]) => k !== '@type')
  return h('p', { class: 'detail' }, h('span', { class: 'kind' }, name), rest.map(([k, v]) => h('span', {}, ` ${k} `, h('code', {}, typeof v === 'string' ? v : JSON.stringify(v)))))
}

// shown is what bytes are: text where they are one, else hexadecimal.
function shown(array) {
  const size = ` (${bytes(array.length)})`
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(array.subarray(0, 400))
    if (!/[\0-\x08\x0e-\x1f]/.test(text)) return h('span', {}, h('code', {}, text), size)
  } catch { /* It is no text. */ }
  return h('span', {}, h('code', {}, toHex(array.subarray(0, 64)) + (array.length > 64 ? '…' : '')), size)
}
