// The console in Chromium: every mode through the page, a break and what comes after it, the keyboard, a phone, and what
// accessibility checkers find. It starts a server and a client of its own, from bin/.
//
//   make browser
//
// CHROMIUM names the browser; `make browser` looks for the usual ones. SCREENSHOTS is a folder for pictures. `make e2e` runs
// it a second time, against a console on a cluster: CONSOLE is the address of that, and ROLLOUT a command that replaces all
// servers and ends when the new ones serve.

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { chromium } from 'playwright-core'

const root = new URL('../..', import.meta.url).pathname
// The variables of the programs begin with the product's name, as identity.go has it.
const prefix = /Name: "([^"]+)"/.exec(readFileSync(join(root, 'identity.go'), 'utf8'))[1].toUpperCase().replaceAll('-', '_') + '_'
const executablePath = process.env.CHROMIUM
const remote = process.env.CONSOLE

if (!executablePath) throw new Error('CHROMIUM does not name a browser; `make browser` looks for one')
for (const program of remote ? [] : ['server', 'client']) {
  if (!existsSync(join(root, 'bin', program))) throw new Error(`bin/${program} is missing: make build`)
}

const freePort = () => new Promise((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address()
    server.close(() => resolve(port))
  })
})

const data = mkdtempSync(join(tmpdir(), 'browser-'))
let grpcPort, consolePort, server, client, browser, address, catalogue

// start runs a program until it says where it listens.
function start(program, variables, ...args) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith(prefix)))
  for (const [name, value] of Object.entries({ LOG_FORMAT: 'json', PROBE_ADDRESS: '127.0.0.1:0', HTTP_ADDRESS: '127.0.0.1:0', DRAIN_DELAY: '0s', ...variables })) env[prefix + name] = value
  const child = spawn(join(root, 'bin', program), args, { env, cwd: data, stdio: ['ignore', 'ignore', 'pipe'] })
  child.log = ''
  return new Promise((resolve, reject) => {
    child.on('exit', (code) => reject(new Error(`${program} ended with ${code}\n${child.log}`)))
    child.stderr.on('data', (text) => {
      child.log += text
      if (child.log.includes('"msg":"listening"')) resolve(child)
    })
  })
}

const startServer = async () => { server = await start('server', { GRPC_ADDRESS: `127.0.0.1:${grpcPort}` }) }
const startClient = async () => {
  client = await start('client', { SERVER: `127.0.0.1:${grpcPort}`, CONSOLE_ADDRESS: `127.0.0.1:${consolePort}`, RPC_RESOLVE_INTERVAL: '1s', CONSOLE_ROLLOUT_URL: 'https://127.0.0.1:1/' }, 'serve')
}

const kill = (child, signal = 'SIGKILL') => new Promise((resolve) => {
  if (!child || child.exitCode !== null || child.signalCode !== null) return resolve()
  child.removeAllListeners('exit')
  child.on('exit', resolve)
  child.kill(signal)
})

before(async () => {
  if (remote) address = remote
  else {
    grpcPort = await freePort()
    consolePort = await freePort()
    address = `http://127.0.0.1:${consolePort}/`
    await startServer()
    await startClient()
  }
  browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  })
  catalogue = await (await fetch(`${address}api/catalogue`)).json()
}, { timeout: 60000 })

after(async () => {
  await browser?.close()
  await kill(client)
  await kill(server)
  rmSync(data, { recursive: true, force: true })
})

// The first service has all modes; these are its methods, whatever it is called.
const method = (mode) => {
  for (const service of catalogue.services) {
    const all = ['unary', 'server_stream', 'client_stream', 'bidi_stream'].map((m) => service.methods.find((x) => x.mode === m))
    const found = service.methods.find((m) => m.mode === mode)
    if (all.every(Boolean)) return { ...found, name: `${service.name}/${found.name}` }
  }
  throw new Error('no service has all four modes')
}

// open shows a method in a page whose errors fail the test.
async function open(hash = '', options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 860 }, ...options })
  const page = await context.newPage()
  page.errors = []
  page.on('console', (message) => { if (message.type() === 'error' || message.type() === 'warning') page.errors.push(message.text()) })
  page.on('pageerror', (error) => page.errors.push(error.message))
  await page.goto(address + hash)
  await page.waitForSelector('article.method, .panel-page')
  return page
}

