import { fromBase64, h, toBase64, toHex, unique } from './dom.js'

// A form for any message. Its value is what protobuf's JSON has of the message; what is not set is not in it.

const integers = new Set(['int32', 'sint32', 'sfixed32', 'uint32', 'fixed32'])
const longs = new Set(['int64', 'sint64', 'sfixed64', 'uint64', 'fixed64'])
const floats = new Set(['float', 'double'])
const wellKnown = 'google.protobuf.'
const wrappers = {
  StringValue: 'string', BytesValue: 'bytes', BoolValue: 'bool', Int32Value: 'int32', UInt32Value: 'uint32', Int64Value: 'int64',
  UInt64Value: 'uint64', FloatValue: 'float', DoubleValue: 'double',
}


export class Form {
  // catalogue has the messages and enums; changed is called after an edit.
  constructor(catalogue, type, changed) {
    Object.assign(this, { catalogue, type, changed, value: {} })
    this.element = h('div', { class: 'fields' })
  }

  // show puts a value into the form.
  show(value) {
    this.value = value && typeof value === 'object' && !Array.isArray(value) ? value : {}
    this.element.replaceChildren(...this.fields(this.type, this.value, 0))
    if (!this.element.children.length) this.element.append(h('p', { class: 'empty small' }, 'This message has no fields. Send it as it is.'))
  }

  fields(type, value, depth) {
    const message = this.catalogue.messages[type]
    const rows = []
    const done = new Set()
    for (const field of message.fields) {
      if (!field.oneof) rows.push(this.field(field, value, depth))
      else if (!done.has(field.oneof)) {
        done.add(field.oneof)
        rows.push(this.oneof(message, field.oneof, value, depth))
      }
    }
    return rows
  }

  // at reads and writes a field of a message's value, which may have either of its two names.
  at(field, value) {
    return {
      get: () => value[field.json] ?? value[field.name],
      set: (v) => {
        delete value[field.name]
        if (v === undefined) delete value[field.json]
        else value[field.json] = v
        this.changed()
      },
    }
  }

  oneof(message, name, value, depth) {
    const choices = message.fields.filter((f) => f.oneof === name)
    const about = message.oneofs.find((o) => o.name === name)
    const id = unique('oneof')
    const set = (f) => this.at(f, value).get() !== undefined
    const body = h('div', {})
    const show = () => {
      const chosen = choices.find(set)
      select.value = chosen?.name ?? ''
      body.replaceChildren(...(chosen ? [this.field(chosen, value, depth)] : []))
    }
    const select = h('select', {
      id, onchange: () => {
        for (const f of choices) { delete value[f.json]; delete value[f.name] }
        const chosen = choices.find((f) => f.name === select.value)
        if (chosen) value[chosen.json] = this.initial(chosen)
        this.changed()
        show()
      },
    }, h('option', { value: '' }, 'none'), choices.map((f) => h('option', { value: f.name, title: f.comment || '' }, f.name)))
    show()
    return h('div', { class: 'field oneof' }, h('label', { for: id }, name, h('span', { class: 'kind' }, 'one of')), help(about.comment), select, body)
  }

  // initial is the value with which a field that was not set begins.
  initial(field) {
    if (field.kind === 'map') return {}
    if (field.repeated) return []
    const name = field.type?.startsWith(wellKnown) ? field.type.slice(wellKnown.length) : ''
    if (name === 'Timestamp') return new Date().toISOString()
    if (name === 'Duration') return '1s'
    if (name === 'FieldMask') return ''
    if (name === 'ListValue') return []
    if (name === 'Value') return null
    const kind = wrappers[name] || field.kind
    if (kind === 'message' || kind === 'group') return {}
    if (kind === 'bool') return false
    if (kind === 'enum') return this.catalogue.enums[field.type].values[0].name
    if (longs.has(kind)) return '0'
    return integers.has(kind) || floats.has(kind) ? 0 : ''
  }

