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

test('hostile names are text everywhere', async () => {
  const device = await server.device(server.admin, 2, HOSTILE)
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
  await tab.flip(page.locator('[data-relay="0"]'))
  await page.locator('[data-relay="0"][data-state="on"]').waitFor()
  // In a notice as well.
  device.mood = 'reject'
  tab.expected = [/502/]
  await tab.flip(page.locator('[data-relay="0"]'))
  await page.getByText(`${WORSE} was not switched`).waitFor()
  await server.call('PUT', '/api/v1/preferences', server.admin.token, { dashboard_settings: null, dashboard_layout: null, device_view_state: null })
  tab.clean()
  await tab.close()
})

test('the server gone is said, and forgotten when it is back', async () => {
  const device = await server.device(server.admin, 1, 'Survivor')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go(`/devices/${device.uid}`)
  await page.getByText('Live', { exact: true }).waitFor()
  tab.expected = [/ERR_|Failed to load|WebSocket|401/]
  await server.kill()
  await page.getByText('Not live', { exact: true }).waitFor()
  await tab.flip(page.locator('[data-relay="0"]'))
  // Nobody knows what became of it; it is not shown as failed.
  await page.locator('[data-relay="0"][data-command="unknown"]').waitFor()
  await server.restart()
  await device.connect(server.url)
  await until('live again', () => page.getByText('Live', { exact: true }).isVisible())
  device.turn(0, true)
  await page.locator('[data-relay="0"][data-state="on"]').waitFor()
  tab.clean()
  await tab.close()
})

test('a network that falls silent is noticed, though no socket was closed', async () => {
  const device = await server.device(server.admin, 1, 'Silent')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  let deaf = false
  await page.routeWebSocket('**/ws/client?*', (ws) => {
    const there = ws.connectToServer()
    const dead = () => deaf
    ws.onMessage((message) => {
      if (!dead()) there.send(message)
    })
    there.onMessage((message) => {
      if (!dead()) ws.send(message)
    })
  })
  await tab.signIn(server.admin.email)
  await tab.go(`/devices/${device.uid}`)
  await page.getByText('Live', { exact: true }).waitFor()
  deaf = true
  device.turn(0, true)
  // As a machine that wakes up: the socket is asked at once whether it still lives.
  await page.evaluate(() => window.dispatchEvent(new Event('online')))
  await page.getByText('Not live', { exact: true }).waitFor()
  deaf = false
  await page.getByText('Live', { exact: true }).waitFor()
  await page.locator('[data-relay="0"][data-state="on"]').waitFor()
  tab.clean()
  await tab.close()
})

test('a server of another version has other files: the page is loaded anew', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  tab.expected = [/404|Failed to|could not be loaded/]
  let [old, asked] = [true, 0]
  // The page that is open is of the former version: its files are gone, and the server's page names others.
  await page.route('**/assets/UsersPage-*.js', (route) => (old ? route.fulfill({ status: 404, body: '{}' }) : route.continue()))
  await page.route('**/dashboard/', async (route) => {
    asked += 1
    await route.fulfill({ body: '<script type="module" src="/dashboard/assets/index-other.js"></script>', contentType: 'text/html' })
  })
  page.on('domcontentloaded', () => (old = false))
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await until('the page is loaded anew', () => !old && asked > 0)
  await page.locator('[data-user="admin@hexa.local"]').waitFor()
  tab.clean()
  await tab.close()
})

test('a part that cannot be loaded is said, and loaded when somebody tries again', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  tab.expected = [/ERR_|Failed to|could not be loaded/]
  await page.route('**/assets/UsersPage-*.js', (route) => route.abort())
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await page.getByText('not_loaded').waitFor()
  await page.unroute('**/assets/UsersPage-*.js')
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.locator('[data-user="admin@hexa.local"]').waitFor()
  tab.clean()
  await tab.close()
})

test('a part is loaded though the browser never fetches again what failed, as older ones do', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  await page.evaluate(() => Object.assign(window, { same: true }))
  tab.expected = [/ERR_|Failed to|could not be loaded/]
  // What failed under this address is never had under it again.
  await page.route(/\/assets\/UsersPage-[^?]*\.js$/, (route) => route.abort())
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await page.getByText('not_loaded').waitFor()
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.locator('[data-user="admin@hexa.local"]').waitFor()
  expect(await page.evaluate(() => 'same' in window)).toBe(true)
  tab.clean()
  await tab.close()
})

