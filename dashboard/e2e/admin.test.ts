import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, Tab } from './browser'
import { Server, until } from './server'

let server: Server
let browser: Browser

beforeAll(async () => {
  ;[server, browser] = await Promise.all([Server.start(), launch()])
})

afterAll(async () => {
  await browser.close()
  await server.stop()
})

test('search and filters are applied by the server, and an empty result says so', async () => {
  const lamp = await server.createDevice(server.admin, 1, 'Searched lamp')
  const away = await server.createDevice(server.admin, 1, 'Searched and away')
  await server.createDevice(server.admin, 1, 'Something else')
  away.disconnect()
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/devices')
  await page.getByLabel('Search devices').fill('searched')
  await until('two rows', async () => (await page.locator('[data-uid]').count()) === 2)
  await page.getByRole('combobox', { name: 'Connection' }).click()
  await page.getByRole('option', { name: 'Online', exact: true }).click()
  await until('one row', async () => (await page.locator('[data-uid]').count()) === 1)
  expect(await page.locator('[data-uid]').getAttribute('data-uid')).toBe(lamp.uid)
  await page.getByLabel('Search devices').fill('100% nothing_')
  await page.getByText('No matching devices').waitFor()
  await page.getByRole('button', { name: 'Clear filters' }).click()
  await until('all rows', async () => (await page.locator('[data-uid]').count()) > 2)
  tab.expectNoFaults()
  await tab.close()
})

