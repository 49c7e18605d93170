// A call over the bridge; docs/console.md has the protocol.

import { protocols } from './session.js'

// window is how many replies the server may be ahead of the page.
const window_ = 64

export class Call {
  // onEvent gets each event of the bridge, and {type: "lost"} when the bridge is gone before the status came.
  constructor(method, { metadata, deadline, resume }, onEvent) {
    const address = new URL('api/call', location.href)
    address.protocol = address.protocol.replace('http', 'ws')
    address.hash = ''
    this.onEvent = onEvent
    this.open = true
    this.halfClosed = false
    this.paused = false
    this.owed = 0
    this.waiting = [JSON.stringify({ type: 'start', method, metadata, deadline, resume, messages: window_ })]
    this.socket = new WebSocket(address, protocols('call.v1'))
    this.socket.onopen = () => {
      for (const frame of this.waiting) this.socket.send(frame)
      this.waiting = []
    }
    this.socket.onmessage = ({ data }) => { for (const event of JSON.parse(data)) this.received(event) }
    this.socket.onclose = ({ code }) => {
      if (!this.open) return
      this.open = false
      onEvent({ type: 'lost', tooLarge: code === 1009 })
    }
  }

  received(event) {
    if (event.type === 'message') {
      this.owed++
      this.grant()
    }
    if (event.type === 'status') {
      this.open = false
      this.socket.close()
    }
    this.onEvent(event)
  }

  // grant lets the server send more, once half of what it may send has come.
  grant() {
    if (this.paused || this.owed < window_ / 2) return
    this.frame(JSON.stringify({ type: 'more', messages: this.owed }))
    this.owed = 0
  }

  // pause holds back the server, as soon as it has sent what it may.
  pause(paused) {
    this.paused = paused
    this.grant()
  }

  frame(text) {
    if (this.socket.readyState === WebSocket.CONNECTING) this.waiting.push(text)
    else if (this.socket.readyState === WebSocket.OPEN) this.socket.send(text)
  }

  // send takes the text of a message, because numbers in it may be larger than JavaScript's.
  send(text) { this.frame(`{"type":"message","message":${text}}`) }

  halfClose() {
    this.halfClosed = true
    this.frame('{"type":"half_close"}')
  }

  cancel() { this.frame('{"type":"cancel"}') }
}
