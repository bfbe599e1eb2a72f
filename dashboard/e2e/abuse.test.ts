import type { Browser, Route } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, Tab } from './browser'
import { Server, until } from './server'

let server: Server
let browser: Browser

const HOSTILE = '</script><img src=x onerror=alert(1)>'
const WORSE = '"><svg onload=alert(2)>{{7*7}}${7*7}'

beforeAll(async () => {
  ;[server, browser] = await Promise.all([Server.start(), launch()])
})

afterAll(async () => {
  await browser.close()
  await server.stop()
})

test('hostile names are shown as text everywhere', async () => {
  const device = await server.createDevice(server.admin, 2, HOSTILE)
  await server.call('PATCH', `/api/v1/devices/${device.uid}`, server.admin.token, { relays: [{ index: 0, name: WORSE }] })
  const user = await server.register('mallory@hexa.local', HOSTILE)
  await server.call('POST', `/api/v1/devices/${device.uid}/grants`, server.admin.token, { email: user.email, access: 'control' })
  await server.call('PUT', '/api/v1/preferences', server.admin.token, {
    dashboard_settings: { scheme: HOSTILE, collapsed: 7, density: ['x'] },
    dashboard_layout: { order: { overview: [HOSTILE, 3] } },
    device_view_state: { search: 12, last_device: HOSTILE },
  })
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  for (const path of ['/overview', '/devices', `/devices/${device.uid}`, '/users', '/audit', '/home', '/preferences', '/account']) {
    await tab.go(path)
    expect(await page.locator('img[src="x"], svg[onload]').count(), path).toBe(0)
  }
  await tab.go(`/devices/${device.uid}`)
  await page.getByRole('heading', { name: HOSTILE }).waitFor()
  expect(await page.title()).toContain(HOSTILE)
  await page.getByRole('switch', { name: `${WORSE} of ${HOSTILE}` }).waitFor()
  await tab.toggle(page.locator('[data-relay="0"]'))
  await page.locator('[data-relay="0"][data-state="on"]').waitFor()
  // In a notification as well.
  device.behaviour = 'reject'
  tab.allowedFaults = [/502/]
  await tab.toggle(page.locator('[data-relay="0"]'))
  await page.getByText(`${WORSE} was not switched`).waitFor()
  await server.call('PUT', '/api/v1/preferences', server.admin.token, { dashboard_settings: null, dashboard_layout: null, device_view_state: null })
  tab.expectNoFaults()
  await tab.close()
})