test('where the browser keeps the failure of what a part needs, trying again loads the page anew and loses nothing', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  await page.evaluate(() => Object.assign(window, { same: true }))
  tab.expected = [/ERR_|Failed to|could not be loaded/]
  let fresh = false
  page.on('domcontentloaded', () => (fresh = true))
  await page.route('**/assets/UsersPage-*.js*', (route) => (fresh ? route.continue() : route.abort()))
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await page.getByText('not_loaded').waitFor()
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.locator('[data-user="admin@hexa.local"]').waitFor()
  expect(await page.evaluate(() => 'same' in window)).toBe(false)
  tab.clean()
  await tab.close()
})

test('one device that is gone leaves the others of the list live', async () => {
  const [kept, gone] = [await server.device(server.admin, 1, 'Twin kept'), await server.device(server.admin, 1, 'Twin gone')]
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/devices?search=twin')
  await until('both', async () => (await page.locator('[data-uid]').count()) === 2)
  await page.getByText('Live', { exact: true }).waitFor()
  await server.call('DELETE', `/api/v1/devices/${gone.uid}`, server.admin.token)
  await until('one is gone', async () => (await page.locator('[data-uid]').count()) === 1)
  kept.turn(0, true)
  await page.locator(`[data-uid="${kept.uid}"]`).getByText('1/1').waitFor()
  tab.clean()
  await tab.close()
})

const answering = (status: number, body: string, headers: Record<string, string> = {}) => (route: Route) =>
  route.fulfill({ status, body, headers: { 'content-type': 'application/json', ...headers } })

test.each([
  ['a fault of the server', answering(500, '{"code":"internal_error","message":"a fault","details":null,"request_id":"req-1"}'), 'req-1'],
  ['a proxy that speaks for itself', answering(502, '<html>Bad Gateway</html>'), 'not_an_answer'],
  ['half an answer', answering(200, '{"items": [{'), 'malformed_answer'],
  ['too many requests', answering(429, '{"code":"rate_limited","message":"slow down","details":null,"request_id":"req-2"}', { 'retry-after': '1' }), 'rate_limited'],
])('%s is shown with a way on', async (_, answer, said) => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  tab.expected = [/Failed to load resource/]
  await page.route('**/api/v1/admin/users?*', answer)
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await page.getByRole('alert').getByText(said).first().waitFor()
  await page.unroute('**/api/v1/admin/users?*')
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.locator('[data-user="admin@hexa.local"]').waitFor()
  tab.clean()
  await tab.close()
})

test('a slow answer that nobody waits for any more is given up', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  const given: string[] = []
  page.on('requestfailed', (request) => given.push(request.url()))
  await page.route('**/api/v1/admin/users?*', () => new Promise(() => undefined))
  await page.getByRole('link', { name: 'Users', exact: true }).click()
  await page.locator('[aria-busy="true"]').waitFor()
  await page.getByRole('link', { name: 'Audit', exact: true }).click()
  await page.getByRole('heading', { name: 'Audit' }).waitFor()
  await until('the request was cancelled', () => given.some((url) => url.includes('/admin/users')))
  tab.clean()
  await tab.close()
})

test('a clock that is an hour off changes nothing but what is said of it', async () => {
  await server.device(server.admin, 1, 'Punctual')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await page.clock.install({ time: Date.now() + 3_600_000 })
  await tab.signIn(server.admin.email)
  await tab.go('/devices')
  await page.locator('[data-uid]', { hasText: 'Punctual' }).getByText('online').waitFor()
  await page.getByText('clock differs').waitFor()
  await tab.go('/audit')
  await page.getByText('just now').first().waitFor()
  tab.clean()
  await tab.close()
})

test('nothing at all is taught, not shown as an error', async () => {
  const user = await server.register('new@hexa.local', 'New')
  const tab = await Tab.open(browser, server.url, { viewport: { width: 320, height: 640 } })
  await tab.signIn(user.email)
  await tab.page.getByText('No devices yet').waitFor()
  await tab.go('/devices')
  await tab.page.getByText('No devices yet').waitFor()
  expect(await tab.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)).toBeLessThanOrEqual(0)
  tab.clean()
  await tab.close()
})
