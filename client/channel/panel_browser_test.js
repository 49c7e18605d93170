// The page of conversations in Chromium: two pages talk over a restart of the server. It is run by test/browser, which gives
// it what it needs.

import assert from 'node:assert/strict'

export default function panel({ address, describe, it, open, close, shot, faults, looks, restartServer }) {
  const join = async (page, name) => {
    await page.getByLabel('Participant').fill(name)
    await page.getByRole('button', { name: 'Join' }).click()
    await page.getByRole('region', { name: `${name} in` }).getByText('joined', { exact: true }).waitFor()
  }
  const say = async (page, name, text) => {
    await page.getByLabel(`Say as ${name}`).fill(text)
    await page.getByLabel(`Say as ${name}`).press('Enter')
  }
  const heard = (page, name, text) => page.getByRole('region', { name: `${name} in` }).locator('.one', { hasText: text }).last().waitFor({ timeout: 30000 })
  const sequences = (page, name) => page.getByRole('region', { name: `${name} in` }).locator('.sequence').allTextContents()

  describe('the page of conversations', { timeout: 300000 }, () => {
    it('two pages talk, and a restart of the server costs nothing and shows', async () => {
      const [one, two] = [await open('panels/channel/'), await open('panels/channel/')]
      await join(one, 'ann')
      await join(one, 'cem')
      await join(two, 'bob')
      await say(one, 'ann', 'Has the file arrived?')
      await heard(two, 'bob', 'Has the file arrived?')
      await restartServer()
      await say(two, 'bob', 'All of it.')
      for (const [page, name] of [[one, 'ann'], [one, 'cem'], [two, 'bob']]) await heard(page, name, 'All of it.')
      await one.getByRole('region', { name: 'ann in' }).getByText('reconnected').first().waitFor()
      assert.deepEqual(await sequences(one, 'ann'), await sequences(two, 'bob'))
      assert.equal(await one.getByText('something is missing').count(), 0)
      await shot(one, 'conversations')
      await close(one)
      await close(two)
    })
    it('is small, and everything comes from the console', async () => {
      const page = await open()
      const bodies = []
      page.on('response', (response) => { if (!response.url().includes('/api/')) bodies.push(response) })
      await page.goto(`${address()}panels/channel/`)
      await page.getByLabel('Participant').waitFor()
      assert.ok(bodies.every((r) => r.url().startsWith(address())))
      const size = (await Promise.all(bodies.map((r) => r.body()))).reduce((all, body) => all + body.length, 0)
      assert.ok(size > 10000 && size < 150000, `${size} bytes`)
      await close(page)
    })
    for (const [name, options] of Object.entries(looks)) {
      it(`has no serious fault of accessibility: ${name}`, async () => {
        const page = await open('panels/channel/', { bypassCSP: true, ...options })
        await join(page, 'dora')
        await say(page, 'dora', `Hello, ${name}.`)
        await heard(page, 'dora', `Hello, ${name}.`)
        assert.deepEqual(await faults(page), [])
        await shot(page, `conversations-${name}`)
        await close(page)
      })
    }
  })
}
