// What the other files build the page with. Nothing here or there sets HTML from text.

// h makes an element. Properties that begin with "on" are listeners, "class" and those with a dash are attributes.
export function h(tag, properties, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === undefined || value === null || value === false) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (name === 'class' || name === 'for' || name === 'role' || name === 'list' || name.includes('-')) element.setAttribute(name, value)
    else element[name] = value
  }
  element.append(...children.flat().filter((c) => c !== undefined && c !== null && c !== false))
  return element
}

let last = 0

// unique makes an id.
export const unique = (name) => `${name}-${++last}`

// bytes writes a size.
export function bytes(n) {
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (n < 1000 || unit === 'GiB') return `${n < 10 && unit !== 'B' ? n.toFixed(1) : Math.round(n)} ${unit}`
    n /= 1024
  }
}

// duration writes milliseconds.
export function duration(ms) {
  if (ms < 1) return `${Math.round(ms * 1000)} µs`
  if (ms < 10) return `${ms.toFixed(1)} ms`
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 100000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`
  return `${Math.round(ms / 60000)} min`
}

// number writes a count or a rate.
export function number(n) {
  if (n >= 1e6) return `${(n / 1e6).toFixed(1)}M`
  if (n >= 1e4) return `${(n / 1e3).toFixed(1)}k`
  return n > 0 && n < 10 && !Number.isInteger(n) ? n.toFixed(1) : `${Math.round(n)}`
}

export const toBase64 = (array) => {
  let text = ''
  for (let i = 0; i < array.length; i += 0x8000) text += String.fromCharCode(...array.subarray(i, i + 0x8000))
  return btoa(text)
}

export const fromBase64 = (text) =>
  Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0))

export const toHex = (array) => Array.from(array, (b) => b.toString(16).padStart(2, '0')).join('')

// parse reads JSON and keeps integers that JavaScript cannot hold as texts, which protobuf's JSON takes too.
export const parse = (text) => JSON.parse(text, (_, value, context) =>
  typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source ? context.source : value)
