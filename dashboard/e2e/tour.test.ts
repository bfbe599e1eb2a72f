import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, Tab } from './browser'
import { type FakeDevice, Server, until, type User } from './server'

let server: Server
let browser: Browser
let user: User
let lamp: FakeDevice

beforeAll(async () => {
  ;[server, browser] = await Promise.all([Server.start(), launch()])
  user = await server.register('ulla@hexa.local', 'Ulla User')
  const names = ['Porch', 'Kitchen', 'Pump room', 'Greenhouse']
  for (const name of names) {
    const device = await server.createDevice(server.admin, 4, name)
    if (name === 'Porch') lamp = device
  }
  const relays = [{ index: 0, name: 'Door light' }, { index: 1, name: 'Path' }, { index: 2, name: 'Bell' }]
  await server.call('PATCH', `/api/v1/devices/${lamp.uid}`, server.admin.token, { relays })
  await server.call('POST', `/api/v1/devices/${lamp.uid}/grants`, server.admin.token, { email: user.email, access: 'control', relays: [0, 1] })
  await server.createDevice(user, 2, 'Garage')
  await server.call('POST', '/api/v1/admin/invitations', server.admin.token, { note: 'The neighbour', email: 'nora@hexa.local' })
  for (const [relay, state] of [[0, true], [1, true], [1, false], [2, true]] as const)
    await server.call('POST', `/api/v1/devices/${lamp.uid}/relays/${relay}`, server.admin.token, { state })
  lamp.press(1)
})

afterAll(async () => {
  await browser.close()
  await server.stop()
})

const LOOKS = [
  { name: 'light', options: { colorScheme: 'light' } },
  { name: 'dark', options: { colorScheme: 'dark' } },
  { name: 'phone', options: { colorScheme: 'light', viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true } },
] as const

test.each(LOOKS)('every page of the console, $name', async ({ name, options }) => {
  const tab = await Tab.open(browser, server.url, options)
  const { page } = tab
  await page.goto(`${server.url}/`)
  await page.getByLabel('E-mail').waitFor()
  await tab.expectAccessible('sign in')
  await tab.screenshot(`login-${name}`)
  await tab.signIn(server.admin.email)
  const pages: [string, string, string][] = [
    ['/overview', 'overview', '[data-kpis]'],
    ['/devices', 'devices', '[data-uid]'],
    [`/devices/${lamp.uid}`, 'device', '[data-relay]'],
    ['/users', 'users', '[data-user]'],
    [`/users/${user.id}`, 'user', '[data-session]'],
    ['/invitations', 'invitations', '[data-invitation]'],
    ['/audit', 'audit', '[role=listitem]'],
    ['/plugins', 'plugins', '[data-card]'],
    ['/metrics', 'metrics', '.uplot canvas'],
    ['/workers', 'workers', '[data-worker=housekeeping]'],
    ['/preferences', 'preferences', '[data-card]'],
    ['/account', 'account', '[data-card]'],
    ['/home', 'home', '[data-relay]'],
  ]
  for (const [path, shot, there] of pages) {
    await tab.go(path)
    await page.locator(there).first().waitFor()
    await tab.screenshot(`${shot}-${name}`)
    await tab.expectAccessible(`${shot}, ${name}`)
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
    expect(wide, `${shot} is wider than the screen`).toBeLessThanOrEqual(0)
  }
  tab.expectNoFaults()
  await tab.close()
})

test('the overview counts what there is', async () => {
  const tab = await Tab.open(browser, server.url)
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  const kpis = await tab.page.locator('[data-kpis]').innerText()
  expect(kpis).toMatch(/Devices\s+5/)
  expect(kpis).toMatch(/Online\s+5\s+100 %/)
  tab.expectNoFaults()
  await tab.close()
})

test('a user sees the home page, and no pages of admins', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(user.email)
  await page.getByRole('heading', { name: 'Home' }).waitFor()
  // An own and a shared device, of which two relays are shared.
  await until('both devices', async () => (await page.locator('section[data-uid]').count()) === 2)
  expect(await page.locator(`section[data-uid="${lamp.uid}"] [data-relay]`).count()).toBe(2)
  for (const name of ['Overview', 'Users', 'Invitations', 'Audit', 'Plugins', 'Metrics']) expect(await page.getByRole('link', { name, exact: true }).count()).toBe(0)
  // The address of such a page shows the server's refusal.
  tab.allowedFaults = [/403/]
  await page.goto(`${server.url}/dashboard/users`)
  await page.getByText('forbidden').waitFor()
  await page.getByText('this needs the role admin').waitFor()
  await tab.screenshot('forbidden')
  tab.expectNoFaults()
  await tab.close()
})

