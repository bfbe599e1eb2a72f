/** The console behind a proxy. */
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, Tab } from './browser'
import { PATH_PREFIX, Proxy } from './proxy'
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

test('under a path of its host, files, the API, the socket and the session work', async () => {
  const device = await server.createDevice(server.admin, 1, 'Below')
  const tab = await Tab.open(browser, proxy.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  for (const name of ['Devices', 'Users', 'Metrics', 'Home']) {
    await page.getByRole('link', { name, exact: true }).click()
    await page.getByRole('heading', { name, exact: true }).waitFor()
  }
  expect(new URL(page.url()).pathname).toBe(`${PATH_PREFIX}/dashboard/home`)
  await tab.toggle(page.locator(`[data-uid="${device.uid}"] [data-relay="0"]`))
  await page.locator('[data-relay="0"][data-state="on"]').waitFor()
  await page.getByText('Live', { exact: true }).waitFor()
  await page.reload()
  await page.getByRole('button', { name: 'Your account' }).waitFor()
  // A server at the root of the same host has a session of its own.
  expect(await page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith('hexa.session')))).toEqual([`hexa.session@${PATH_PREFIX}`])
  tab.expectNoFaults()
  await tab.close()
})

test('a proxy that blocks WebSockets is reported, and lists are still refreshed', async () => {
  await server.createDevice(server.admin, 1, 'Behind')
  proxy.upgrades = false
  const tab = await Tab.open(browser, proxy.url)
  const { page } = tab
  tab.allowedFaults = [/WebSocket/]
  await tab.signIn(server.admin.email)
  await tab.go('/home')
  await page.getByRole('status', { name: 'a proxy may be blocking WebSockets' }).waitFor()
  await page.getByText('Behind').waitFor()
  await tab.expectAccessible('a page that is not live')
  proxy.upgrades = true
  await page.evaluate(() => window.dispatchEvent(new Event('online')))
  await page.getByText('Live', { exact: true }).waitFor()
  tab.expectNoFaults()
  await tab.close()
})
