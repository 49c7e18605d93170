// Files of this service: send, fetch and delete them.
import { bytes, h, unique } from '../../dom.js'
import { ask, askForToken, currentToken, frame, Unauthorized } from '../../session.js'
import { forget, interrupted, keyOf, Upload } from './upload.js'

const main = await frame('Files')
const mayWrite = main.rights !== 'read'
const api = 'panels/object/api/'

// Uploads.

const input = h('input', { type: 'file', multiple: true, id: unique('file'), class: 'hidden', onchange: () => { add(input.files); input.value = '' } })
const drop = h('section', {
  class: 'drop', 'aria-label': 'Upload', ondragover: (e) => { e.preventDefault(); drop.classList.add('over') }, ondragleave: () => drop.classList.remove('over'),
  ondrop: (e) => { e.preventDefault(); drop.classList.remove('over'); add(e.dataTransfer.files) },
}, h('p', {}, 'Drag files here, or ', input, h('label', { for: input.id }, 'choose some'), '.'),
  h('p', { class: 'small' }, 'An upload can be paused, and goes on after a restart of the server or a reload of this page.'))
const uploads = h('ul', { class: 'entries' })
const uploadPanel = h('section', { class: 'panel', 'aria-label': 'Uploads', hidden: true }, h('div', { class: 'bar' }, h('h2', {}, 'Uploads')), uploads)

const underWay = ({ state }) => ['running', 'waiting', 'paused'].includes(state)

// uploadRows are those of the list, by the keys of their uploads.
const uploadRows = new Map()

function removeUpload(key) {
  uploadRows.get(key)?.element.remove()
  uploadRows.delete(key)
  uploadPanel.hidden = !uploadRows.size
}

// add begins to send files. One that is on its way goes on: a second upload of it would take its place at the server.
function add(files) {
  for (const file of files) {
    const there = uploadRows.get(keyOf(file))
    if (there?.upload && underWay(there.upload)) {
      there.upload.resume()
      continue
    }
    removeUpload(keyOf(file))
    const row = new Row(file)
    uploadRows.set(row.upload.key, row)
    uploads.prepend(row.element)
  }
  uploadPanel.hidden = !uploadRows.size
}

class Row {
  constructor(file) {
    this.bar = h('progress', { max: file.size || 1, value: 0, 'aria-label': `Upload of ${file.name}` })
    this.said = h('span', { class: 'said', role: 'status' })
    this.pause = h('button', { type: 'button', class: 'small', onclick: () => this.upload.state === 'paused' ? this.upload.resume() : this.upload.pause() }, 'Pause')
    this.cancel = h('button', { type: 'button', class: 'small danger', onclick: () => this.close() }, 'Cancel')
    this.element = h('li', { class: 'upload' }, h('span', { class: 'name' }, file.name), this.said, this.pause, this.cancel, h('div', { class: 'track' }, this.bar))
    this.upload = new Upload(file, (upload) => this.show(upload))
    this.show(this.upload)
  }

  show(upload) {
    const { state, message, file, resumes } = upload
    const done = state === 'done' ? file.size : Math.max(upload.at, upload.sent || 0)
    this.bar.value = done
    const parts = [state === 'done' ? bytes(file.size) : `${bytes(done)} of ${bytes(file.size)}`, state === 'running' ? '' : state, message, resumes > 0 && `resumed ${resumes} times`]
    const text = parts.filter(Boolean).join(' · ')
    if (this.said.textContent !== text) this.said.textContent = text
    this.element.className = `upload ${state}`
    const over = !underWay(upload)
    this.pause.hidden = over
    this.pause.textContent = state === 'paused' ? 'Go on' : 'Pause'
    this.cancel.textContent = over ? 'Close' : 'Cancel'
    this.cancel.classList.toggle('danger', !over)
    if (state === 'done' && !this.listed) {
      this.listed = true
      list()
    }
  }

  async close() {
    const { key } = this.upload
    if (this.upload.state !== 'done') await this.upload.cancel()
    if (uploadRows.get(key) === this) removeUpload(key) // The file may have been added again meanwhile.
  }
}