test('a device without a name is shown by its model, with its uid as the secondary text', async () => {
  const device = await server.createDevice(server.admin, 1)
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/devices')
  const row = page.locator(`[data-uid="${device.uid}"]`)
  await row.getByRole('link', { name: 'HX-4', exact: true }).waitFor()
  await row.getByText(device.uid, { exact: true }).waitFor()
  await tab.go('/home')
  const tile = page.getByRole('region', { name: `HX-4 (${device.uid})` })
  await tile.getByRole('heading', { name: /^HX-4/ }).waitFor()
  await tile.getByText(device.uid, { exact: true }).waitFor()
  await tile.getByRole('switch', { name: `Relay 0 of HX-4 (${device.uid})` }).waitFor()
  await tab.go(`/devices/${device.uid}`)
  await page.getByRole('heading', { name: 'HX-4', exact: true, level: 1 }).waitFor()
  expect(await page.title()).toContain('HX-4')
  await page.getByRole('definition').getByText(device.uid, { exact: true }).waitFor()
  await page.keyboard.press('Control+k')
  await page.getByRole('option', { name: /^HX-4.*last device/ }).waitFor()
  await page.getByRole('combobox', { name: 'Page or device' }).fill(device.uid)
  await page.getByRole('option', { name: new RegExp(`^HX-4.*${device.uid}`) }).waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('a row of the audit expands to all its fields', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/audit?action=account.')
  await page.getByRole('button', { name: /^Expand row/ }).first().click()
  await page.locator('[data-details]').getByText(server.admin.id).waitFor()
  await tab.expectAccessible('an expanded row of the audit')
  await page.getByRole('button', { name: /^Collapse row/ }).click()
  await until('it is collapsed', async () => (await page.locator('[data-details]').count()) === 0)
  tab.expectNoFaults()
  await tab.close()
})

test('an admin ends a session and a token of another account', async () => {
  const user = await server.register('sven@hexa.local', 'Sven')
  const made = await server.call<{ token: string }>('POST', '/api/v1/auth/tokens', user.token, { name: 'lost laptop', scopes: ['devices:read'] })
  await server.call('GET', '/api/v1/devices', made.token)
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/users')
  await page.getByRole('link', { name: 'Sven' }).click()
  await page.getByRole('heading', { name: 'Sven' }).waitFor()
  await page.getByRole('button', { name: 'Revoke' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click()
  await page.getByText('No tokens').waitFor()
  await expect(server.call('GET', '/api/v1/devices', made.token)).rejects.toThrow('401')
  await page.locator('[data-session]').getByRole('button', { name: 'End' }).click()
  await page.getByText('No sessions').waitFor()
  await expect(server.call('GET', '/api/v1/devices', user.token)).rejects.toThrow('401')
  await page.getByRole('link', { name: 'Show activity' }).click()
  await page.getByText('created an access token').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('the faults of a plugin are shown, and it is reset', async () => {
  const server = await Server.start({ hostile: true })
  type Plugin = { state: string; poisoned_devices: number }
  const hostile = () => server.call<Plugin>('GET', '/api/v1/admin/plugins/test.hostile', server.admin.token)
  await until('its plugin serves', async () => (await hostile()).state === 'active')
  const device = await server.createDevice(server.admin, 4, 'Wild', 'hybrid')
  // Three within a minute.
  for (let n = 0; n < 3; n += 1) device.misbehave('panic')
  await until('its device is quarantined', async () => (await hostile()).poisoned_devices === 1)
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/plugins')
  const card = page.locator('[data-card="plugins.test.hostile"]')
  await card.getByText('trap in').first().waitFor()
  await tab.screenshot('plugins-fault')
  await tab.expectAccessible('plugins with a fault')
  await card.getByRole('button', { name: 'Reset plugin' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Reset', exact: true }).click()
  await page.getByRole('dialog').waitFor({ state: 'hidden' })
  await until('no device is quarantined', async () => (await hostile()).poisoned_devices === 0)
  tab.expectNoFaults()
  await tab.close()
  await server.stop()
})

test('background work is listed, each with its last run', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/workers')
  const { items } = await server.call<{ items: { name: string; purpose: string }[] }>('GET', '/api/v1/admin/workers', server.admin.token)
  await page.locator('[data-worker]').first().waitFor()
  expect(await page.locator('[data-worker]').count()).toBe(items.length)
  const housekeeping = page.locator('[data-worker=housekeeping]')
  await housekeeping.getByText('every hour').waitFor()
  await housekeeping.getByText('waiting').waitFor()
  expect(await housekeeping.innerText()).toContain(items.find((w) => w.name === 'housekeeping')?.purpose)
  tab.expectNoFaults()
  await tab.close()
})

test('accounts become admins and back, are deactivated and activated', async () => {
  const user = await server.register('rita@hexa.local', 'Rita')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/users')
  const row = page.locator(`[data-user="${user.email}"]`)
  const choose = async (item: string, button: string) => {
    await row.getByRole('button', { name: 'Change' }).click()
    await page.getByRole('menuitem', { name: item }).click()
    await page.getByRole('dialog').getByRole('button', { name: button }).click()
    await page.getByRole('dialog').waitFor({ state: 'hidden' })
  }
  await choose('Grant admin role', 'Grant admin role')
  await row.getByText('admin', { exact: true }).waitFor()
  await choose('Remove admin role', 'Remove admin role')
  await row.getByText('user', { exact: true }).waitFor()
  await choose('Deactivate', 'Deactivate')
  await row.getByText('deactivated').waitFor()
  await choose('Activate', 'Activate')
  await row.getByText('active', { exact: true }).waitFor()
  // The last admin stays one, and the page says why.
  tab.allowedFaults = [/409/]
  const own = page.locator(`[data-user="${server.admin.email}"]`)
  await own.getByRole('button', { name: 'Change' }).click()
  await page.getByRole('menuitem', { name: 'Remove admin role' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Remove admin role' }).click()
  await page.getByText('last_admin').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('the audit is filtered and exported', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/audit')
  await page.getByLabel('Action').fill('account.')
  await until('accounts only', async () => {
    const texts = await page.getByRole('main').getByRole('listitem').allInnerTexts()
    return texts.length > 0 && texts.every((t) => /account|signed in|session|access token|password/.test(t))
  })
  expect(page.url()).toContain('action=account.')
  const loading = page.waitForEvent('download')
  await page.getByRole('button', { name: 'Export' }).click()
  await page.getByRole('menuitem', { name: 'CSV' }).click()
  const file = await (await loading).createReadStream()
  let text = ''
  for await (const part of file) text += String(part)
  const lines = text.trim().split('\r\n')
  expect(lines[0]).toMatch(/^seq,at,actor_kind/)
  expect(lines.length).toBeGreaterThan(2)
  expect(lines.slice(1).every((line) => line.includes(',account.'))).toBe(true)
  tab.expectNoFaults()
  await tab.close()
})

test('a long export shows its progress, and can be cancelled', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/audit')
  await page.route('**/audit/export?*', () => new Promise(() => undefined))
  await page.getByRole('button', { name: 'Export' }).click()
  await page.getByRole('menuitem', { name: 'JSON lines' }).click()
  await page.getByText(/^Exporting, \d+ KB$/).waitFor()
  await page.getByRole('button', { name: 'Cancel export' }).click()
  await until('it can be exported again', () => page.getByRole('button', { name: 'Export', exact: true }).isEnabled())
  expect(await page.getByRole('alert').count()).toBe(0)
  tab.expectNoFaults()
  await tab.close()
})