async function close(page, allowed = () => false) {
  const errors = page.errors.filter((text) => !allowed(text))
  await page.context().close()
  assert.deepEqual(errors, [])
}

const press = (page, name) => page.getByRole('button', { name, exact: true }).click()
const rows = (page, kind) => page.locator(`.event.${kind}`)
const ends = (page, code) => page.locator('.status strong', { hasText: code }).waitFor()

// write puts a message into the JSON tab; texts of its fields are numbered.
async function write(page, type, n = 1) {
  const value = {}
  for (const field of catalogue.messages[type].fields) {
    if (field.kind === 'string' && !field.repeated) value[field.json] = `one two ${n}`
    if (/sequence/.test(field.name)) value[field.json] = String(n)
  }
  await page.getByRole('tab', { name: 'JSON' }).click()
  await page.getByLabel('The message as JSON').fill(JSON.stringify(value))
}

const shot = (page, name) => process.env.SCREENSHOTS && page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) })

describe('every mode through the page', { timeout: 180000 }, () => {
  it('unary', async () => {
    const m = method('unary')
    const page = await open(`#/${m.name}`)
    await write(page, m.input)
    await press(page, 'Send')
    await ends(page, 'OK')
    assert.equal(await rows(page, 'in').count(), 1)
    await close(page)
  })
  it('server streaming', async () => {
    const m = method('server_stream')
    const page = await open(`#/${m.name}`)
    await write(page, m.input)
    await press(page, 'Send')
    await ends(page, 'OK')
    assert.ok(await rows(page, 'in').count() > 1)
    await close(page)
  })
  it('client streaming', async () => {
    const m = method('client_stream')
    const page = await open(`#/${m.name}`)
    for (const n of [1, 2, 3]) {
      await write(page, m.input, n)
      await press(page, 'Send')
    }
    await rows(page, 'out').nth(2).waitFor()
    await press(page, 'Half-close')
    await ends(page, 'OK')
    assert.equal(await rows(page, 'in').count(), 1)
    await close(page)
  })
  it('bidirectional', async () => {
    const m = method('bidi_stream')
    const page = await open(`#/${m.name}`)
    for (const n of [1, 2, 3]) {
      await write(page, m.input, n)
      await press(page, 'Send')
      await rows(page, 'in').nth(n - 1).waitFor()
    }
    await press(page, 'Half-close')
    await ends(page, 'OK')
    await shot(page, 'bidirectional')
    await close(page)
  })
  it('cancel', async () => {
    const page = await open(`#/${method('bidi_stream').name}`)
    await press(page, 'Open')
    await press(page, 'Cancel')
    await ends(page, 'CANCELLED')
    await close(page)
  })
  it('deadline', async () => {
    const page = await open(`#/${method('bidi_stream').name}`)
    await page.getByLabel('Deadline').fill('200ms')
    await press(page, 'Open')
    await ends(page, 'DEADLINE_EXCEEDED')
    await close(page)
  })
})

describe('a rollout', { timeout: 240000, skip: !remote && 'needs the button of a console on a cluster' }, () => {
  it('a person rolls the servers, and a stream goes on', async () => {
    const m = method('bidi_stream')
    const page = await open(`#/${m.name}`)
    await page.getByLabel('Again after a break').check()
    await write(page, m.input)
    await press(page, 'Send')
    await rows(page, 'in').first().waitFor()
    await press(page, 'Roll the servers')
    await rows(page, 'break').first().waitFor({ timeout: 120000 })
    await rows(page, 'resume').first().waitFor({ timeout: 60000 })
    await rows(page, 'in').nth(1).waitFor({ timeout: 60000 })
    const replies = await rows(page, 'in').count()
    await write(page, m.input, 2)
    await press(page, 'Send')
    await rows(page, 'in').nth(replies).waitFor({ timeout: 60000 })
    await shot(page, 'rollout')
    await press(page, 'Half-close')
    await ends(page, 'OK')
    await close(page)
  })
})

