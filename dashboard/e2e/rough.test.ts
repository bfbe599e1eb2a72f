/** Faults of networks and proxies, and quick clicks. */
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, Tab } from './browser'
import { PASSWORD, Server, until } from './server'

let server: Server
let browser: Browser

beforeAll(async () => {
  ;[server, browser] = await Promise.all([Server.start({ env: { COMMAND_TIMEOUT_MS: '600' } }), launch()])
})

afterAll(async () => {
  await browser.close()
  await server.stop()
})

test.each([
  ['an empty object', '{}'],
  ['nothing', 'null'],
  ['a list of nothing', '{"items":[null],"next_cursor":null}'],
])('%s in the place of a device or list is reported, and can be requested again', async (_, body) => {
  const device = await server.createDevice(server.admin, 1, 'Shapely')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  const wrong = { status: 200, body, headers: { 'content-type': 'application/json' } }
  for (const [path, there] of [[`/devices/${device.uid}`, '[data-relay="0"]'], ['/devices', '[data-uid]'], ['/users', '[data-user]'], ['/audit', '[role=listitem]']] as const) {
    await page.route(/\/api\/v1\/(devices|admin\/users|admin\/audit)/, (route) => route.fulfill(wrong))
    await tab.page.goto(`${server.url}/dashboard${path}`)
    await page.getByRole('alert').getByText('malformed_answer').first().waitFor()
    await page.unroute(/\/api\/v1\/(devices|admin\/users|admin\/audit)/)
    await page.getByRole('button', { name: 'Try again' }).first().click()
    await page.locator(there).first().waitFor()
  }
  tab.expectNoFaults()
  await tab.close()
})

test('a click without a network fails at once, and is not repeated later', async () => {
  const device = await server.createDevice(server.admin, 1, 'Offline')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go(`/devices/${device.uid}`)
  await page.locator('[data-relay="0"]').waitFor()
  tab.allowedFaults = [/ERR_|Failed to load|WebSocket/]
  await tab.context.setOffline(true)
  await page.getByRole('button', { name: 'Release' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Release' }).click()
  await page.getByRole('dialog').getByText('unreachable').waitFor()
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click()
  const requested: string[] = []
  page.on('request', (request) => requested.push(`${request.method()} ${request.url()}`))
  await tab.context.setOffline(false)
  await page.getByText('Live', { exact: true }).waitFor()
  expect(requested.filter((line) => line.includes('/release'))).toEqual([])
  const still = await server.call<{ claimed_at: string | null }>('GET', `/api/v1/devices/${device.uid}`, server.admin.token)
  expect(still.claimed_at).not.toBeNull()
  tab.expectNoFaults()
  await tab.close()
})

test('a command of one device is not shown at another', async () => {
  const slow = await server.createDevice(server.admin, 1, 'Slow one')
  const other = await server.createDevice(server.admin, 1, 'Other one')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  // Both are in the page's cache.
  for (const { uid } of [other, slow]) await tab.go(`/devices/${uid}`)
  const goTo = async (name: string) => {
    await page.keyboard.press('Control+k')
    await page.getByRole('combobox', { name: 'Page or device' }).fill(name)
    await page.getByRole('option', { name: new RegExp(`^${name}`) }).waitFor()
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name, exact: true }).waitFor()
  }
  await goTo('Other one')
  await goTo('Slow one')
  slow.delayMs = 400
  await tab.toggle(page.locator('[data-relay="0"]'))
  await page.locator('[data-command="pending"]').waitFor()
  await page.evaluate(() => history.back())
  await page.getByRole('heading', { name: 'Other one' }).waitFor()
  expect(await page.locator('[data-relay="0"]').getAttribute('data-command')).toBe('idle')
  await tab.toggle(page.locator('[data-relay="0"]'))
  await until('the other one got a command', () => other.commands.length === 1)
  tab.expectNoFaults()
  await tab.close()
})

