/** What stands between a browser and the server. */
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, Tab } from './browser'
import { BELOW, Proxy } from './proxy'
import { Server } from './server'

let server: Server
let browser: Browser
let proxy: Proxy

beforeAll(async () => {
  ;[server, browser] = await Promise.all([Server.start(), launch()])
  proxy = await Proxy.before(server.url)
})

afterAll(async () => {
  await browser.close()
  await proxy.stop()
  await server.stop()
})

test('below a path of its host everything is found: files, the API, the socket, the session', async () => {
  const device = await server.device(server.admin, 1, 'Below')
  const tab = await Tab.open(browser, proxy.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  for (const name of ['Devices', 'Users', 'Metrics', 'Home']) {
    await page.getByRole('link', { name, exact: true }).click()
    await page.getByRole('heading', { name, exact: true }).waitFor()
  }
  expect(new URL(page.url()).pathname).toBe(`${BELOW}/dashboard/home`)
  await tab.flip(page.locator(`[data-uid="${device.uid}"] [data-relay="0"]`))
  await page.locator('[data-relay="0"][data-state="on"]').waitFor()
  await page.getByText('Live', { exact: true }).waitFor()
  await page.reload()
  await page.getByRole('button', { name: 'Your account' }).waitFor()
  // Another one at the root of the same host is another one.
  expect(await page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith('hexa.session')))).toEqual([`hexa.session@${BELOW}`])
  tab.clean()
  await tab.close()
})

test('a proxy that lets no WebSocket pass is named, and lists are read all the same', async () => {
  await server.device(server.admin, 1, 'Behind')
  proxy.upgrades = false
  const tab = await Tab.open(browser, proxy.url)
  const { page } = tab
  tab.expected = [/WebSocket/]
  await tab.signIn(server.admin.email)
  await tab.go('/home')
  await page.getByRole('status', { name: 'a proxy may be blocking WebSockets' }).waitFor()
  await page.getByText('Behind').waitFor()
  await tab.accessible('a page that is not live')
  proxy.upgrades = true
  await page.evaluate(() => window.dispatchEvent(new Event('online')))
  await page.getByText('Live', { exact: true }).waitFor()
  tab.clean()
  await tab.close()
})