// What a page before this one left unfinished goes on with the same file.
for (const { key, name, size } of mayWrite ? interrupted() : []) {
  const element = h('li', { class: 'upload paused' }, h('span', { class: 'name' }, name),
    h('span', { class: 'said' }, `${bytes(size)} · interrupted: drag the same file here, and it goes on`),
    h('button', { type: 'button', class: 'small', onclick: () => { forget(key); removeUpload(key) } }, 'Forget'))
  uploadRows.set(key, { element })
  uploads.append(element)
  uploadPanel.hidden = false
}

// The list of what is there.

const search = h('input', { type: 'search', placeholder: 'Names that begin with', 'aria-label': 'Names that begin with', oninput: () => list() })
const files = h('ul', { class: 'entries files' })
const more = h('button', { type: 'button', class: 'small', hidden: true, onclick: () => list(more.token) }, 'More')
const filePanel = h('section', { class: 'panel', 'aria-label': 'Stored files' }, h('div', { class: 'bar' }, h('h2', {}, 'Stored'), h('span', { class: 'space' }), search), files,
  h('div', { class: 'row end' }, more))
main.append(...(mayWrite ? [drop] : [h('p', { class: 'muted' }, 'Your token may only read.')]), uploadPanel, filePanel)

let latest = 0
async function list(token = '') {
  const number = ++latest
  try {
    const [page] = await ask(`${api}objects/?prefix=${encodeURIComponent(search.value)}&page_token=${encodeURIComponent(token)}`)
    if (number !== latest) return // What was typed meanwhile has an answer of its own.
    const rows = page.objects.map(row)
    if (token) files.append(...rows)
    else files.replaceChildren(...(rows.length ? rows : [h('li', { class: 'muted' }, search.value ? 'No name begins so.' : 'Nothing is stored yet.')]))
    more.hidden = !page.next_page_token
    more.token = page.next_page_token
  } catch (error) {
    if (error instanceof Unauthorized) {
      await askForToken()
      return list(token)
    }
    if (!files.children.length) files.replaceChildren(h('li', { class: 'muted' }, 'The list is not there yet.'))
    setTimeout(() => { if (number === latest) list(token) }, 2000)
  }
}

const pathOf = (name) => `/objects/?name=${encodeURIComponent(name)}`
const addressOf = (name) => new URL(`api${pathOf(name)}`, location.href)

function row(file) {
  const problem = h('span', { class: 'said', role: 'alert' })
  const link = h('a', { class: 'name', href: addressOf(file.name).href, download: '', onclick: (e) => download(e, link, file.name, problem) }, file.name)
  const remove = h('button', { type: 'button', class: 'small danger', 'aria-label': `Delete ${file.name}`, onclick: () => confirmed(remove, file.name) }, 'Delete')
  const element = h('li', {}, link, problem, h('span', { class: 'size' }, bytes(Number(file.size_bytes))), h('time', { class: 'time', dateTime: file.create_time }, new Date(file.create_time).toLocaleString()), mayWrite && remove)
  return element
}

// download gets a ticket first where there is a token: a link cannot have a header.
async function download(e, link, name, problem) {
  if (!currentToken() || link.ticket) return
  e.preventDefault()
  problem.textContent = ''
  const address = addressOf(name)
  let ticket
  try {
    [{ ticket }] = await ask('api/ticket', { method: 'POST', body: JSON.stringify({ path: address.pathname + address.search }) })
  } catch (error) {
    if (!(error instanceof Unauthorized)) {
      problem.textContent = `The download did not begin: ${error.message.trim()}`
      return
    }
    const refused = currentToken()
    await askForToken()
    if (currentToken() !== refused) link.click()
    return
  }
  address.searchParams.set('ticket', ticket)
  link.href = address.href
  link.ticket = true
  link.click()
  link.ticket = false
}

// confirmed deletes with the second click.
async function confirmed(button, name) {
  if (button.textContent !== 'Delete for good') {
    button.textContent = 'Delete for good'
    setTimeout(() => { button.textContent = 'Delete' }, 4000)
    return
  }
  try { await ask(`panels/object/api${pathOf(name)}`, { method: 'DELETE' }) } catch { /* The list shows what is there. */ }
  list()
}

await list()