describe('what goes wrong', { timeout: 240000, skip: remote && 'kills processes of its own' }, () => {
  it('a stream breaks and goes on, and the timeline shows both', async () => {
    const m = method('bidi_stream')
    const page = await open(`#/${m.name}`)
    await page.getByLabel('Again after a break').check()
    await write(page, m.input)
    await press(page, 'Send')
    await rows(page, 'in').first().waitFor()
    await kill(server)
    await rows(page, 'break').first().waitFor()
    await startServer()
    await rows(page, 'in').nth(1).waitFor({ timeout: 30000 })
    assert.ok(await rows(page, 'resume').count() >= 1)
    await write(page, m.input, 2)
    await press(page, 'Send')
    await rows(page, 'in').nth(2).waitFor()
    await shot(page, 'break')
    await press(page, 'Half-close')
    await ends(page, 'OK')
    await close(page)
  })
  it('the page says that the servers are away, and that they are back', async () => {
    const page = await open()
    await kill(server)
    await page.getByText('No server answers at').waitFor({ timeout: 15000 })
    await startServer()
    await page.getByText('servers ready').waitFor({ timeout: 30000 })
    await page.locator('#banner').waitFor({ state: 'hidden' })
    await close(page)
  })
  it('the page says that the client is away, and goes on when it is back', async () => {
    const m = method('unary')
    const page = await open(`#/${m.name}`)
    await kill(client)
    await page.getByText('The client that serves this page is away').waitFor({ timeout: 15000 })
    await startClient()
    await page.locator('#banner').waitFor({ state: 'hidden', timeout: 30000 })
    await write(page, m.input)
    await press(page, 'Send')
    await ends(page, 'OK')
    await close(page, (text) => /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/.test(text)) // The browser's own, of requests to a client that is away.
  })
  it('a message that is none is told of and not sent', async () => {
    const page = await open(`#/${method('unary').name}`)
    await page.getByRole('tab', { name: 'JSON' }).click()
    await page.getByLabel('The message as JSON').fill('{nonsense')
    await press(page, 'Send')
    await page.locator('.problem:visible').waitFor()
    await page.getByLabel('The message as JSON').fill('{"no_such_field": 1}')
    await press(page, 'Send')
    await page.locator('.event.bad', { hasText: 'no_such_field' }).waitFor()
    await press(page, 'Cancel')
    await close(page)
  })
})

describe('a cluster that does not let the client replace servers', { timeout: 60000, skip: remote && 'has a role there' }, () => {
  it('the page says why the servers are not replaced', async () => {
    const page = await open()
    await press(page, 'Roll the servers')
    await page.getByText('The servers are not replaced').waitFor()
    await close(page, (text) => text.includes('502')) // The browser's own word for the answer.
  })
})