test('an unknown outcome ends with the next report, also when the device missed the command', async () => {
  const device = await server.createDevice(server.admin, 1, 'Forgetful')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go(`/devices/${device.uid}`)
  await page.getByText('Live', { exact: true }).waitFor()
  device.behaviour = 'silent'
  tab.allowedFaults = [/504/]
  await tab.toggle(page.locator('[data-relay="0"]'))
  await page.locator('[data-relay="0"][data-command="unknown"]').waitFor()
  device.report()
  await page.locator('[data-relay="0"][data-command="idle"][data-state="off"]').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('the next account gets its own page without a reload', async () => {
  const user = await server.register('next@hexa.local', 'Next')
  await server.createDevice(user, 1, 'Of the next')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await page.getByRole('link', { name: 'Devices', exact: true }).click()
  await page.locator('[data-uid]').first().waitFor()
  const enter = async (email: string) => {
    await page.getByRole('button', { name: 'Your account' }).click()
    await page.getByRole('menuitem', { name: 'Sign out' }).click()
    await page.getByLabel('E-mail').fill(email)
    await page.locator('input[type=password]').fill(PASSWORD)
    await page.getByRole('button', { name: 'Sign in' }).click()
  }
  await enter(user.email)
  await page.getByRole('heading', { name: 'Home' }).waitFor()
  await page.getByText('Of the next').waitFor()
  expect(await page.getByRole('link', { name: 'Users', exact: true }).count()).toBe(0)
  await page.getByRole('link', { name: 'Devices', exact: true }).click()
  await until('their device alone', async () => (await page.locator('[data-uid]').count()) === 1)
  await enter(server.admin.email)
  await page.getByRole('heading', { name: 'Overview' }).waitFor()
  await page.getByText('Live', { exact: true }).waitFor({ state: 'detached' })
  await page.getByRole('link', { name: 'Devices', exact: true }).click()
  await page.getByRole('columnheader', { name: 'Owner' }).waitFor()
  await page.getByText('Live', { exact: true }).waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('a dialog stays until the answer is there', async () => {
  const device = await server.createDevice(server.admin, 1, 'Patient')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go(`/devices/${device.uid}`)
  let answer: () => void = () => undefined
  await page.route('**/token/rotate', async (route) => {
    await new Promise<void>((go) => (answer = go))
    await route.continue()
  })
  await page.getByRole('button', { name: 'Rotate token' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Rotate' }).click()
  await page.getByRole('dialog').locator('button[data-loading]').waitFor()
  await page.keyboard.press('Escape')
  expect(await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).isDisabled()).toBe(true)
  answer()
  await page.locator('[data-secret]').waitFor()
  await page.keyboard.press('Escape')
  // The secret is shown only once: no key may close it.
  await page.locator('[data-secret]').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('after a lost answer, another attempt gives the same new token', async () => {
  const device = await server.createDevice(server.admin, 1, 'Twice')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go(`/devices/${device.uid}`)
  tab.allowedFaults = [/ERR_|Failed to load/]
  const keys: (string | undefined)[] = []
  let lost = ''
  await page.route('**/token/rotate', async (route) => {
    keys.push(route.request().headers()['idempotency-key'])
    if (keys.length > 1) return route.continue()
    // The request takes effect, and its answer is lost.
    lost = ((await (await route.fetch()).json()) as { device_token: string }).device_token
    return route.abort()
  })
  const rotate = async () => {
    await page.getByRole('button', { name: 'Rotate token' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Rotate' }).click()
  }
  await rotate()
  await page.getByRole('dialog').getByText('unreachable').waitFor()
  // Also after a cancelled dialog.
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click()
  await rotate()
  expect(await page.locator('[data-secret]').innerText()).toBe(lost)
  expect(keys[0]).toMatch(/^[0-9a-f]{32}$/)
  expect(keys[1]).toBe(keys[0])
  await page.getByRole('dialog', { name: 'New device token' }).getByRole('button', { name: 'Close' }).click()
  await page.getByRole('dialog').first().waitFor({ state: 'detached' })
  await rotate()
  await page.locator('[data-secret]').waitFor()
  expect(keys[2]).not.toBe(keys[0])
  tab.expectNoFaults()
  await tab.close()
})

test('on a phone, the keyboard skips the closed menu', async () => {
  const tab = await Tab.open(browser, server.url, { viewport: { width: 390, height: 800 } })
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/preferences')
  const users = page.getByRole('link', { name: 'Users', exact: true })
  expect(await users.count()).toBe(0)
  await page.getByRole('button', { name: 'Open the menu' }).click()
  await users.focus()
  await page.keyboard.press('Escape')
  await until('it is closed', async () => (await users.count()) === 0)
  tab.expectNoFaults()
  await tab.close()
})