test('everything can be done by the keyboard', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  // The focus of a new page starts at its content; a link skips the menu.
  await page.keyboard.press('Tab')
  expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe('Collapse Fleet')
  await page.getByRole('link', { name: 'Skip to content' }).focus()
  await page.keyboard.press('Enter')
  await page.keyboard.press('Tab')
  expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe('Collapse Fleet')
  await tab.go(`/devices/${lamp.uid}`)
  const relay = page.locator('[data-relay="3"]')
  await relay.getByRole('switch').focus()
  await page.keyboard.press('Space')
  await page.locator('[data-relay="3"][data-state="on"]').waitFor()
  expect(lamp.state[3]).toBe(true)
  tab.expectNoFaults()
  await tab.close()
})

test('the command palette opens pages and devices by a few letters', async () => {
  const tab = await Tab.open(browser, server.url)
  const { page } = tab
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  const field = page.getByRole('combobox', { name: 'Page or device' })
  const selected = page.locator('[role=option][aria-selected=true]')
  /** The option that the field names is the selected one, also for screen readers. */
  const isSelected = async (index: number) => {
    const id = await field.getAttribute('aria-activedescendant')
    return (await selected.count()) === 1 && id !== null && (await selected.getAttribute('id')) === id && (await page.getByRole('option').nth(index).getAttribute('id')) === id
  }
  // Escape gives the focus back.
  await page.getByRole('button', { name: 'Go to a page or device' }).focus()
  await page.keyboard.press('Control+k')
  await until('the first option is selected', () => isSelected(0))
  await until('the field has the focus', () => field.evaluate((input) => input === document.activeElement))
  await page.keyboard.press('ArrowDown')
  await until('the next one is selected', () => isSelected(1))
  await page.keyboard.press('ArrowUp')
  await page.keyboard.press('ArrowUp')
  await until('the last one is selected', () => isSelected(-1))
  await field.fill('no such thing')
  await page.getByRole('status').getByText('No results').waitFor()
  await page.keyboard.press('Escape')
  await field.waitFor({ state: 'detached' })
  await until('the focus is back', () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') === 'Go to a page or device'))
  await page.keyboard.press('Control+k')
  await field.fill('greenh')
  await page.getByRole('option', { name: /^Greenhouse/ }).waitFor()
  await page.waitForFunction(() => document.getAnimations().every((one) => one.playState !== 'running'))
  await tab.expectAccessible('go to')
  await tab.screenshot('palette')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Greenhouse' }).waitFor()
  await page.keyboard.press('Control+k')
  // The last device comes first.
  await page.getByRole('option', { name: /^Greenhouse.*last device/ }).waitFor()
  await page.keyboard.type('a')
  await page.getByRole('option', { name: /^Audit/ }).waitFor()
  await field.fill('audit')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Audit' }).waitFor()
  tab.expectNoFaults()
  await tab.close()
})

test('two tabs do not undo the preferences of each other', async () => {
  const first = await Tab.open(browser, server.url)
  await first.signIn(server.admin.email)
  const second = await Tab.in(first.context, server.url)
  await second.go('/overview')
  await first.go('/overview')
  await first.page.getByRole('button', { name: 'Collapse Fleet' }).click()
  await second.page.getByRole('button', { name: 'Expand Fleet' }).waitFor()
  await second.page.getByRole('button', { name: 'Collapse Latest events' }).click()
  await until('both are saved', async () => {
    const saved = await server.call<{ dashboard_settings: { collapsed?: Record<string, boolean> } | null }>('GET', '/api/v1/preferences', server.admin.token)
    return saved.dashboard_settings?.collapsed?.['overview.fleet'] === true && saved.dashboard_settings.collapsed['overview.audit'] === true
  })
  await server.call('PUT', '/api/v1/preferences', server.admin.token, { dashboard_settings: null })
  first.expectNoFaults()
  second.expectNoFaults()
  await first.close()
})

test('a card stays collapsed and moved, in another browser as well', async () => {
  const tab = await Tab.open(browser, server.url)
  await tab.signIn(server.admin.email)
  await tab.go('/overview')
  await tab.page.getByRole('button', { name: 'Collapse Plugins and server' }).click()
  await tab.page.getByRole('button', { name: 'Move Latest events up' }).click()
  await until('it is saved', async () => {
    const saved = await server.call<{ dashboard_settings: { collapsed?: Record<string, boolean> } | null; dashboard_layout: { order?: { overview?: string[] } } | null }>('GET', '/api/v1/preferences', server.admin.token)
    return saved.dashboard_settings?.collapsed?.['overview.plugins'] === true && saved.dashboard_layout?.order?.overview?.indexOf('audit') === 2
  })
  const other = await Tab.open(browser, server.url)
  await other.signIn(server.admin.email)
  await other.go('/overview')
  await other.page.getByRole('button', { name: 'Expand Plugins and server' }).waitFor()
  const order = await other.page.locator('[data-card^="overview."]').evaluateAll((cards) => cards.map((c) => c.getAttribute('data-card')))
  expect(order.indexOf('overview.audit')).toBe(2)
  await server.call('PUT', '/api/v1/preferences', server.admin.token, { dashboard_settings: null, dashboard_layout: null })
  for (const each of [tab, other]) {
    each.expectNoFaults()
    await each.close()
  }
})