describe('the page itself', { timeout: 240000, skip: remote && 'is the same without a cluster' }, () => {
  it('is small, and everything comes from it', async () => {
    const context = await browser.newContext()
    const page = await context.newPage()
    const [bodies, others] = [[], []]
    page.on('response', (response) => {
      if (!response.url().startsWith(address)) others.push(response.url())
      else if (!response.url().includes('/api/')) bodies.push(response.body())
    })
    await page.goto(address)
    await page.waitForSelector('article.method')
    const size = (await Promise.all(bodies)).reduce((all, body) => all + body.length, 0)
    assert.deepEqual(others, [])
    assert.ok(size > 10000 && size < 150000, `${size} bytes`)
    const policy = (await fetch(address)).headers.get('content-security-policy')
    assert.ok(policy.includes("default-src 'none'") && !policy.includes('unsafe'), policy)
    await context.close()
  })
  it('form and JSON show the same', async () => {
    const m = method('unary')
    const page = await open(`#/${m.name}`)
    const field = catalogue.messages[m.input].fields.find((f) => f.kind === 'string')
    await page.locator('.fields textarea').first().fill('from the form')
    await page.getByRole('tab', { name: 'JSON' }).click()
    assert.equal(JSON.parse(await page.getByLabel('The message as JSON').inputValue())[field.json], 'from the form')
    await page.getByLabel('The message as JSON').fill(JSON.stringify({ [field.json]: 'from JSON' }))
    await page.getByRole('tab', { name: 'Form' }).click()
    assert.equal(await page.locator('.fields textarea').first().inputValue(), 'from JSON')
    await close(page)
  })
  it('has a field for everything that a contract can have', async () => {
    const kinds = ['double', 'float', 'int32', 'int64', 'uint32', 'uint64', 'sint32', 'sint64', 'fixed32', 'fixed64', 'sfixed32', 'sfixed64', 'bool', 'string', 'bytes']
    const field = (name, more) => ({ name, json: name, kind: 'string', ...more })
    const all = [
      ...kinds.map((kind) => field(`a_${kind}`, { kind, json: `a${kind}`, comment: `A ${kind}.` })),
      field('hint', { optional: true }), field('color', { kind: 'enum', type: 'x.Color' }),
      field('inner', { kind: 'message', type: 'x.Inner' }), field('tags', { repeated: true }), field('inners', { kind: 'message', type: 'x.Inner', repeated: true }),
      field('labels', { kind: 'map', key: 'string', value: field('value') }),
      field('numbered', { kind: 'map', key: 'int32', value: field('value', { kind: 'message', type: 'x.Inner' }) }),
      field('left', { oneof: 'side' }), field('right', { oneof: 'side', kind: 'message', type: 'x.Inner' }),
      ...['Timestamp', 'Duration', 'FieldMask', 'Struct', 'Value', 'ListValue', 'Any', 'StringValue', 'Int64Value', 'BoolValue', 'BytesValue', 'Empty'].map((type) =>
        field(`wkt_${type}`, { kind: 'message', type: `google.protobuf.${type}` })),
    ]
    const messages = { 'x.All': { fields: all, oneofs: [{ name: 'side' }] }, 'x.Inner': { fields: [field('name'), field('again', { kind: 'message', type: 'x.Inner' })] } }
    for (const f of all) if (f.type?.startsWith('google.')) messages[f.type] = { fields: [] }
    const context = await browser.newContext()
    const page = await context.newPage()
    const errors = []
    page.on('pageerror', (error) => errors.push(error.message))
    await page.route('**/api/catalogue', (route) => route.fulfill({ json: {
      ...catalogue, services: [{ name: 'x.Service', target: 'localhost:1', methods: [{ name: 'Do', mode: 'unary', input: 'x.All', output: 'x.All' }] }],
      messages, enums: { 'x.Color': { values: [{ name: 'RED', number: 0 }, { name: 'BLUE', number: 1 }] } },
    } }))
    await page.goto(address)
    const set = (name, value) => page.getByLabel(name, { exact: false }).first().fill(value)
    for (const kind of kinds) {
      if (kind === 'bool') await page.getByLabel('a_bool').selectOption('true')
      else await set(`a_${kind}`, { string: 'text', bytes: 'hi', double: '1.5', float: 'NaN', int64: '9223372036854775807' }[kind] || '7')
    }
    await page.getByLabel('How a_bytes is written').selectOption('hex')
    await set('a_bytes', '00 ff')
    await page.getByLabel('color').selectOption('BLUE')
    await page.getByLabel('inner', { exact: false }).first().check()
    await page.locator('.nested textarea').first().fill('nested')
    const tags = page.locator('fieldset', { hasText: 'tags' }).locator('textarea')
    for (const text of ['one', 'two']) {
      await press(page, 'Add to tags')
      await tags.last().fill(text)
    }
    await press(page, 'Add to labels')
    await page.getByLabel('Key in labels').fill('k')
    await page.getByLabel('Key in labels').press('Tab')
    await page.locator('fieldset', { hasText: 'labels' }).locator('textarea').fill('v')
    await press(page, 'Add to numbered')
    await page.getByLabel('side').selectOption('left')
    await page.locator('.oneof textarea').fill('chosen')
    await set('wkt_Timestamp', '2026-01-02T03:04:05Z')
    await set('wkt_Duration', '1.5')
    await set('wkt_Struct', '{"a": [1]}')
    await set('wkt_StringValue', 'wrapped')
    await set('wkt_Int64Value', '5')
    await page.getByRole('tab', { name: 'JSON' }).click()
    const text = page.getByLabel('The message as JSON')
    const value = JSON.parse(await text.inputValue())
    assert.deepEqual(value, {
      adouble: 1.5, afloat: 'NaN', aint32: 7, aint64: '9223372036854775807', auint32: 7, auint64: '7', asint32: 7, asint64: '7', afixed32: 7, afixed64: '7',
      asfixed32: 7, asfixed64: '7', abool: true, astring: 'text', abytes: 'AP8=', color: 'BLUE', inner: { name: 'nested' }, tags: ['one', 'two'],
      labels: { k: 'v' }, numbered: { 1: {} }, left: 'chosen', wkt_Timestamp: '2026-01-02T03:04:05Z', wkt_Duration: '1.5s', wkt_Struct: { a: [1] },
      wkt_StringValue: 'wrapped', wkt_Int64Value: '5',
    })
    // And back, with a number that JavaScript cannot hold, the other field of the oneof, and nothing else.
    await text.fill('{"aint64": 9223372036854775806, "right": {"name": "r"}, "tags": ["three"]}')
    await page.getByRole('tab', { name: 'Form' }).click()
    assert.equal(await page.getByLabel('a_int64').inputValue(), '9223372036854775806')
    assert.equal(await page.getByLabel('side').inputValue(), 'right')
    assert.equal(await tags.first().inputValue(), 'three')
    await press(page, 'Remove tags 1')
    await set('a_string', 'x')
    await page.getByRole('tab', { name: 'JSON' }).click()
    assert.deepEqual(JSON.parse(await text.inputValue()), { astring: 'x', aint64: '9223372036854775806', right: { name: 'r' } })
    assert.deepEqual(errors, [])
    await context.close()
  })
  it('finds methods by typing, and works by keyboard alone', async () => {
    const m = method('server_stream')
    const page = await open()
    await page.keyboard.press('/')
    await page.keyboard.type(m.name.split('/')[1])
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { level: 2, name: m.name.split('/')[1], exact: true }).waitFor()
    await write(page, m.input)
    await page.keyboard.press('Control+Enter')
    await ends(page, 'OK')
    await close(page)
  })
  it('holds the texts of the newest messages, and not of all', async () => {
    const m = method('server_stream')
    const page = await open(`#/${m.name}`)
    const session = await page.context().newCDPSession(page)
    const heap = async () => {
      await session.send('HeapProfiler.collectGarbage')
      return (await session.send('Runtime.getHeapUsage')).usedSize >> 20
    }
    const before = await heap()
    // The bridge's replies are made up here: no method of the first service has such large ones.
    const large = (n) => JSON.stringify([{ type: 'message', time: n, bytes: 1 << 20, peer: '127.0.0.1:1', message: { text: `${n} `.repeat((1 << 20) / 4) } }])
    await page.routeWebSocket('**/api/call', (socket) => {
      socket.onMessage((text) => {
        if (JSON.parse(text).type !== 'message') return
        for (let n = 100; n < 180; n++) socket.send(large(n))
        socket.send(JSON.stringify([{ type: 'status', time: 200, status: { code: 0, name: 'OK' } }]))
      })
    })
    await page.reload() // Sockets are routed from here on.
    await write(page, m.input)
    await press(page, 'Send')
    await ends(page, 'OK')
    assert.equal(await rows(page, 'in').count(), 80)
    const grown = await heap() - before
    assert.ok(grown < 40, `80 messages of 1 MiB are held in ${grown} MiB`)
    await rows(page, 'in').first().locator('summary').click()
    await rows(page, 'in').first().getByText('not kept any more').waitFor()
    await rows(page, 'in').last().locator('summary').click()
    await rows(page, 'in').last().getByLabel('Message').waitFor()
    await close(page)
  })
  it('copies a call for other tools', async () => {
    const m = method('bidi_stream')
    const page = await open(`#/${m.name}`)
    for (const [name, part] of [['grpcurl', 'grpcurl -plaintext'], ['curl', 'Connect-Protocol-Version'], ['Go', 'stream.Recv()']]) {
      await press(page, name)
      assert.ok((await page.locator('#snippet-text').textContent()).includes(part), name)
      await press(page, 'Close')
    }
    await close(page)
  })
  it('shows every method with a form', async () => {
    const page = await open()
    for (const service of catalogue.services) {
      for (const m of service.methods) {
        await page.goto(`${address}#/${service.name}/${m.name}`)
        await page.getByRole('heading', { level: 2, name: m.name, exact: true }).waitFor()
      }
    }
    await close(page)
  })
  for (const [name, options] of Object.entries({
    light: {}, dark: { colorScheme: 'dark' }, phone: { viewport: { width: 390, height: 844 } },
  })) {
    it(`has no serious fault of accessibility: ${name}`, async () => {
      const m = method('unary')
      // The checker is put into the page by the browser, which the policy of the page would not let it load.
      const page = await open(`#/${m.name}`, { bypassCSP: true, ...options })
      await write(page, m.input)
      await press(page, 'Send')
      await ends(page, 'OK')
      await page.addScriptTag({ path: new URL('node_modules/axe-core/axe.min.js', import.meta.url).pathname })
      const { violations } = await page.evaluate(() => globalThis.axe.run())
      const serious = violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
      assert.deepEqual(serious.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).join(' ')}`), [])
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth)
      assert.ok(!wide, 'the page is wider than the window')
      await shot(page, name)
      await close(page)
    })
  }
})

describe('a token', { timeout: 60000, skip: remote && 'is the same without a cluster' }, () => {
  // guarded opens a page whose requests are refused if refused says so of their token.
  async function guarded(path, refused) {
    const context = await browser.newContext()
    const page = await context.newPage()
    await page.clock.install()
    await page.route('**/api/**', (route) => refused(route.request().headers().authorization) ? route.fulfill({ status: 401 }) : route.continue())
    await page.goto(address + path)
    return page
  }
  const dialogs = (page) => page.locator('dialog[open]')
  const enter = async (page, token) => {
    await page.getByRole('textbox', { name: 'Token' }).fill(token)
    await press(page, 'Continue')
  }
  for (const [name, path] of Object.entries({
    'the page of methods': () => '', 'the page of a service': () => catalogue.panels && `panels/${catalogue.panels[0].name}/`,
  })) {
    it(`is asked for by one dialog, and kept when that is cancelled: ${name}`, async (t) => {
      if (path() === undefined) return t.skip('no service has a page')
      let accepted = 'Bearer right'
      const page = await guarded(path(), (authorization) => authorization !== accepted)
      await enter(page, 'right')
      await page.getByText('servers ready').waitFor()
      accepted = 'Bearer none'
      await dialogs(page).first().waitFor()
      await page.clock.runFor(20000) // The page looks after the servers every 2 s.
      await page.evaluate(async () => { (await import('/session.js')).askForToken() }) // As other parts of a page do.
      assert.equal(await dialogs(page).count(), 1)
      accepted = 'Bearer right'
      const [next] = await Promise.all([page.waitForResponse(/api/), page.keyboard.press('Escape')])
      assert.equal(next.status(), 200)
      await dialogs(page).waitFor({ state: 'detached' })
      await page.context().close()
    })
  }
})

// Pages of services have their tests in the folders of the services.

// violations are what the checker of accessibility finds that is serious, and whether the page is too wide. The page has to
// be open with bypassCSP.
async function faults(page) {
  await page.addScriptTag({ path: new URL('node_modules/axe-core/axe.min.js', import.meta.url).pathname })
  const { violations } = await page.evaluate(() => globalThis.axe.run())
  const serious = violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth)
  return [...serious.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).join(' ')}`), ...(wide ? ['the page is wider than the window'] : [])]
}

const looks = { light: {}, dark: { colorScheme: 'dark' }, phone: { viewport: { width: 390, height: 844 } }, 'dark-phone': { viewport: { width: 390, height: 844 }, colorScheme: 'dark' } }

const harness = {
  describe, it, open, close, shot, faults, looks,
  address: () => address,
  restartServer: async () => {
    if (remote) return promisify(execFile)('sh', ['-c', process.env.ROLLOUT])
    await kill(server)
    await startServer()
  },
  // file makes one with random content, and returns where it is and what is in it.
  file: (name, size) => {
    const [path, content] = [join(data, name), randomBytes(size)]
    writeFileSync(path, content)
    return [path, content]
  },
}

for (const service of readdirSync(join(root, 'client'), { withFileTypes: true })) {
  const test = join(root, 'client', service.name, 'panel_browser_test.js')
  if (service.isDirectory() && existsSync(test)) (await import(test)).default(harness)
}
