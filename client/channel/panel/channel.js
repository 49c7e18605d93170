// Several participants in one channel: what they say with its sequence, the server of each, and what happens when it breaks.
import { h, unique } from '../../dom.js'
import { frame, protocols } from '../../session.js'

const main = await frame('Conversations')
const talks = h('div', { class: 'talks' })
const channel = h('input', { id: unique('channel'), value: 'lobby', required: true, maxLength: 128, spellcheck: false })
const name = h('input', { id: unique('name'), value: 'ann', required: true, maxLength: 128, spellcheck: false })
const all = h('input', { type: 'checkbox', id: unique('all'), checked: true })
const names = ['ann', 'bob', 'cem', 'dora', 'eva']

const join = h('section', { class: 'panel', 'aria-label': 'Join' }, h('form', {
  class: 'join', onsubmit: (e) => {
    e.preventDefault()
    talks.append(new Talk(channel.value, name.value, all.checked).element)
    name.value = names[(names.indexOf(name.value) + 1) % names.length]
  },
}, h('div', {}, h('label', { for: channel.id }, 'Channel'), channel), h('div', {}, h('label', { for: name.id }, 'Participant'), name),
  h('span', { class: 'check' }, all, h('label', { for: all.id }, 'with all that is kept')), h('button', { class: 'primary', type: 'submit' }, 'Join')))
main.append(...(main.rights === 'read' ? [h('p', { class: 'empty' }, 'Your token may only read, and a participant may also speak.')] : [join, talks]))

// Servers have a colour each, in the order in which they appeared.
const peers = []
const colour = (peer) => {
  if (!peers.includes(peer)) peers.push(peer)
  return `pod-${peers.indexOf(peer) % 8}`
}

// mostShown bounds what a page that is open for days holds.
const mostShown = 2000

class Talk {
  constructor(to, participant, kept) {
    Object.assign(this, { channel: to, participant, kept, position: null, open: true, attempts: 0, waiting: new Map(), tries: 0 })
    this.log = h('div', { class: 'said-here', role: 'log', tabIndex: 0, 'aria-label': `${to} as ${participant}` })
    this.where = h('code', { class: 'where' }, 'joining')
    this.text = h('input', { 'aria-label': `Say as ${participant}`, placeholder: 'Say something', autocomplete: 'off', maxLength: 16000 })
    this.waits = h('p', { class: 'waits', role: 'status' })
    this.element = h('section', { class: 'panel talk', 'aria-label': `${participant} in ${to}` },
      h('div', { class: 'bar' }, h('h2', {}, participant), h('span', { class: 'muted' }, `in ${to}`), h('span', { class: 'space' }), this.where,
        h('button', { type: 'button', class: 'small', 'aria-label': `Leave as ${participant}`, onclick: () => this.leave() }, 'Leave')),
      this.log, this.waits,
      h('form', { class: 'say', onsubmit: (e) => { e.preventDefault(); this.say() } }, this.text, h('button', { type: 'submit' }, 'Say')))
    this.connect()
  }

  connect() {
    const address = new URL('api/join', location.href)
    address.protocol = address.protocol.replace('http', 'ws')
    address.searchParams.set('channel', this.channel)
    address.searchParams.set('participant', this.participant)
    if (this.position) address.searchParams.set('position', JSON.stringify(this.position))
    else if (this.kept) address.searchParams.set('after', '0')
    this.socket = new WebSocket(address, protocols('channel.v1'))
    this.socket.onmessage = ({ data }) => this.happened(JSON.parse(data))
    this.socket.onclose = () => this.closed()
  }

  happened(e) {
    if (e.position) this.position = e.position
    switch (e.type) {
      case 'joined':
        this.tries = 0
        this.note('joined')
        for (const [id, text] of this.waiting) this.socket.send(JSON.stringify({ id, text }))
        break
      case 'attempt':
        this.attempts++
        this.where.textContent = e.peer
        this.where.className = `where ${colour(e.peer)}`
        if (this.attempts > 1) this.note(`reconnected, now at ${e.peer}`, colour(e.peer))
        break
      case 'message': {
        const gap = this.last !== undefined && e.previous_sequence !== this.last
        this.last = e.sequence
        if (gap) this.note(`something is missing before ${e.sequence}`, 'bad')
        this.add(h('div', { class: `one ${e.participant === this.participant ? 'own' : ''}`, title: `${new Date(e.create_time).toLocaleString()}, after ${e.previous_sequence ?? 0}` },
          h('span', { class: 'sequence' }, `#${e.sequence}`), h('span', {}, h('span', { class: 'who' }, e.participant), e.text || (e.bytes ? `(${e.bytes} bytes)` : ''))))
        break
      }
      case 'receipt':
        this.waiting.delete(e.id)
        break
      case 'refused':
        this.waiting.delete(e.id)
        this.note(e.reason, 'bad')
        break
      case 'end':
        this.ended = e
        break
    }
    this.wait()
  }

  // closed joins again where it was, unless the server has said why not.
  closed() {
    if (!this.open) return
    const end = this.ended
    this.ended = null
    if (end && !['Unavailable', 'Canceled', 'ResourceExhausted'].includes(end.code)) {
      this.open = false
      this.where.textContent = 'ended'
      this.note(`ended: ${end.reason}`, 'bad')
      return
    }
    if (this.tries++ === 0) this.note('the connection to the client is lost, trying again', 'bad')
    this.where.textContent = 'away'
    setTimeout(() => this.open && this.connect(), Math.min(5000, 250 * 2 ** this.tries))
  }

  say() {
    const text = this.text.value
    if (!text || !this.open) return
    this.text.value = ''
    // What has no receipt when the client goes away may have been said: it is sent again, and may come twice then.
    const id = crypto.randomUUID?.() ?? String(Math.random())
    this.waiting.set(id, text)
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ id, text }))
    this.wait()
  }

  wait() { this.waits.textContent = this.waiting.size ? `${this.waiting.size} without a receipt yet` : '' }

  note(text, kind = '') { this.add(h('p', { class: `note ${kind}` }, text)) }

  add(element) {
    const below = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 60
    this.log.append(element)
    if (this.log.children.length > mostShown) this.log.firstChild.remove()
    if (below) this.log.scrollTop = this.log.scrollHeight
  }

  leave() {
    this.open = false
    this.socket.close()
    this.element.remove()
  }
}
