// What all pages of the console share: its token, its requests, and whether client and servers are there.
import { h } from './dom.js'

// root is where the console is; pages of panels are below it.
export const root = new URL('.', import.meta.url)

let token = sessionStorage.getItem('token') || ''

export const currentToken = () => token
export const authorization = () => token ? { Authorization: `Bearer ${token}` } : {}

export class Unauthorized extends Error {}

// patience is how long an answer may take, in ms. A request of a panel waits for a unary call of the client, which has
// RPC_UNARY_TIMEOUT (10 s) with all its attempts: given up before that, it may succeed, and the page would not know.
const patience = 20000

// ask gets JSON from the client, with a token if there is one.
export async function ask(path, options = {}) {
  const response = await fetch(new URL(path, root), { signal: AbortSignal.timeout(patience), ...options, headers: { ...authorization(), ...options.headers } })
  if (response.status === 401) throw new Unauthorized()
  if (!response.ok) throw new Error(await response.text())
  return [response.status === 204 ? null : await response.json(), response.headers]
}

// protocols are those of a WebSocket, which has no other header for the token.
export function protocols(...names) {
  if (!token) return names
  const encoded = btoa(String.fromCharCode(...new TextEncoder().encode(token)))
  return [...names, 'bearer.' + encoded.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')]
}

let asking

// askForToken has one dialog at a time, however many requests were refused. It keeps the token if the dialog is cancelled.
export function askForToken() {
  asking ??= new Promise((resolve) => {
    const input = h('input', { id: 'token', type: 'password', autocomplete: 'off', required: true })
    const accept = () => {
      token = input.value
      sessionStorage.setItem('token', token)
    }
    const dialog = h('dialog', {
      id: 'ask', 'aria-labelledby': 'ask-title', onclose: () => {
        asking = undefined
        dialog.remove()
        resolve()
      },
    }, h('form', { method: 'dialog', onsubmit: accept }, h('h2', { id: 'ask-title' }, 'Token'),
      h('p', {}, 'This console wants a bearer token. It is kept for this tab only.'), h('label', { for: 'token' }, 'Token'), input,
      token && h('p', { class: 'problem' }, 'This token is not accepted.'),
      h('div', { class: 'row end' }, h('button', { class: 'primary', type: 'submit' }, 'Continue'))))
    document.body.append(dialog)
    dialog.showModal()
  })
  return asking
}

// catalogue is what the client has, once it is there and lets us see it. away is told while it is not.
export async function catalogue(away) {
  for (;;) {
    try {
      const [loaded, headers] = await ask('api/catalogue')
      loaded.rights = headers.get('X-Rights')
      return loaded
    } catch (error) {
      if (error instanceof Unauthorized) await askForToken()
      else {
        away()
        await new Promise((resolve) => setTimeout(resolve, 1500))
      }
    }
  }
}

// rollout is a button that replaces the servers, and what went wrong with that; '' where the client may not.
export function rollout(all) {
  if (!all.rollout || all.rights === 'read') return ''
  const problem = h('span', { class: 'problem', role: 'alert', hidden: true })
  const say = (text) => {
    problem.hidden = !text
    problem.textContent = text
  }
  const button = h('button', { type: 'button', class: 'small', title: 'Replace all servers by new ones, and watch calls survive it', onclick: async () => {
    button.disabled = true
    say('')
    try {
      await ask('api/rollout', { method: 'POST', signal: AbortSignal.timeout(15000) })
      button.textContent = 'Rolling…'
    } catch (error) { say(error instanceof Unauthorized ? 'The token is not accepted any more.' : error.message) }
    setTimeout(() => {
      button.disabled = false
      button.textContent = 'Roll the servers'
    }, 5000) // A second click would begin anew.
  } }, 'Roll the servers')
  return h('span', { class: 'rollout' }, problem, button)
}

// frame makes the page of a panel: what is around it, and a banner that says which process cannot be reached. It returns the element for the rest.
export async function frame(title) {
  const stateText = h('span', {}, 'connecting')
  const state = h('p', { class: 'state', role: 'status' }, h('span', { class: 'dot' }), stateText)
  const banner = h('p', { class: 'banner', role: 'alert', hidden: true })
  const main = h('main', { id: 'main', tabIndex: -1, class: 'panel-page' })
  const product = h('span', {}, 'Console')
  document.body.replaceChildren(h('a', { class: 'skip', href: '#main' }, `Skip to ${title.toLowerCase()}`),
    h('header', { class: 'top' }, h('h1', {}, product, ' ', h('span', { class: 'what-it-is' }, title.toLowerCase())), h('a', { class: 'back', href: root.href }, 'All methods'), state),
    banner, main)
  const show = (name, text, long) => {
    state.className = `state ${name}`
    stateText.textContent = text
    banner.hidden = !long
    banner.textContent = long
  }
  const gone = () => show('gone', 'client away', 'The client that serves this page is away. The page goes on by itself when it is back.')
  const all = await catalogue(gone)
  state.after(rollout(all))
  product.textContent = all.product
  document.title = `${title} · ${all.product} console`
  let looking = false
  const look = async () => {
    if (looking || document.hidden) return
    looking = true
    try {
      const [pods] = await ask('api/pods')
      const missing = pods.servers.filter((s) => s.state !== 'READY' && s.state !== 'IDLE').map((s) => s.target)
      if (missing.length) show('waiting', 'waiting for servers', `No server answers at ${missing.join(', ')}. What is under way waits until one does.`)
      else show('ready', 'servers ready', '')
    } catch (error) {
      if (error instanceof Unauthorized) await askForToken()
      else gone()
    } finally { looking = false }
  }
  await look()
  setInterval(look, 2000)
  main.rights = all.rights
  return main
}