  field(field, value, depth) {
    const spot = this.at(field, value)
    if (field.kind === 'map') return this.map(field, spot, depth)
    if (field.repeated) return this.list(field, spot, depth)
    return this.single(field, spot, depth)
  }

  // single is a field with one value.
  single(field, spot, depth, label = field.name) {
    if ((field.kind === 'message' || field.kind === 'group') && !this.isPlain(field)) return this.message(field, spot, depth, label)
    const id = unique('field')
    const hint = help(field.comment, id)
    const input = this.input(field, id, spot, hint?.id)
    return h('div', { class: 'field' }, h('label', { for: id }, label, h('span', { class: 'kind' }, kindOf(field))), hint, input)
  }

  // isPlain tells messages that JSON does not write as an object of their fields.
  isPlain(field) {
    const name = field.type?.slice(wellKnown.length)
    return field.type?.startsWith(wellKnown) &&
      (name in wrappers || ['Timestamp', 'Duration', 'FieldMask', 'Struct', 'Value', 'ListValue', 'Any'].includes(name))
  }

  message(field, spot, depth, label) {
    const body = h('div', { class: 'nested' })
    const id = unique('set')
    const show = () => {
      const value = spot.get()
      set.checked = value !== undefined
      body.replaceChildren(...(set.checked && value && typeof value === 'object' ? this.fields(field.type, value, depth + 1) : []))
      body.hidden = !body.children.length
    }
    const set = h('input', { type: 'checkbox', id, onchange: () => { spot.set(set.checked ? {} : undefined); show() } })
    show()
    return h('div', { class: 'field' }, h('div', { class: 'row' }, set, h('label', { for: id }, label, h('span', { class: 'kind' }, kindOf(field)))), help(field.comment), body)
  }

  list(field, spot, depth) {
    const rows = h('div', { class: 'items' })
    const one = { ...field, repeated: false, comment: '', optional: false }
    const show = () => {
      const all = Array.isArray(spot.get()) ? spot.get() : []
      rows.replaceChildren(...all.map((_, i) => h('div', { class: 'item' },
        this.single(one, {
          get: () => all[i],
          set: (v) => { all[i] = v === undefined ? this.initial(one) : v; spot.set(all) },
        }, depth, `${field.name} ${i + 1}`),
        remover(`Remove ${field.name} ${i + 1}`, () => { all.splice(i, 1); spot.set(all.length ? all : undefined); show() }))))
    }
    show()
    const add = () => {
      spot.set([...(Array.isArray(spot.get()) ? spot.get() : []), this.initial(one)])
      show()
      focusLast(rows)
    }
    return h('fieldset', { class: 'field' }, h('legend', {}, field.name, h('span', { class: 'kind' }, `list of ${kindOf(one)}`)), help(field.comment), rows,
      h('button', { type: 'button', class: 'small', onclick: add, 'aria-label': `Add to ${field.name}` }, '+ Add'))
  }

  map(field, spot, depth) {
    const rows = h('div', { class: 'items' })
    const show = () => {
      const all = spot.get() || {}
      rows.replaceChildren(...Object.keys(all).map((key) => {
        const name = h('input', {
          value: key, 'aria-label': `Key in ${field.name}`, spellcheck: false, onchange: () => {
            const renamed = {}
            for (const [k, v] of Object.entries(all)) renamed[k === key ? name.value : k] = v
            spot.set(renamed)
            show()
          },
        })
        return h('div', { class: 'item pair' }, name, this.single({ ...field.value, name: key || 'value', comment: '' }, {
          get: () => all[key],
          set: (v) => { all[key] = v === undefined ? this.initial(field.value) : v; spot.set(all) },
        }, depth, 'value'), remover(`Remove ${key} from ${field.name}`, () => { delete all[key]; spot.set(Object.keys(all).length ? all : undefined); show() }))
      }))
    }
    show()
    const free = (all) => {
      if (field.key === 'bool') return 'true' in all ? 'false' : 'true'
      let n = 1
      while ((field.key === 'string' ? `key${n}` : `${n}`) in all) n++
      return field.key === 'string' ? `key${n}` : `${n}`
    }
    const add = () => {
      const all = { ...(spot.get() || {}) }
      all[free(all)] = this.initial(field.value)
      spot.set(all)
      show()
      focusLast(rows)
    }
    return h('fieldset', { class: 'field' }, h('legend', {}, field.name, h('span', { class: 'kind' }, `map of ${field.key} to ${kindOf(field.value)}`)), help(field.comment), rows,
      h('button', { type: 'button', class: 'small', onclick: add, 'aria-label': `Add to ${field.name}` }, '+ Add'))
  }