test('an unreachable server is shown, until it is back', async () => {
  const device = await server.createDevice(server.admin, 1, 'Survivor')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go(`/devices/${device.uid}`)
  await page.getByText('Live', { exact: true }).waitFor()
  tab.allowedFaults = [/ERR_|Failed to load|WebSocket|401/]
  await server.kill()
  await page.getByText('Not live', { exact: true }).waitFor()
  await tab.toggle(page.locator('[data-relay="0"]'))
  // The outcome is unknown, and must not be shown as a failure.
  await page.locator('[data-relay="0"][data-command="unknown"]').waitFor()
  await server.restart()
  await device.connect(server.url)
  await until('live again', () => page.getByText('Live', { exact: true }).isVisible())
  device.setByHand(0, true)
  await page.locator('[data-relay="0"][data-state="on"]').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('a network that fails silently is noticed, although no socket was closed', async () => {
  const device = await server.createDevice(server.admin, 1, 'Silent')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  let silent = false
  await page.routeWebSocket('**/ws/client?*', (ws) => {
    const there = ws.connectToServer()
    const isSilent = () => silent
    ws.onMessage((message) => {
      if (!isSilent()) there.send(message)
    })
    there.onMessage((message) => {
      if (!isSilent()) ws.send(message)
    })
  })
  await tab.signIn(server.admin.email)
  await tab.go(`/devices/${device.uid}`)
  await page.getByText('Live', { exact: true }).waitFor()
  silent = true
  device.setByHand(0, true)
  // As on a machine that wakes up: the page pings at once.
  await page.evaluate(() => window.dispatchEvent(new Event('online')))
  await page.getByText('Not live', { exact: true }).waitFor()
  silent = false
  await page.getByText('Live', { exact: true }).waitFor()
  await page.locator('[data-relay="0"][data-state="on"]').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('a server of another version has other files, and the page reloads', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  tab.allowedFaults = [/404|Failed to|could not be loaded/]
  let [old, requests] = [true, 0]
  // The open page is of the former version: its files are gone, and the server's page names others.
  await page.route('**/assets/UsersPage-*.js', (route) => (old ? route.fulfill({ status: 404, body: '{}' }) : route.continue()))
  await page.route('**/dashboard/', async (route) => {
    requests += 1
    await route.fulfill({ body: '<script type="module" src="/dashboard/assets/index-other.js"></script>', contentType: 'text/html' })
  })
  page.on('domcontentloaded', () => (old = false))
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await until('the page has reloaded', () => !old && requests > 0)
  await page.locator('[data-user="admin@hexa.local"]').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('a module that fails to load is reported, and loaded by another attempt', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  tab.allowedFaults = [/ERR_|Failed to|could not be loaded/]
  await page.route('**/assets/UsersPage-*.js', (route) => route.abort())
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await page.getByText('not_loaded').waitFor()
  await page.unroute('**/assets/UsersPage-*.js')
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.locator('[data-user="admin@hexa.local"]').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('a module is loaded although the browser never fetches a failed URL again, as older ones do', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  await page.evaluate(() => Object.assign(window, { same: true }))
  tab.allowedFaults = [/ERR_|Failed to|could not be loaded/]
  // A URL that failed keeps failing.
  await page.route(/\/assets\/UsersPage-[^?]*\.js$/, (route) => route.abort())
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await page.getByText('not_loaded').waitFor()
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.locator('[data-user="admin@hexa.local"]').waitFor()
  expect(await page.evaluate(() => 'same' in window)).toBe(true)
  tab.expectNoFaults()
  await tab.close()
})

test('when the browser caches the failure of an imported file, another attempt reloads the page and keeps the session', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  await page.evaluate(() => Object.assign(window, { same: true }))
  tab.allowedFaults = [/ERR_|Failed to|could not be loaded/]
  let fresh = false
  page.on('domcontentloaded', () => (fresh = true))
  await page.route('**/assets/UsersPage-*.js*', (route) => (fresh ? route.continue() : route.abort()))
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await page.getByText('not_loaded').waitFor()
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.locator('[data-user="admin@hexa.local"]').waitFor()
  expect(await page.evaluate(() => 'same' in window)).toBe(false)
  tab.expectNoFaults()
  await tab.close()
})

test('the removal of one device leaves the others of the list live', async () => {
  const [remaining, removed] = [await server.createDevice(server.admin, 1, 'Twin remaining'), await server.createDevice(server.admin, 1, 'Twin removed')]
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/devices?search=twin')
  await until('both', async () => (await page.locator('[data-uid]').count()) === 2)
  await page.getByText('Live', { exact: true }).waitFor()
  await server.call('DELETE', `/api/v1/devices/${removed.uid}`, server.admin.token)
  await until('one is gone', async () => (await page.locator('[data-uid]').count()) === 1)
  remaining.setByHand(0, true)
  await page.locator(`[data-uid="${remaining.uid}"]`).getByText('1/1').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

const answering = (status: number, body: string, headers: Record<string, string> = {}) => (route: Route) =>
  route.fulfill({ status, body, headers: { 'content-type': 'application/json', ...headers } })

test.each([
  ['a fault of the server', answering(500, '{"code":"internal_error","message":"a fault","details":null,"request_id":"req-1"}'), 'req-1'],
  ['an answer of a proxy', answering(502, '<html>Bad Gateway</html>'), 'not_an_answer'],
  ['half an answer', answering(200, '{"items": [{'), 'malformed_answer'],
  ['too many requests', answering(429, '{"code":"rate_limited","message":"slow down","details":null,"request_id":"req-2"}', { 'retry-after': '1' }), 'rate_limited'],
])('%s is shown, with a button to try again', async (_, answer, expected) => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  tab.allowedFaults = [/Failed to load resource/]
  await page.route('**/api/v1/admin/users?*', answer)
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await page.getByRole('alert').getByText(expected).first().waitFor()
  await page.unroute('**/api/v1/admin/users?*')
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.locator('[data-user="admin@hexa.local"]').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('a slow request is cancelled when its page is left', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  const cancelled: string[] = []
  page.on('requestfailed', (request) => cancelled.push(request.url()))
  await page.route('**/api/v1/admin/users?*', () => new Promise(() => undefined))
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await page.locator('[aria-busy="true"]').waitFor()
  await page.getByRole('link', { name: 'Audit', exact: true }).click()
  await page.getByRole('heading', { name: 'Audit' }).waitFor()
  await until('the request was cancelled', () => cancelled.some((url) => url.includes('/admin/users')))
  tab.expectNoFaults()
  await tab.close()
})

test('a clock that is an hour wrong is reported, and changes nothing else', async () => {
  await server.createDevice(server.admin, 1, 'Punctual')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await page.clock.install({ time: Date.now() + 3_600_000 })
  await tab.signIn(server.admin.email)
  await tab.go('/devices')
  await page.locator('[data-uid]', { hasText: 'Punctual' }).getByText('online').waitFor()
  await page.getByText('clock differs').waitFor()
  await tab.go('/audit')
  await page.getByText('just now').first().waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('an empty account sees how to start, not an error', async () => {
  const user = await server.register('new@hexa.local', 'New')
  const tab = await Tab.open(browser, server.url, { viewport: { width: 320, height: 640 } })
  await tab.signIn(user.email)
  await tab.page.getByText('No devices yet').waitFor()
  await tab.go('/devices')
  await tab.page.getByText('No devices yet').waitFor()
  expect(await tab.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)).toBeLessThanOrEqual(0)
  tab.expectNoFaults()
  await tab.close()
})
