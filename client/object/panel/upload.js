// An upload by tus 1.0 that continues after a break, after a pause and after the page was loaded again.
import { authorization, askForToken } from '../../session.js'
import { toBase64 } from '../../dom.js'
import { crc32c } from './crc32c.js'

const api = new URL('api/', location.href)
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

// A store may commit whole parts only, so much is sent at once.
const firstChunk = 16 << 20
const mostChunk = 256 << 20

// What is under way is remembered by what a file looks like, since a page that is loaded again has no file.
const remembered = () => JSON.parse(localStorage.getItem('uploads') || '{}')
function remember(change) {
  const all = remembered()
  change(all)
  try { localStorage.setItem('uploads', JSON.stringify(all)) } catch { /* It is full: a reload begins again. */ }
}
export const keyOf = (file) => `${file.name} ${file.size} ${file.lastModified}`

export const interrupted = () => Object.values(remembered())
export const forget = (key) => remember((all) => delete all[key])

export class Upload {
  // onChange is called when something is to be shown anew.
  constructor(file, onChange) {
    Object.assign(this, { file, onChange, state: 'running', at: 0, message: '', resumes: 0, runs: 0, chunk: firstChunk })
    this.key = keyOf(file)
    this.location = remembered()[this.key]?.location
    this.hashed = { end: 0, crc: 0 } // The checksum of the file up to an offset.
    this.run()
  }

  say(state, message = '') {
    Object.assign(this, { state, message })
    this.onChange(this)
  }

  // stop ends the present run, whatever it waits for.
  stop(state) {
    this.runs++
    this.say(state)
    this.request?.abort()
  }

  pause() {
    if (this.state === 'running' || this.state === 'waiting') this.stop('paused')
  }

  resume() {
    if (this.state !== 'paused') return
    this.say('running')
    this.run()
  }

  async cancel() {
    this.stop('cancelled')
    forget(this.key)
    if (this.location) await this.send('DELETE', this.location).catch(() => {}) // The server removes it later by itself.
  }

  // run tries until the upload is complete or refused for good, or stop ends it. The run before it may still wait for
  // something then: it must neither send nor change anything any more.
  async run() {
    const mine = ++this.runs
    const step = async (promise) => {
      await Promise.allSettled([promise])
      if (this.runs !== mine) throw new Error('stopped')
      return promise
    }
    for (let tries = 0; this.runs === mine;) {
      const before = this.at
      try {
        if (!this.location) await this.create(step)
        else await this.locate(step)
        this.say('running')
        while (this.at < this.file.size) await this.next(step)
        forget(this.key)
        return this.say('done', `verified, crc32c ${this.hashed.crc.toString(16).padStart(8, '0')}`)
      } catch (error) {
        if (this.runs !== mine) return
        if (error.status === 401) { await askForToken(); continue }
        if (error.status === 404 || error.status === 410) { // The server has removed it: begin again.
          Object.assign(this, { location: null, at: 0 })
          if (tries++ > 3) return this.say('failed', error.message)
          continue
        }
        if (error.status && error.status < 500 && ![408, 409, 429].includes(error.status) || error.status === 501 || error.status === 507) return this.say('failed', error.message)
        tries = this.at > before ? 0 : tries + 1
        this.resumes++
        this.say('waiting', 'interrupted, goes on by itself')
        await wait(Math.min(5000, 250 * 2 ** tries))
      }
    }
  }

  async create(step) {
    const encode = (text) => toBase64(new TextEncoder().encode(text))
    const answer = await step(this.send('POST', new URL('uploads/', api), {
      'Upload-Length': this.file.size, 'Upload-Metadata': `filename ${encode(this.file.name)}${this.file.type ? `,filetype ${encode(this.file.type)}` : ''}`,
    }))
    // Only its last part counts: a proxy may have another name for the host.
    this.location = new URL(`uploads/${answer.getResponseHeader('Location').split('/').at(-1)}`, api).href
    remember((all) => { all[this.key] = { key: this.key, name: this.file.name, size: this.file.size, location: this.location } })
    this.at = 0
  }

  async locate(step) {
    const answer = await step(this.send('HEAD', this.location))
    this.at = Number(answer.getResponseHeader('Upload-Offset'))
    // The file is read up to there, as far as it has not been read.
    while (this.hashed.end < this.at) {
      const { end } = this.hashed
      this.hash(end, await step(this.read(end, Math.min(this.at, end + (8 << 20)))))
    }
  }

  // hash takes data that begin at an offset into the checksum, as far as they are new.
  hash(from, data) {
    const { end, crc } = this.hashed
    if (from + data.length > end) this.hashed = { end: from + data.length, crc: crc32c(data.subarray(end - from), crc) }
  }

  async read(from, to) {
    try {
      return new Uint8Array(await this.file.slice(from, to).arrayBuffer())
    } catch { throw Object.assign(new Error('the file cannot be read, or has changed'), { status: 400 }) }
  }

  // next sends a chunk, with the checksum of all behind the last one: the object appears only if it is right.
  async next(step) {
    const from = this.at
    const data = await step(this.read(from, Math.min(this.file.size, from + this.chunk)))
    this.hash(from, data)
    const more = {}
    if (from + data.length === this.file.size) more['Repr-Digest'] = `crc32c=:${toBase64(new Uint8Array([24, 16, 8, 0].map((by) => this.hashed.crc >>> by)))}:`
    try {
      const answer = await step(this.send('PATCH', this.location, { 'Upload-Offset': from, 'Content-Type': 'application/offset+octet-stream', ...more }, data))
      this.at = Number(answer.getResponseHeader('Upload-Offset'))
    } catch (error) {
      if (error.status !== 422 || this.chunk >= mostChunk) throw error
      this.chunk *= 2 // It was less than a part of the store.
    }
    this.onChange(this)
  }

  send(method, address, headers = {}, body = null) {
    return new Promise((resolve, reject) => {
      const request = this.request = new XMLHttpRequest()
      const base = this.at
      request.open(method, address)
      for (const [name, value] of Object.entries({ 'Tus-Resumable': '1.0.0', ...authorization(), ...headers })) request.setRequestHeader(name, value)
      if (body) {
        request.upload.onprogress = ({ loaded }) => {
          this.sent = base + loaded
          this.onChange(this)
        }
      }
      const done = () => {
        this.sent = 0
        if (request.status >= 200 && request.status < 300) resolve(request)
        else reject(Object.assign(new Error(request.responseText.trim() || 'the connection broke'), { status: request.status }))
      }
      request.onload = request.onerror = request.onabort = done
      request.send(body)
    })
  }
}