  // input edits a value that is not made of fields.
  input(field, id, spot, describedBy) {
    const name = field.type?.startsWith(wellKnown) ? field.type.slice(wellKnown.length) : ''
    const kind = wrappers[name] || field.kind
    const about = { id, 'aria-describedby': describedBy }
    const value = spot.get()
    if (kind === 'bool') {
      return choice(about, [['', 'not set'], ['true', 'true'], ['false', 'false']], value === undefined ? '' : String(value),
        (v) => spot.set(v === '' ? undefined : v === 'true'))
    }
    if (field.type === 'google.protobuf.NullValue') return choice(about, [['', 'not set'], ['null', 'null']], value === null ? 'null' : '', (v) => spot.set(v ? null : undefined))
    if (kind === 'enum') {
      const values = this.catalogue.enums[field.type].values
      const current = values.find((v) => v.name === value || v.number === value)
      return choice(about, [['', 'not set'], ...values.map((v) => [v.name, v.name, v.comment])], current?.name ?? '', (v) => spot.set(v || undefined))
    }
    if (kind === 'bytes') return bytesInput(about, spot, field.name)
    if (['Struct', 'Value', 'ListValue', 'Any'].includes(name)) return jsonInput(about, spot, name)
    if (name === 'Timestamp') {
      const input = line(about, value ?? '', '2026-01-31T12:00:00Z', (v) => spot.set(v || undefined))
      return h('div', { class: 'row' }, input, h('button', {
        type: 'button', class: 'small', onclick: () => { input.value = new Date().toISOString(); spot.set(input.value) },
      }, 'Now'))
    }
    if (name === 'Duration') return line(about, value ?? '', '1.5s', (v) => spot.set(v && /^[-\d.]+$/.test(v) ? `${v}s` : v || undefined))
    if (name === 'FieldMask') return line(about, value ?? '', 'name,address.city', (v) => spot.set(v || undefined))
    if (kind === 'string') return text(about, value ?? '', field.optional, (v, empty) => spot.set(v === '' && empty ? undefined : v))
    const input = line({ ...about, inputMode: floats.has(kind) ? 'decimal' : 'numeric' }, value ?? '', '0', (v) => {
      v = v.trim()
      const good = v === '' || (floats.has(kind) ? ['NaN', 'Infinity', '-Infinity'].includes(v) || Number.isFinite(Number(v)) : /^-?\d+$/.test(v))
      input.setAttribute('aria-invalid', String(!good))
      spot.set(v === '' ? undefined : good && !longs.has(kind) && Number.isFinite(Number(v)) ? Number(v) : v)
    })
    return input
  }
}

function kindOf(field) {
  const type = field.type?.startsWith(wellKnown) ? field.type.slice(wellKnown.length) : field.type?.split('.').at(-1)
  return (type || field.kind) + (field.optional ? ', optional' : '')
}

function help(comment, of) {
  return comment ? h('p', { class: 'help', id: of && `${of}-help` }, comment) : null
}

const line = (about, value, placeholder, set) => {
  const input = h('input', { ...about, value, placeholder, spellcheck: false, autocomplete: 'off', oninput: () => set(input.value) })
  return input
}

