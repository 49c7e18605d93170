// The page of files in Chromium: an upload with a pause, a reload and a restart of the server, and a download. It is run by
// test/browser, which gives it what it needs.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

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
