import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, Tab } from './browser'
import { Server, until } from './server'

let server: Server
let browser: Browser

beforeAll(async () => {
  ;[server, browser] = await Promise.all([Server.start({ env: { COMMAND_TIMEOUT_MS: '600' } }), launch()])
})

afterAll(async () => {
  await browser.close()
  await server.stop()
})

async function openDevice(relays = 4) {
  const device = await server.createDevice(server.admin, relays, 'Porch')
  const tab = await Tab.open(browser, server.url)
  await tab.signIn(server.admin.email)
  await tab.go(`/devices/${device.uid}`)
  const relay = tab.page.locator('[data-relay="0"]')
  await tab.page.getByText('Live', { exact: true }).waitFor()
  return { device, tab, relay }
}

test('a click switches the relay of the device, and the page shows the confirmed state', async () => {
  const { device, tab, relay } = await openDevice()
  await tab.toggle(relay)
  await relay.getByText(/confirmed in [\d.]+ ms/).waitFor()
  await tab.page.locator('[data-relay="0"][data-state="on"]').waitFor()
  expect(device.state[0]).toBe(true)
  expect(device.commands.map((c) => [c.type, c.relay, c.state])).toEqual([['set_relay', 0, true]])
  // The history shows it without a reload.
  await tab.page.getByText('switch on relay 0').waitFor()
  await tab.toggle(relay)
  await tab.page.locator('[data-relay="0"][data-state="off"]').waitFor()
  expect(device.state[0]).toBe(false)
  tab.expectNoFaults()
  await tab.close()
})

test('while the device has not answered, the command is pending and the old state is shown', async () => {
  const { device, tab, relay } = await openDevice()
  device.delayMs = 300
  await tab.toggle(relay)
  await tab.page.locator('[data-relay="0"][data-command="pending"][data-state="off"]').waitFor()
  expect(await relay.getByRole('switch').getAttribute('aria-disabled')).toBe('true')
  // Another click meanwhile does nothing. (Playwright's own click would wait until the switch is enabled.)
  await relay.getByRole('switch').evaluate((button) => (button as HTMLElement).click())
  await tab.page.locator('[data-relay="0"][data-command="acked"][data-state="on"]').waitFor()
  await server.call('GET', `/api/v1/devices/${device.uid}/state`, server.admin.token)
  expect(device.commands.length).toBe(1)
  tab.expectNoFaults()
  await tab.close()
})