// text grows with its content. An optional text can be set and empty: with the box beside it.
function text(about, value, optional, set) {
  const grow = () => { area.rows = Math.min(12, area.value.split('\n').length) }
  const area = h('textarea', { ...about, value, rows: 1, spellcheck: false, oninput: () => { if (optional) box.checked = true; grow(); set(area.value, !optional) } })
  grow()
  if (!optional) return area
  const box = h('input', { type: 'checkbox', checked: value !== '', 'aria-label': 'set', onchange: () => { if (!box.checked) area.value = ''; set(area.value, !box.checked) } })
  return h('div', { class: 'row' }, box, area)
}

function choice(about, options, value, set) {
  const select = h('select', { ...about, onchange: () => set(select.value) },
    options.map(([v, label, title]) => h('option', { value: v, title: title || '' }, label)))
  select.value = value
  return select
}

function remover(label, onclick) {
  return h('button', { type: 'button', class: 'ghost small remove', 'aria-label': label, title: label, onclick }, '×')
}

function focusLast(rows) { rows.lastElementChild?.querySelector('input, textarea, select')?.focus() }

// bytesInput takes bytes as text, as hexadecimal, in base64, or from a file.
function bytesInput(about, spot, name) {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const current = () => { try { return fromBase64(spot.get() || '') } catch { return new Uint8Array() } }
  const size = h('span', { class: 'muted small' })
  let how = 'text'
  try { decoder.decode(current()) } catch { how = 'hex' }
  const show = () => {
    const array = current()
    size.textContent = array.length ? `${array.length} bytes` : ''
    if (array.length > 64 << 10) { area.value = ''; area.placeholder = `${array.length} bytes from a file`; return }
    area.placeholder = how === 'hex' ? '68 65 6c 6c 6f' : ''
    if (how === 'base64') area.value = spot.get() || ''
    else if (how === 'hex') area.value = toHex(array)
    else try { area.value = decoder.decode(array) } catch { select.value = how = 'hex'; area.value = toHex(array) }
  }
  const edited = () => {
    const value = area.value
    let good = true
    let result
    if (how === 'text') result = toBase64(new TextEncoder().encode(value))
    else if (how === 'base64') { result = value.trim(); try { fromBase64(result) } catch { good = false } } else {
      const digits = value.replace(/^0x|[\s:]/g, '')
      good = /^([0-9a-fA-F]{2})*$/.test(digits)
      if (good) result = toBase64(Uint8Array.from(digits.match(/../g) || [], (d) => parseInt(d, 16)))
    }
    area.setAttribute('aria-invalid', String(!good))
    if (!good) return
    spot.set(result || undefined)
    size.textContent = `${current().length} bytes`
  }
  const area = h('textarea', { ...about, rows: 2, spellcheck: false, oninput: edited })
  const select = h('select', { 'aria-label': `How ${name} is written`, onchange: () => { how = select.value; show() } },
    ['text', 'hex', 'base64'].map((v) => h('option', { value: v }, v)))
  select.value = how
  const file = h('input', {
    type: 'file', class: 'hidden', tabIndex: -1, 'aria-label': `File for ${name}`, onchange: async () => {
      if (!file.files[0]) return
      spot.set(toBase64(new Uint8Array(await file.files[0].arrayBuffer())) || undefined)
      show()
    },
  })
  show()
  return h('div', { class: 'bytes' }, area, h('div', { class: 'row' }, select,
    h('button', { type: 'button', class: 'small', onclick: () => file.click() }, 'File…'), file, size))
}

function jsonInput(about, spot, name) {
  const value = spot.get()
  const area = h('textarea', {
    ...about, rows: 3, class: 'code', spellcheck: false, value: value === undefined ? '' : JSON.stringify(value, null, 2),
    placeholder: name === 'Any' ? '{"@type": "type.googleapis.com/…"}' : '{}', oninput: () => {
      try {
        spot.set(area.value.trim() === '' ? undefined : JSON.parse(area.value))
        area.setAttribute('aria-invalid', 'false')
      } catch { area.setAttribute('aria-invalid', 'true') }
    },
  })
  return area
}
