// The page of files in Chromium: an upload with a pause, a reload and a restart of the server, and a download. It is run by
// test/browser, which gives it what it needs.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync, utimesSync } from 'node:fs'

export default function panel({ describe, it, open, close, shot, faults, looks, address, restartServer, file }) {
  describe('the page of files', { timeout: 300000 }, () => {
    it('continues an upload after a pause, a reload and a restart of the server, and the download is the same', async () => {
      const page = await open('panels/object/')
      const [path, content] = file('big.bin', 20 << 20)
      // The second chunk waits until it may be sent, so that there is a middle.
      let release, reached
      const held = new Promise((resolve) => { release = resolve })
      const middle = new Promise((resolve) => { reached = resolve })
      await page.route('**/uploads/*', async (route) => {
        if (Number(route.request().headers()['upload-offset']) > 0) {
          reached()
          await held
        }
        await route.continue().catch(() => {}) // It may have been cancelled meanwhile.
      })
      const choose = () => page.locator('input[type=file]').setInputFiles(path)
      await choose()
      await middle
      await page.getByRole('button', { name: 'Pause' }).click()
      await page.locator('.upload.paused').waitFor()
      await shot(page, 'files-paused')
      await page.reload()
      await page.getByText('drag the same file here').waitFor()
      await restartServer()
      release()
      await choose()
      await page.getByText('verified').waitFor({ timeout: 60000 })
      await shot(page, 'files')
      const download = page.waitForEvent('download')
      await page.getByRole('link', { name: 'big.bin' }).click()
      const sum = (data) => createHash('sha256').update(data).digest('hex')
      assert.equal(sum(readFileSync(await (await download).path())), sum(content))
      await page.context().close()
    })
    // counted opens the page, and counts what it asks for uploads. While held is set, chunks behind its offset wait.
    async function counted() {
      const page = await open('panels/object/')
      await page.clock.install()
      const asked = { HEAD: 0, PATCH: 0, POST: 0, broken: false, held: null }
      await page.route('**/uploads/**', async (route) => {
        const { held } = asked
        asked[route.request().method()]++
        if (held && Number(route.request().headers()['upload-offset']) >= held.offset) {
          held.reach()
          await held.over
        }
        await (asked.broken ? route.abort('connectionreset') : route.continue()).catch(() => {}) // It may have been cancelled meanwhile.
      })
      return [page, asked]
    }
    function hold(offset) {
      const held = { offset }
      held.reached = new Promise((resolve) => { held.reach = resolve })
      held.over = new Promise((resolve) => { held.release = resolve })
      return held
    }
    const choose = (page, path) => page.locator('input[type=file]').setInputFiles(path)
    const verified = (page) => page.locator('.upload.done', { hasText: 'verified' }).waitFor({ timeout: 60000 })
    const press = (page, name) => page.getByRole('button', { name, exact: true }).click()

    it('sends an upload once that is paused while it waits for the server, and goes on', async () => {
      const [page, asked] = await counted()
      asked.broken = true
      await choose(page, file('waits.bin', 1 << 20)[0])
      await page.locator('.upload.waiting').waitFor()
      await press(page, 'Pause')
      Object.assign(asked, { broken: false, held: hold(0), POST: 0 })
      await press(page, 'Go on')
      await page.locator('.upload.running').waitFor()
      await page.clock.runFor(20000) // Until what it waited for is over.
      asked.held.release()
      await verified(page)
      assert.deepEqual([asked.POST, asked.HEAD, asked.PATCH], [1, 0, 1])
      await page.context().close()
    })
    it('reads a file once that is paused while it is read again after a reload, and goes on', async () => {
      const [path, content] = file('reload.bin', 20 << 20)
      utimesSync(path, 1000, 1000)
      // What the page before has left: most of the file is at the server.
      const send = async (method, to, headers, body) => (await fetch(to, { method, body, headers: { 'Tus-Resumable': '1.0.0', ...headers } })).headers
      const all = `${address()}panels/object/api/uploads/`
      const created = await send('POST', all, { 'Upload-Length': content.length, 'Upload-Metadata': `filename ${btoa('reload.bin')}` })
      const location = all + created.get('location').split('/').at(-1)
      const sent = await send('PATCH', location, { 'Upload-Offset': 0, 'Content-Type': 'application/offset+octet-stream' }, content.subarray(0, 16 << 20))
      assert.equal(sent.get('upload-offset'), String(16 << 20))
      const page = await open('panels/object/')
      await page.evaluate(([size, location]) => {
        const key = `reload.bin ${size} 1000000`
        localStorage.setItem('uploads', JSON.stringify({ [key]: { key, name: 'reload.bin', size, location } }))
      }, [content.length, location])
      await page.addInitScript(() => {
        const read = Blob.prototype.arrayBuffer
        const released = new Promise((resolve) => { globalThis.release = resolve })
        globalThis.reads = 0
        Blob.prototype.arrayBuffer = async function () {
          globalThis.reads++
          await released
          return read.call(this)
        }
      })
      await page.reload()
      await page.getByText('drag the same file here').waitFor()
      await choose(page, path)
      await page.waitForFunction(() => globalThis.reads === 1)
      assert.equal(await page.locator('.upload').count(), 1)
      await press(page, 'Pause')
      await press(page, 'Go on')
      await page.waitForFunction(() => globalThis.reads === 2)
      await page.evaluate(() => globalThis.release())
      await verified(page)
      await page.context().close()
    })
    it('goes on with an upload whose file is chosen again', async () => {
      const [page, asked] = await counted()
      const [path] = file('twice.bin', 1 << 20)
      asked.held = hold(0)
      await choose(page, path)
      await asked.held.reached
      await choose(page, path)
      assert.equal(await page.locator('.upload').count(), 1)
      await press(page, 'Pause')
      asked.held.release()
      await choose(page, path)
      await verified(page)
      assert.equal(asked.POST, 1)
      assert.equal(asked.HEAD, 1)
      await page.context().close()
    })
    it('says why a download does not begin, and asks for a token that is accepted', async () => {
      const page = await open('panels/object/')
      await page.evaluate(() => sessionStorage.setItem('token', 'old'))
      await page.reload()
      await choose(page, file('ticket.bin', 1000)[0])
      await verified(page)
      const link = page.getByRole('link', { name: 'ticket.bin' })
      let answer = { status: 503, body: 'too many calls\n' }
      await page.route('**/api/ticket', async (route) => {
        const { authorization } = route.request().headers()
        await (authorization === 'Bearer new' ? route.continue() : route.fulfill(answer))
      })
      await link.click()
      await page.getByRole('alert').filter({ hasText: 'The download did not begin: too many calls' }).waitFor()
      answer = { status: 401 }
      await link.click()
      await page.getByRole('textbox', { name: 'Token' }).fill('new')
      const download = page.waitForEvent('download')
      await press(page, 'Continue')
      assert.equal(readFileSync(await (await download).path()).length, 1000)
      assert.equal(await page.getByText('did not begin').count(), 0)
      await page.context().close()
    })
    it('waits longer for a list than the call behind it may take', async () => {
      const page = await open()
      await page.addInitScript(() => {
        const timeout = AbortSignal.timeout
        globalThis.waits = []
        AbortSignal.timeout = (ms) => {
          globalThis.waits.push(ms)
          return timeout.call(AbortSignal, ms)
        }
      })
      await page.goto(`${address()}panels/object/`)
      await page.getByRole('heading', { name: 'Stored' }).waitFor()
      const shortest = await page.evaluate(() => Math.min(...globalThis.waits))
      assert.ok(shortest >= 15000 && shortest < 60000, `${shortest} ms, and RPC_UNARY_TIMEOUT is 10 s`)
      await close(page)
    })
    it('is small, and everything comes from the console', async () => {
      const page = await open()
      const bodies = []
      page.on('response', (response) => { if (!response.url().includes('/api/')) bodies.push(response) })
      await page.goto(`${address()}panels/object/`)
      await page.getByRole('heading', { name: 'Stored' }).waitFor()
      assert.ok(bodies.every((r) => r.url().startsWith(address())))
      const size = (await Promise.all(bodies.map((r) => r.body()))).reduce((all, body) => all + body.length, 0)
      assert.ok(size > 10000 && size < 150000, `${size} bytes`)
      await close(page)
    })
    for (const [name, options] of Object.entries(looks)) {
      it(`has no serious fault of accessibility: ${name}`, async () => {
        const page = await open('panels/object/', { bypassCSP: true, ...options })
        await page.locator('input[type=file]').setInputFiles(file('report.pdf', 300000)[0])
        await page.getByText('verified').waitFor()
        await page.getByRole('link', { name: 'report.pdf' }).waitFor()
        assert.deepEqual(await faults(page), [])
        await shot(page, `files-${name}`)
        await close(page)
      })
    }
  })
}