test('a refusal is shown with code, message and request id, which can be copied', async () => {
  const { device, tab, relay } = await openDevice()
  device.behaviour = 'reject'
  tab.allowedFaults = [/502/]
  await tab.toggle(relay)
  await tab.page.locator('[data-relay="0"][data-command="failed"][data-state="off"]').waitFor()
  await relay.getByText('device_rejected').waitFor()
  const notification = tab.page.getByRole('alert').filter({ hasText: 'Relay 0 was not switched' })
  await notification.getByText(/^req-[0-9a-f]+$/).waitFor()
  await notification.getByRole('button', { name: 'Copy' }).waitFor()
  // The notification disappears, or is turned off; the relay itself shows the same, also by the keyboard.
  await relay.getByRole('button', { name: 'device_rejected' }).focus()
  await tab.page.keyboard.press('Enter')
  const more = tab.page.getByRole('dialog')
  await more.getByText('the gate is moving').waitFor()
  await more.getByText(/^req-[0-9a-f]+$/).waitFor()
  await tab.expectAccessible('the details of a refusal')
  await tab.page.keyboard.press('Escape')
  // A failure is shown until a newer state is known.
  device.setByHand(0, true)
  await tab.page.locator('[data-relay="0"][data-command="idle"][data-state="on"]').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('a command without an answer is unknown, never off, until the device reports', async () => {
  const { device, tab, relay } = await openDevice()
  device.behaviour = 'silent'
  tab.allowedFaults = [/504/]
  await tab.toggle(relay)
  await tab.page.locator('[data-relay="0"][data-command="unknown"]').waitFor()
  expect(device.commands.length).toBe(1)
  // It had executed the command, and reports so late.
  device.setByHand(0, true)
  await tab.page.locator('[data-relay="0"][data-command="idle"][data-state="on"]').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('events of the device are shown at once: a switch by hand, a button, disconnect and reconnect', async () => {
  const { device, tab } = await openDevice()
  device.setByHand(2, true)
  await tab.page.locator('[data-relay="2"][data-state="on"]').waitFor()
  device.press(1)
  await tab.page.getByText('input 1 double_click').waitFor()
  device.disconnect()
  await tab.page.getByText('Not connected', { exact: true }).waitFor()
  expect(await tab.page.getByRole('switch').first().isDisabled()).toBe(true)
  await device.connect(server.url)
  await until('it is switched again', () => tab.page.getByRole('switch').first().isEnabled())
  tab.expectNoFaults()
  await tab.close()
})

test('64 relays, and all of them at once', async () => {
  const { device, tab } = await openDevice(64)
  expect(await tab.page.locator('[data-relay]').count()).toBe(64)
  await tab.page.getByRole('button', { name: 'All on' }).click()
  await until('all are on', async () => (await tab.page.locator('[data-relay][data-state="on"]').count()) === 64)
  expect(device.state.every(Boolean)).toBe(true)
  tab.expectNoFaults()
  await tab.close()
})

test('a command for all relays is pending, confirmed and unknown like one for a single relay', async () => {
  const { device, tab } = await openDevice()
  const all = tab.page.locator('[data-all]')
  device.delayMs = 300
  await all.getByRole('button', { name: 'All on' }).click()
  await tab.page.locator('[data-all][data-command="pending"]').waitFor()
  await all.getByText(/confirmed in/).waitFor()
  device.behaviour = 'silent'
  tab.allowedFaults = [/504/]
  await all.getByRole('button', { name: 'All off' }).click()
  await tab.page.locator('[data-all][data-command="unknown"]').waitFor()
  // It had executed the command.
  device.behaviour = 'ack'
  for (const index of device.state.keys()) device.setByHand(index, false)
  await tab.page.locator('[data-all][data-command="idle"]').waitFor()
  await until('all are off', async () => (await tab.page.locator('[data-relay][data-state="off"]').count()) === 4)
  tab.expectNoFaults()
  await tab.close()
})

test('switching by the keyboard keeps the focus', async () => {
  const { device, tab, relay } = await openDevice()
  device.delayMs = 200
  await relay.getByRole('switch').focus()
  await tab.page.keyboard.press('Space')
  await tab.page.locator('[data-relay="0"][data-command="pending"]').waitFor()
  await tab.page.locator('[data-relay="0"][data-state="on"][data-command="acked"]').waitFor()
  await tab.page.keyboard.press('Space')
  await tab.page.locator('[data-relay="0"][data-state="off"][data-command="acked"]').waitFor()
  expect(device.commands.map((c) => c.state)).toEqual([true, false])
  tab.expectNoFaults()
  await tab.close()
})

test('a proxy that gives up on the server leaves a command unknown, not failed', async () => {
  const { device, tab, relay } = await openDevice()
  tab.allowedFaults = [/502/]
  await tab.page.route('**/relays/0', (route) => route.fulfill({ status: 502, body: '<html>Bad Gateway</html>', headers: { 'content-type': 'text/html' } }))
  await tab.toggle(relay)
  await tab.page.locator('[data-relay="0"][data-command="unknown"]').waitFor()
  device.setByHand(0, true)
  await tab.page.locator('[data-relay="0"][data-command="idle"][data-state="on"]').waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('sharing for an hour ends an hour from now, whatever the clock of the browser says', async () => {
  const grantee = await server.register('greta@hexa.local', 'Greta')
  const device = await server.createDevice(server.admin, 1, 'Lent')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await page.clock.install({ time: Date.now() + 3_600_000 })
  await tab.signIn(server.admin.email)
  await tab.go(`/devices/${device.uid}`)
  await page.getByLabel('Share with').fill(grantee.email)
  await page.getByRole('combobox', { name: 'Duration' }).click()
  await page.getByRole('option', { name: '1 hour' }).click()
  await page.getByRole('button', { name: 'Share', exact: true }).click()
  await page.getByText(/expires in/).waitFor()
  const grants = await server.call<{ items: { expires_at: string }[] }>('GET', `/api/v1/devices/${device.uid}/grants`, server.admin.token)
  const left = Date.parse(grants.items[0]?.expires_at ?? '') - Date.now()
  expect(Math.abs(left - 3_600_000)).toBeLessThan(60_000)
  tab.expectNoFaults()
  await tab.close()
})

test('an admin sees a device of another account live, and manages it', async () => {
  const user = await server.register('olaf@hexa.local', 'Olaf Owner')
  const device = await server.createDevice(user, 2, 'Cellar')
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/devices')
  const row = page.locator(`[data-uid="${device.uid}"]`)
  await row.getByText('0/2').waitFor()
  device.setByHand(1, true)
  await row.getByText('1/2').waitFor()
  await row.click()
  await page.getByText('as admin').waitFor()
  await page.getByRole('button', { name: 'Rotate token' }).click()
  await page.getByRole('button', { name: 'Rotate', exact: true }).click()
  const token = await page.locator('[data-secret]').innerText()
  expect(token.length).toBeGreaterThan(20)
  await page.getByRole('dialog', { name: 'New device token' }).getByRole('button', { name: 'Close' }).click()
  await page.getByRole('button', { name: 'Delete', exact: true }).click()
  const gone = page.getByRole('dialog', { name: 'Delete Cellar' })
  expect(await gone.getByRole('button', { name: 'Delete' }).isDisabled()).toBe(true)
  await gone.getByLabel(/^Type /).fill(device.uid)
  tab.allowedFaults = [/404/]
  await gone.getByRole('button', { name: 'Delete' }).click()
  await page.getByRole('heading', { name: 'Devices' }).waitFor()
  await until('the row is gone', async () => (await row.count()) === 0)
  tab.expectNoFaults()
  await tab.close()
})

test('a device is claimed by its code, named, shared, and released', async () => {
  const user = await server.register('clara@hexa.local', 'Clara')
  const grantee = await server.register('gustav@hexa.local', 'Gustav')
  const device = await server.createDevice(user, 2)
  const { claim_code } = await server.call<{ claim_code: string }>('POST', `/api/v1/devices/${device.uid}/release`, user.token)
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(user.email)
  await page.getByText('No devices yet').waitFor()
  await page.getByRole('button', { name: 'Claim a device' }).click()
  tab.allowedFaults = [/404/]
  await page.getByLabel('Claim code').fill('00000-00000')
  await page.getByRole('button', { name: 'Claim', exact: true }).click()
  await page.getByText('not_found').waitFor()
  await page.getByLabel('Claim code').fill(claim_code)
  await page.getByRole('button', { name: 'Claim', exact: true }).click()
  await page.getByRole('heading', { name: 'HX-4', exact: true }).waitFor()
  await page.getByLabel('Device', { exact: true }).fill('Attic')
  await page.getByLabel('Relay 1', { exact: true }).fill('Fan')
  await page.getByRole('button', { name: 'Save names' }).click()
  await page.getByRole('heading', { name: 'Attic' }).waitFor()
  await page.getByRole('switch', { name: 'Fan of Attic' }).waitFor()
  await page.getByLabel('Share with').fill(grantee.email)
  await page.getByRole('button', { name: 'Share', exact: true }).click()
  await page.getByText('can switch · whole device').waitFor()
  const theirs = await server.call<{ items: { uid: string }[] }>('GET', '/api/v1/devices', grantee.token)
  expect(theirs.items.map((d) => d.uid)).toEqual([device.uid])
  await page.getByRole('button', { name: 'End', exact: true }).click()
  await page.getByRole('button', { name: 'End sharing' }).click()
  await page.getByText('Not shared').waitFor()
  await page.getByRole('button', { name: 'Release' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Release' }).click()
  expect(await page.locator('[data-secret]').innerText()).toMatch(/^[0-9A-Z]{5}-[0-9A-Z]{5}$/)
  tab.expectNoFaults()
  await tab.close()
})
